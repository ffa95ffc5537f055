"""Frozen encoders: from images on disk to the features of a checkpoint.

    encoder = FrozenEncoder('configs/codemae_ospretrain.py', 'codemae.pth')
    features = describe_scenes(encoder, scenes, 'rgb', statistics)

Works for the models of ``osar_plugin.models.pretraining`` and of their
checkpoints, the authors' or ours. Without a checkpoint the encoder is
untrained: what a trained one has to beat.

Legend: B images of a batch, N of a list, L tokens of an image, D channels, S
side of the model's input in pixels.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.config import Config
from mmengine.device import get_device
from mmengine.logging import MMLogger
from rich.console import Console
from rich.progress import track
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from ..datasets.pair_base import PretrainPairs
from ..datasets.pair_statistics import SourceStatistics
from ..datasets.probe_layouts import read_bands
from ..datasets.transforms.pretrain_pairs import (
    Box,
    as_optical,
    as_sar,
    crop_resized,
    decode_8bit,
)
from ..evaluation.linear_probe import pool_tokens
from ..models.backbones.hierarchical import UNIT
from ..models.backbones.trunk import HierarchicalTrunk
from ..registry import DATASETS, MODELS
from ..utils.checkpoint import LoadReport, load_checkpoint
from ..utils.config import load_config
from ..utils.config_values import require_range
from ..utils.devices import half_precision
from ..utils.errors import (
    CheckpointError,
    CheckpointMismatchError,
    ConfigError,
    DatasetNotFoundError,
)

SENSORS = {'optical': 'rgb', 'sar': 'sar'}
"""Names of the sensors for people, and those of the models."""
_MODALITIES = {sensor: name for name, sensor in SENSORS.items()}


class FrozenEncoder:
    """The trunk of a pre-trained model, in evaluation.

    Args:
        config: Path of a config with a model of pre-training, or a config.
        checkpoint: Its weights; None for an untrained model.
        device: By default what MMEngine finds.
        seed: Of the weights of an untrained model.
        amp: ``'auto'``: half precision where the device has it, ``True``,
            or ``False``: float32.

    Attributes:
        model: The whole model.
        cfg: The config.
        report: What the checkpoint filled; None without one.

    Raises:
        ConfigError: If the config has no such model.
        CheckpointError: If the weights cannot be used.
    """

    def __init__(self, config: str | Path | Config,
                 checkpoint: str | Path | None, device: str | None = None,
                 seed: int = 0, amp: bool | str = False) -> None:
        self.cfg = (config if isinstance(config, Config)
                    else load_config(config))
        self.device = torch.device(device or get_device())
        self.dtype = half_precision(amp, self.device)
        self.report: LoadReport | None = None
        # The global generators stay where they are. Layers draw weights when
        # they are made; what init_weights leaves to them is seeded, too.
        with torch.random.fork_rng(range(torch.cuda.device_count())):
            torch.manual_seed(seed)
            self.model = _build(self.cfg)
            if checkpoint is None:
                _initialise(self.model)
        if checkpoint is not None:
            self.report = _fill(self.model, str(checkpoint))
        self.model.to(self.device).eval().requires_grad_(False)

    @property
    def side(self) -> int:
        """S that the model was made for."""
        return int(self.model.backbone.side) * UNIT

    @torch.inference_mode()
    def tokens(self, images: Tensor, sensor: str) -> Tensor:
        """Trunk tokens (B, L, D) float32 of normalised images.

        Args:
            images: (B, 3, H, W), on any device.
            sensor: ``'rgb'`` or ``'sar'``.
        """
        backbone = self.model.backbone
        images = images.to(self.device)
        with torch.autocast(
                self.device.type, self.dtype or torch.bfloat16,
                enabled=self.dtype is not None):
            return backbone.trunk(
                backbone.embed(images, sensor), backbone.grid_of(images)
            ).tokens.float()


def _build(cfg: Config) -> Any:
    """The model without its teacher."""
    node = dict(cfg.get('model') or {})
    if not isinstance(node.get('backbone'), dict):
        raise ConfigError(
            f'{cfg.filename}: expected a model of pre-training with a '
            'backbone, such as osar_plugin.CoDeMAE.')
    # Nobody listens to a teacher here, and it may be large.
    for name in ('teacher', 'distillation'):
        if name in node:
            node[name] = None
    node['init_cfg'] = None
    model = MODELS.build(node)
    if not isinstance(getattr(model, 'backbone', None), HierarchicalTrunk):
        raise ConfigError(
            f'{cfg.filename}: the model {type(model).__name__} has no '
            'osar_plugin.HiViT or osar_plugin.ITPN as backbone.')
    return model


def _initialise(model: Any) -> None:
    """Draw weights."""
    logger = MMLogger.get_current_instance()
    level = logger.level
    # MMEngine tells of every single parameter.
    logger.setLevel(logging.WARNING)
    try:
        model.init_weights()
    finally:
        logger.setLevel(level)


def _fill(model: Any, path: str) -> LoadReport:
    """Load a checkpoint, which must hold the whole backbone.

    Raises:
        CheckpointError: If it cannot be used, or a weight is not finite.
    """
    report = load_checkpoint(model, path)
    missing = [key for key in report.missing if key.startswith('backbone.')]
    if missing:
        raise CheckpointMismatchError(
            f'{path}: {len(missing)} tensors of the backbone are missing, '
            f'e.g. {missing[0]}. Use a checkpoint of this config.')
    bad = [key for key, value in model.state_dict().items()
           if value.is_floating_point() and not torch.isfinite(value).all()]
    if bad:
        raise CheckpointError(
            f'{path}: {len(bad)} tensors hold NaN or infinity, e.g. '
            f'{bad[0]}: the training went wrong before it was saved. Use an '
            'earlier checkpoint.')
    return report


class SceneImages(Dataset):
    """Whole images, scaled to the input of a model with cubic interpolation.

    Args:
        paths: Files; arrays of bands (``.npy``) are read as
            :func:`~osar_plugin.datasets.probe_layouts.read_bands` does.
        sensor: ``'rgb'`` or ``'sar'``.
        side: S.

    A sample is (3 or 1, S, S) uint8.
    """

    def __init__(self, paths: Sequence[str], sensor: str, side: int) -> None:
        self.paths, self.sensor, self.side = list(paths), sensor, side

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> Tensor:
        path = self.paths[index]
        if path.endswith('.npy'):
            image = read_bands(path, _MODALITIES[self.sensor])
        else:
            image = decode_8bit(_read(path), path)
            image = (as_optical(image) if self.sensor == 'rgb'
                     else as_sar(image, path)[:, :, None])
        image = crop_resized(
            image, Box(0, 0, *image.shape[:2]), (self.side, self.side),
            False).reshape(self.side, self.side, -1)
        return torch.from_numpy(np.ascontiguousarray(
            image.transpose(2, 0, 1)))


def _read(path: str) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise DatasetNotFoundError(
            f'{path}: cannot be read ({error.strerror}). Restore the image, '
            'or take it off its list.') from error


def describe_scenes(
        encoder: FrozenEncoder, paths: Sequence[str], sensor: str,
        statistics: SourceStatistics, batch_size: int = 64, workers: int = 0,
        side: int | None = None) -> Tensor:
    """Features of images of one sensor.

    Args:
        encoder: The encoder.
        paths: N image files, 8 bit.
        sensor: ``'rgb'`` or ``'sar'``.
        statistics: Mean and deviation to normalise with.
        batch_size: Images at once.
        workers: Processes that read images.
        side: S; by default that of the encoder.

    Returns:
        (N, D) float32 on the CPU, see
        :func:`~osar_plugin.evaluation.linear_probe.pool_tokens`.

    Raises:
        DatasetNotFoundError: If there is no image.
    """
    require_range(1, batch_size=batch_size)
    require_range(0, 1024, workers=workers)
    if not paths:
        raise DatasetNotFoundError('There is no image to describe.')
    mean, std = (
        torch.tensor(values).view(-1, 1, 1) for values in (
            getattr(statistics, f'{sensor}_{kind}')
            for kind in ('mean', 'std')))
    loader = DataLoader(
        SceneImages(paths, sensor, side or encoder.side), batch_size,
        num_workers=workers)
    out = []
    for batch in _progress(loader, f'{sensor}: encoding'):
        images = ((batch.float() / 255 - mean) / std).expand(-1, 3, -1, -1)
        out.append(pool_tokens(encoder.tokens(images, sensor)).cpu())
    return torch.cat(out)


def pairs_of(cfg: Config, side: int, data_root: str | None = None,
             options: dict[str, Any] | None = None) -> PretrainPairs:
    """The pairs of a config's training, whole and without augmentation.

    Args:
        cfg: With a data set of pairs in ``train_dataloader``.
        side: S, see :class:`FrozenEncoder`.
        data_root: In place of its own.
        options: Further arguments of the data set, in place of its own.

    Raises:
        ConfigError: If there is no such data set.
        DatasetNotFoundError: If it is empty.
    """
    node = (cfg.get('train_dataloader') or {}).get('dataset')
    if not isinstance(node, dict):
        raise ConfigError(
            f'{cfg.filename}: train_dataloader.dataset is missing; a data '
            'set of pairs is needed.')
    node = dict(node, teacher_features=None, **(options or {}))
    if data_root is not None:
        node['data_root'] = data_root
    node['pipeline'] = [
        dict(type='osar_plugin.LoadPair'),
        dict(type='osar_plugin.PairResize', size=side),
        dict(type='osar_plugin.PackPretrainInputs')]
    dataset = DATASETS.build(node)
    if not isinstance(dataset, PretrainPairs):
        raise ConfigError(
            f'{cfg.filename}: train_dataloader.dataset is a '
            f'{type(dataset).__name__}; osar_plugin.OSPretrain or '
            'osar_plugin.SEN12 is needed.')
    return dataset


def _progress(items: Any, text: str) -> Iterator[Any]:
    """Iterate with a bar on stderr, where that is a terminal."""
    return iter(track(
        items, text, total=len(items), console=Console(stderr=True),
        disable=not sys.stderr.isatty(), transient=True))
