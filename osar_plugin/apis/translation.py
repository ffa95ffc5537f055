"""SAR-like views of optical images.

    inferencer = OpticalToSARInferencer(
        'configs/bbdm_hoss.py', 'bbdm_hoss.pth', preset='fast')
    for result in inferencer('chips/'):
        result.views, result.mean, result.spread  # (K, H, W), (H, W), (H, W)

A translator has one image size. Images of any other size are resized to it
and the views are resized back, both with bilinear filters that average where
they shrink. For scenes much larger than the network, ``tile=True`` goes over
them in windows instead, pixel for pixel, and blends the windows' overlaps.

Legend: B images of a batch, K views of each, H W height and width in pixels.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import logging
import math
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from mmengine.config import Config
from mmengine.device import get_device
from mmengine.logging import print_log
from rich.console import Console
from rich.progress import track
from torch import Tensor, nn

from ..datasets.transforms import (
    LoadOpticalOrSAR,
    PairPipeline,
    PillowResize,
    SARToUint8,
)
from ..io import read_optical
from ..models.translation import SamplerSettings
from ..models.translation.official import load_translator
from ..models.translation.sampling import view_seeds
from ..models.translation.translator import to_uint8
from ..registry import INFERENCERS, MODELS, TRANSFORMS
from ..utils.checkpoint import sha256_of
from ..utils.config import load_config
from ..utils.devices import half_precision
from ..utils.errors import ConfigError, DataFormatError, OSARError
from ..utils.names import did_you_mean, nearest
from ..utils.work_dir import checkpoint_file
from .reid import SAR, list_chips, modality_from_name

PRESETS: dict[str, dict[str, Any]] = {
    'official': dict(steps=200, spacing='linear', eta=1.),
    'fast': dict(steps=20, spacing='linear', eta=1.),
}
"""Sampler settings by name. ``official``: as published. ``fast``: the fewest
steps whose structural score stays within 2 % of the official; see
tools/benchmark/translation.py --quality."""

OVERLAP = 1 / 4
"""Share of a window that its neighbour covers at least, in tile mode."""

_LARGE = 4
"""Images so many times larger than the network lose what makes them sharp;
a warning names the tile mode."""

Item = str | Path | np.ndarray


@dataclass(frozen=True)
class Translation:
    """What became of an optical image.

    Attributes:
        path: The file, or a made-up name for pixels without one.
        optical: (H, W, 3) uint8 RGB, as read.
        views: (K, H, W) uint8.
    """

    path: str
    optical: np.ndarray
    views: np.ndarray

    @property
    def mean(self) -> np.ndarray:
        """Mean of the views, (H, W) float32, 0..255."""
        return self.views.mean(0, dtype=np.float32)

    @property
    def spread(self) -> np.ndarray:
        """Standard deviation over the views, (H, W) float32 grey levels.

        Of one view it is 0 everywhere.
        """
        return self.views.std(0, dtype=np.float32)


@INFERENCERS.register_module()
class OpticalToSARInferencer:
    """Optical images in, SAR-like views out.

    Weights are read without unpickling. Views are a function of the image,
    the weights and the settings: neither batch size nor order changes them
    beyond rounding.

    On a CPU with bfloat16 instructions and on GPUs the networks run in half
    precision, as ``amp='auto'`` decides, their weights in the memory order
    that convolutions prefer; the bridge itself stays in float32. bfloat16
    keeps 8 bits of a number: views differ from those in float32 by 1 to 3
    grey levels on average, which is a small part of what two views of an
    image differ by.

    Args:
        config: Path of a translator's config file, or a config.
        checkpoint: Weights, of this package or of BBDM; or the work dir of
            a training.
        device: Where to run; by default what MMEngine finds.
        amp: ``'auto'``, ``True`` or ``False``.
        preset: A name of :data:`PRESETS`; ``None`` for the settings of the
            config.
        show_progress: Show a progress bar on stderr; by default only if
            that is a terminal.
        **sampler: Fields of :class:`SamplerSettings` (views, steps, eta,
            ...), over preset and config.

    Raises:
        ConfigError: If the config or a setting cannot be used.
        CheckpointError: If the weights cannot be used.
    """

    def __init__(
            self, config: str | Path | Config | dict,
            checkpoint: str | Path, device: str | None = None,
            amp: bool | str = 'auto', preset: str | None = None,
            show_progress: bool | None = None, **sampler: Any) -> None:
        self.cfg = _read_config(config)
        self.device = torch.device(device or get_device())
        self.dtype = half_precision(amp, self.device)
        self.transforms = image_transforms(self.cfg)
        weights = _weights(checkpoint)
        self.model = _build(self.cfg, weights)
        self.settings = sampler_settings(
            self.model.sampler, preset, **sampler)
        # Refuses a number of steps that the schedule does not have.
        self.model.steps(self.settings)
        prepare_for_inference(self.model, self.device, self.dtype)
        self.show_progress = (
            sys.stderr.isatty() if show_progress is None else show_progress)
        self._weights = sha256_of(weights)

    @property
    def size(self) -> tuple[int, int]:
        """(H, W) of the network's images."""
        size: tuple[int, int] = self.transforms[-1].size
        return size

    def __call__(self, inputs: Any, batch_size: int = 8,
                 modality: str = 'auto', tile: bool = False,
                 keep_size: bool = True) -> list[Translation]:
        """Translate images.

        Args:
            inputs: A file, a folder (with its sub-folders; files named
                ``..._SAR`` are passed over), an array (H, W, 3) uint8 RGB,
                or a list in which these are mixed.
            batch_size: Images that go through the network at once, each
                with all its views.
            modality: ``'auto'`` refuses what looks like SAR: a name ending
                in ``_SAR``, and, unless the name ends in ``_RGB``, a grey
                image. ``'optical'`` takes everything.
            tile: Go over images that are larger than the network in
                windows; see the module.
            keep_size: Resize the views to the image; otherwise they are of
                :attr:`size`, as the network makes them.

        Returns:
            One result for each image.

        Raises:
            ConfigError: If an argument cannot be used.
            OSARError: If an image cannot be used; the message names it.
        """
        items = list_inputs(inputs)
        results = self.stream(
            items, batch_size, modality, tile, keep_size)
        shown = track(
            results, 'Translating', len(items),
            disable=not self.show_progress, console=Console(stderr=True))
        return [result for _, result in shown]

    def stream(
            self, items: Sequence[Item], batch_size: int = 8,
            modality: str = 'auto', tile: bool = False,
            keep_size: bool = True,
            on_error: Callable[[int, OSARError], None] | None = None
    ) -> Iterator[tuple[int, Translation]]:
        """Translate images one batch after the other.

        Args:
            items: Files and arrays.
            batch_size: See :meth:`__call__`, as the following.
            modality: See there.
            tile: See there.
            keep_size: See there.
            on_error: Called with the position and the error of an image
                that cannot be used; it may raise. Without it the error is
                raised.

        Yields:
            The position in ``items``, and the result.
        """
        if batch_size < 1:
            raise ConfigError(f'batch_size={batch_size}: expected 1 or more.')
        if modality not in ('auto', 'optical'):
            raise ConfigError(
                f"modality={modality!r} is not known: use 'auto' or "
                "'optical'.")
        waiting: list[tuple[int, str, np.ndarray]] = []
        for row, item in enumerate(items):
            try:
                name, image = _read(item, row, modality)
            except OSARError as error:
                if on_error is None:
                    raise
                on_error(row, error)
                continue
            if tile and self._exceeds(image):
                yield row, Translation(
                    name, image, self._tiled(image, batch_size))
                continue
            self._warn_if_large(image, name)
            waiting.append((row, name, image))
            if len(waiting) == batch_size:
                yield from self._batch(waiting, keep_size)
                waiting = []
        if waiting:
            yield from self._batch(waiting, keep_size)

    def fingerprint(self, tile: bool = False) -> str:
        """A name for everything that a view depends on but the image.

        The number of views is not part of it: more views leave the first
        ones as they are.

        Args:
            tile: As images are to be translated.

        Returns:
            64 hexadecimal digits.
        """
        model = {k: v for k, v in self.cfg.model.items() if k != 'init_cfg'}
        settings = dataclasses.asdict(self.settings)
        for key in ('views', 'max_items'):
            settings.pop(key)
        described = dict(
            weights=self._weights, model=model, settings=settings,
            transforms=[repr(t) for t in self.transforms],
            precision=str(self.dtype), tile=OVERLAP if tile else None)
        text = json.dumps(described, sort_keys=True, default=repr)
        return hashlib.sha256(text.encode()).hexdigest()

    # -------------------------------------------------------------- pieces

    def translate(self, images: Sequence[np.ndarray],
                  salts: Sequence[int] | None = None) -> Tensor:
        """Views of images that have the network's size.

        Args:
            images: B of (H, W, 3) uint8.
            salts: B numbers; images of the same content and salt have the
                same views. By default that of the settings.

        Returns:
            (B, K, H, W) float32, about -1..1, on the host.
        """
        tensors = [torch.from_numpy(np.ascontiguousarray(x)).permute(2, 0, 1)
                   for x in images]
        data = self.model.data_preprocessor(
            dict(inputs=dict(optical=tensors)))
        optical = data['inputs']['optical']
        k = self.settings.views
        # From the host's copy: one transfer to the device is enough.
        seeds = [
            view_seeds(x.float() / 127.5 - 1, k, salt)
            for x, salt in zip(
                tensors, salts or [self.settings.salt] * len(tensors),
                strict=True)]
        with torch.inference_mode(), torch.autocast(
                self.device.type, self.dtype or torch.bfloat16,
                enabled=self.dtype is not None):
            views = self.model.translate(optical, seeds, self.settings)
        return views.float().mean(2).cpu()

    def _batch(self, waiting: list[tuple[int, str, np.ndarray]],
               keep_size: bool) -> Iterator[tuple[int, Translation]]:
        """Translate images as a whole."""
        resize = self.transforms[-1]
        views = self.translate([
            resize(dict(img=image))['img'] for _, _, image in waiting])
        for (row, name, image), own in zip(waiting, views, strict=True):
            if keep_size and own.shape[1:] != image.shape[:2]:
                own = F.interpolate(
                    own[None], image.shape[:2], mode='bilinear',
                    antialias=True, align_corners=False)[0]
            yield row, Translation(name, image, to_uint8(own).numpy())

    def _exceeds(self, image: np.ndarray) -> bool:
        """Whether an image is larger than the network on any side."""
        return (image.shape[0] > self.size[0]
                or image.shape[1] > self.size[1])

    def _warn_if_large(self, image: np.ndarray, name: str) -> None:
        most = max(have / own for have, own in zip(
            image.shape, self.size, strict=False))
        if most > _LARGE:
            print_log(
                f'{name}: {image.shape[0]} x {image.shape[1]} pixels are '
                f'shrunk to the {self.size[0]} x {self.size[1]} of the '
                'network, and the views are enlarged again. To go over the '
                'image in windows, give tile=True (tools/translate.py '
                '--tile).', 'current', logging.WARNING)

    def _tiled(self, image: np.ndarray, batch_size: int) -> np.ndarray:
        """Views (K, H, W) of a large image, window by window.

        Each window has speckle of its own, also where its ground is the
        same as elsewhere. Where windows overlap, speckle is averaged and
        therefore a little weaker.
        """
        height, width = self.size
        # A side that is shorter than the network is continued in a mirror.
        pad = [max(0, own - have) for own, have in zip(
            self.size, image.shape, strict=False)]
        padded = np.pad(
            image, ((0, pad[0]), (0, pad[1]), (0, 0)), 'symmetric')
        rows, row_weights = windows(padded.shape[0], height)
        columns, column_weights = windows(padded.shape[1], width)
        places = [(i, j) for i in range(len(rows))
                  for j in range(len(columns))]
        blended = torch.zeros(self.settings.views, *padded.shape[:2])
        for start in range(0, len(places), batch_size):
            part = places[start:start + batch_size]
            views = self.translate(
                [padded[rows[i]:rows[i] + height,
                        columns[j]:columns[j] + width] for i, j in part],
                [_salt(self.settings.salt, rows[i], columns[j])
                 for i, j in part])
            for (i, j), own in zip(part, views, strict=True):
                weight = row_weights[i][:, None] * column_weights[j]
                blended[:, rows[i]:rows[i] + height,
                        columns[j]:columns[j] + width] += own * weight
        blended = blended[:, :image.shape[0], :image.shape[1]]
        return to_uint8(blended).numpy()


