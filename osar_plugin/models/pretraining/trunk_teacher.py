"""A backbone of this package as teacher of the optical side."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from mmengine.logging import print_log
from torch import Tensor

from ...registry import MODELS
from ...utils.config_values import Buildable, require_range
from ...utils.errors import ConfigError, DataFormatError
from ..backbones.pretrained import load_backbone
from ..backbones.trunk import HierarchicalTrunk
from .teachers import Teacher, normalized_features


@MODELS.register_module()
class TrunkTeacher(Teacher):
    """A frozen HiViT or iTPN that was trained before.

    For data that no published teacher knows, and for ablations without one:
    train ``HiViTMAE`` on the optical side first.

    Args:
        backbone: Config of a HiViT or an iTPN.
        checkpoint: A file with its weights, of any layout that the backbone
            reads; ``'random'`` leaves the initial ones, from which nothing
            can be learned.
        mean: Of the images on the scale 0..1, as it was trained with.
        std: Likewise.

    Raises:
        ConfigError: If the backbone is none of these.
        CheckpointError: If the file cannot be used.
    """

    def __init__(self, backbone: Buildable, checkpoint: str,
                 mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        require_range(0, without=(0, ), std=tuple(std))
        self.trunk: Any = MODELS.build(backbone)
        if not isinstance(self.trunk, HierarchicalTrunk):
            raise ConfigError(
                f'teacher.backbone is a {type(self.trunk).__name__}, '
                'expected an osar_plugin.HiViT or osar_plugin.ITPN.')
        if checkpoint == 'random':
            self.trunk.init_weights()
            print_log('The teacher has random weights: nothing can be '
                      'learned from it.', 'current', logging.WARNING)
        else:
            load_backbone(self.trunk, checkpoint)
        self.dim = int(self.trunk.embed_dim)
        for key, value in (('mean', mean), ('std', std)):
            self.register_buffer(key, torch.tensor(value).view(-1, 1, 1))

    def forward(self, inputs: Mapping[str, Tensor]) -> Tensor:
        """Normalised tokens (B, L, D) float32 of ``inputs['rgb01']``.

        Raises:
            DataFormatError: If the batch does not have it.
        """
        images = inputs.get('rgb01')
        if images is None:
            raise DataFormatError(
                f'inputs has {sorted(inputs)}, but no rgb01: use '
                'osar_plugin.PairPretrainPreprocessor.')
        mean: Any = self.mean
        std: Any = self.std
        images = (images - mean) / std
        output = self.trunk.trunk(
            self.trunk.embed(images, 'rgb'), self.trunk.grid_of(images))
        return normalized_features(output.tokens)
