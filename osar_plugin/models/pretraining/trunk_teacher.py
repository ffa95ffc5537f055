"""A backbone of this package as teacher of the optical side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from ...registry import MODELS
from ...utils.config_values import Buildable, require_range
from ...utils.errors import ConfigError
from ..backbones.pretrained import load_backbone
from ..backbones.trunk import HierarchicalTrunk
from .teachers import (
    Standardize,
    Teacher,
    normalized_features,
    warn_of_random_weights,
)


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
            warn_of_random_weights()
        else:
            load_backbone(self.trunk, checkpoint)
        self.dim = int(self.trunk.embed_dim)
        self.standardize = Standardize(mean, std)

    def forward(self, inputs: Mapping[str, Tensor]) -> Tensor:
        """Normalised tokens (B, L, D) float32 of ``inputs['rgb01']``.

        Raises:
            DataFormatError: If the batch does not have it.
        """
        images = self.standardize(inputs)
        output = self.trunk.trunk(
            self.trunk.embed(images, 'rgb'), self.trunk.grid_of(images))
        return normalized_features(output.tokens)