# ----------------------------------------------------------------- settings


def sampler_settings(base: SamplerSettings, preset: str | None = None,
                     **changes: Any) -> SamplerSettings:
    """Settings of a config, a preset over them, and changes over both.

    Args:
        base: Of the config.
        preset: A name of :data:`PRESETS`, or ``None``.
        **changes: Fields of :class:`SamplerSettings`.

    Raises:
        ConfigError: If a name is not known or a value is out of range.
    """
    if preset is not None and preset not in PRESETS:
        raise ConfigError(
            f'preset={preset!r} is not known: use one of '
            f'{", ".join(PRESETS)}, or None for the config\'s settings.')
    names = [f.name for f in dataclasses.fields(SamplerSettings)]
    for name in changes:
        if name not in names:
            raise ConfigError(
                f'{name!r} is no setting of the sampler; there are '
                f'{", ".join(names)}.{did_you_mean(nearest(name, names))}')
    chosen = PRESETS[preset] if preset else {}
    return dataclasses.replace(base, **{**chosen, **changes})


def prepare_for_inference(model: Any, device: torch.device,
                          dtype: torch.dtype | None) -> None:
    """Make a translator as fast as it gets, in place.

    Nine tenths of the time are convolutions. Those of the networks get
    their weights in the order height, width, channels and, for half
    precision, in that type once and for all: autocast would convert 237
    million numbers at each step. Norms stay in float32. The model must then
    run under autocast with that type.

    Args:
        model: A :class:`~osar_plugin.models.translation.
            BrownianBridgeTranslator`.
        device: Where it will run.
        dtype: See :func:`half_precision`.
    """
    model.to(device).eval().requires_grad_(False)
    for network in (model.denoiser, model.codec):
        if network is None:
            continue
        network.to(memory_format=torch.channels_last)
        if hasattr(network, 'channels_last'):
            network.channels_last = True
        if dtype is None:
            continue
        for module in network.modules():
            if isinstance(module, (nn.Conv2d, nn.Linear)):
                module.to(dtype)


def image_transforms(cfg: Config) -> list[Any]:
    """How a config reads an image and brings it to the network's size.

    Args:
        cfg: Its test data set's pipeline counts, or else its training
            data set's; of that the parts without chance.

    Returns:
        LoadOpticalOrSAR, SARToUint8 (where there is one) and PillowResize.

    Raises:
        ConfigError: If there is no reader or no size.
    """
    loader = cfg.get('test_dataloader') or cfg.get('train_dataloader') or {}
    dataset = loader.get('dataset') or {}
    while 'pipeline' not in dataset and 'dataset' in dataset:
        dataset = dataset['dataset']
    found: list[Any] = []
    for entry in dataset.get('pipeline') or ():
        transform = TRANSFORMS.build(entry)
        found += (transform.transforms.transforms if isinstance(
            transform, PairPipeline) else [transform])
    chosen = [
        next((t for t in found if isinstance(t, kind)), None)
        for kind in (LoadOpticalOrSAR, SARToUint8, PillowResize)]
    if chosen[0] is None or chosen[2] is None:
        raise ConfigError(
            'The config does not say how images come to the network: the '
            'pipeline of its test or training data set needs '
            'osar_plugin.LoadOpticalOrSAR and osar_plugin.PillowResize, as '
            'in configs/bbdm_hoss.py.')
    return [t for t in chosen if t is not None]


# ------------------------------------------------------------------- inputs


def list_inputs(inputs: Any) -> list[Item]:
    """Files and arrays, folders replaced by their optical images.

    Raises:
        DatasetNotFoundError: If a folder has no image.
        DataFormatError: If something is no image, or nothing is left.
    """
    if not isinstance(inputs, (list, tuple)):
        inputs = [inputs]
    items: list[Item] = []
    for item in inputs:
        if isinstance(item, np.ndarray):
            items.append(item)
        elif not isinstance(item, (str, Path)):
            raise DataFormatError(
                'Images are given as files, folders or numpy arrays, not as '
                f'{type(item).__name__}.')
        elif Path(item).is_dir():
            found = list_chips(item)
            optical = [x for x in found if modality_from_name(x) != SAR]
            items += optical
            if len(optical) < len(found):
                print_log(
                    f'{item}: {len(found) - len(optical)} files named '
                    '..._SAR are passed over.', 'current')
        else:
            items.append(item)
    if not items:
        raise DataFormatError(
            'There is no optical image to translate: the list is empty, or '
            'all names end in _SAR.')
    return items


def _read_config(config: Any) -> Config:
    if isinstance(config, (str, Path)):
        config = load_config(config)
    elif isinstance(config, dict) and not isinstance(config, Config):
        config = Config(config)
    if not isinstance(config, Config) or config.get('model') is None:
        raise ConfigError(
            "Give the translator's config, a file such as "
            'configs/bbdm_hoss.py: the copy inside a checkpoint is not used, '
            'because a config is a program.')
    return config


def _weights(checkpoint: str | Path) -> Path:
    """The file of the weights."""
    if checkpoint is None:
        raise ConfigError(
            'checkpoint is None: give the weights of a translator; one that '
            'is not trained makes noise.')
    return checkpoint_file(checkpoint)


def _build(cfg: Config, checkpoint: Path) -> Any:
    """The model with its weights."""
    model = MODELS.build(cfg.model)
    if not hasattr(model, 'translate') or not hasattr(model, 'sampler'):
        raise ConfigError(
            f'{type(model).__name__} translates nothing; give the config of '
            'a translator, e.g. configs/bbdm_hoss.py.')
    load_translator(model, checkpoint).require_complete()
    return model


def _read(item: Item, row: int,
          modality: str) -> tuple[str, np.ndarray]:
    """Name and pixels (H, W, 3) uint8 of an image, if it is optical."""
    if isinstance(item, np.ndarray):
        name, image = f'array {row}', item
        if image.ndim == 2 or image.shape[2:] == (1, ):
            image = np.repeat(image.reshape(*image.shape[:2], 1), 3, axis=2)
        if image.ndim != 3 or image.shape[2] != 3 or (
                image.dtype != np.uint8 or not image.size):
            raise DataFormatError(
                f'Array {row} is {item.dtype} of shape {item.shape}; '
                '(H, W, 3) uint8 RGB is expected. Scale it to 8 bit first.')
        known = None
    else:
        name, known = str(item), modality_from_name(item)
        if known != SAR or modality == 'optical':
            image = read_optical(item)
    if modality == 'auto' and (known == SAR or (
            known is None and (image == image[:, :, :1]).all())):
        why = 'by its name' if known == SAR else 'by its one channel'
        raise DataFormatError(
            f'{name} is a SAR image {why}; the translator starts from '
            'optical ones. If it is optical, or grey on purpose, give '
            "modality='optical' (tools/translate.py --modality optical).")
    return name, image


# -------------------------------------------------------------------- tiles


def windows(length: int, size: int) -> tuple[list[int], list[Tensor]]:
    """Windows that cover a side, and how they are blended.

    Args:
        length: Of the side, at least ``size``.
        size: Of a window.

    Returns:
        First pixels of the windows, and (size,) weights of each. At every
        pixel the weights of all windows add up to 1.
    """
    least = round(size * OVERLAP)
    count = 1 + math.ceil((length - size) / max(size - least, 1))
    starts = np.linspace(0, length - size, count).round().astype(int)
    place = torch.arange(size)
    ramp = torch.minimum(place + 1, size - place).clamp(
        max=least + 1).float()
    total = torch.zeros(length)
    for start in starts:
        total[start:start + size] += ramp
    return starts.tolist(), [
        ramp / total[start:start + size] for start in starts]


def _salt(salt: int, row: int, column: int) -> int:
    """A number for the window at a place."""
    text = f'{salt} {row} {column}'.encode()
    return int.from_bytes(hashlib.sha256(text).digest()[:8], 'big')
