"""Describe ship chips and search galleries of them.

    inferencer = ShipReIDInferencer('configs/sdfnet_hoss.py', 'sdfnet.pth')
    features = inferencer('chips/')['predictions']
    answers = inferencer.search('0002_s01c1_RGB.tif', 'chips/', topk=5)

How the modality of an image is told:

1. by the argument: ``'optical'``, ``'sar'``, 0 or 1, for all or for each;
2. a file by its name: the last part between underscores, ``_RGB`` or
   ``_SAR`` in either case;
3. a file by its channels: one, or three equal ones, is SAR; three that
   differ are optical. Grey optical files and false-colour SAR need the
   argument;
4. an array by its shape: (H, W) or (H, W, 1) is SAR; (H, W, 3) uint8 is
   optical. Anything else needs the argument.

Legend: B batch, N images, D channels, H W height and width in pixels.
"""

from __future__ import annotations

import copy
import hashlib
import json
import logging
import math
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.config import Config
from mmengine.dataset import Compose
from mmengine.infer import BaseInferencer
from mmengine.logging import print_log
from rich.console import Console
from rich.progress import track
from torch import nn

from ..datasets.transforms import LoadOpticalOrSAR, ShipSize
from ..io import read_sar
from ..registry import INFERENCERS, MODELS
from ..structures import ReIDDataSample
from ..utils.checkpoint import load_checkpoint
from ..utils.config import load_config
from ..utils.errors import (
    ConfigError,
    DataFormatError,
    DatasetNotFoundError,
    OSARError,
)
from .search import (
    ChipInfo,
    DescribedChips,
    RankedList,
    identity_of,
    rank_gallery,
)

SUFFIXES = ('.tif', '.tiff', '.png', '.jpg', '.jpeg', '.bmp')
OPTICAL, SAR = 0, 1

_FLAGS = {'optical': OPTICAL, 'sar': SAR, OPTICAL: OPTICAL, SAR: SAR}
_TOKENS = {'RGB': OPTICAL, 'SAR': SAR}

Item = str | Path | np.ndarray


def list_chips(folder: str | Path) -> list[Path]:
    """Images of a folder and its sub-folders, in order of their paths.

    Hidden files and folders are left out, links to folders not followed.

    Raises:
        DatasetNotFoundError: If the folder is not there or has no image.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise DatasetNotFoundError(f'{folder}: no such folder.')
    found = []
    for root, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith('.')]
        found += [
            Path(root, name) for name in files
            if not name.startswith('.')
            and os.path.splitext(name)[1].lower() in SUFFIXES]
    if not found:
        raise DatasetNotFoundError(
            f'{folder}: no image in it or below it; files ending in '
            f'{", ".join(SUFFIXES)} are looked for.')
    return sorted(found, key=lambda path: path.relative_to(folder).parts)


def modality_from_name(path: str | Path) -> int | None:
    """0 for ``..._RGB``, 1 for ``..._SAR``, ``None`` for other names."""
    return _TOKENS.get(Path(path).stem.split('_')[-1].upper())


def modality_from_pixels(item: Item) -> int:
    """The modality by channels; see the rules of the module.

    Raises:
        ConfigError: If they do not tell it.
        OSARError: If the file cannot be read.
    """
    if not isinstance(item, np.ndarray):
        pixels = read_sar(item, nonfinite='zero')
        return SAR if pixels.ndim == 2 else OPTICAL
    if item.ndim == 2 or (item.ndim == 3 and item.shape[2] == 1):
        return SAR
    if item.ndim == 3 and item.shape[2] == 3 and item.dtype == np.uint8:
        return OPTICAL
    raise ConfigError(
        f'An array of {item.dtype} and shape {item.shape} may be either '
        "modality. Give modality='optical' or 'sar'.")


def check_modality(modality: Any) -> int | None:
    """0 or 1, or ``None`` for ``'auto'``.

    Raises:
        ConfigError: If it is something else.
    """
    if isinstance(modality, (bool, np.bool_)) or not isinstance(
            modality, (str, int, np.integer)):
        known = None
    else:
        known = _FLAGS.get(modality)
    if known is None and modality != 'auto':
        raise ConfigError(
            f"modality={modality!r} is not known: use 'auto', 'optical' (0) "
            "or 'sar' (1).")
    return known


def check_gsd(gsd: Any) -> tuple[float, float] | None:
    """Metres per pixel of optical and of SAR images, or ``None``.

    Args:
        gsd: One number for both, or two.

    Raises:
        ConfigError: If they are not finite and above 0.
    """
    if gsd is None:
        return None
    values = [gsd] if isinstance(gsd, (int, float)) else list(gsd)
    if len(values) not in (1, 2) or not all(
            isinstance(v, (int, float)) and math.isfinite(v) and v > 0
            for v in values):
        raise ConfigError(
            f'gsd={gsd!r}: expected metres per pixel, one number above 0, or '
            'two: of the optical and of the SAR images.')
    return float(values[0]), float(values[-1])


@INFERENCERS.register_module()
class ShipReIDInferencer(BaseInferencer):
    """Descriptors of ship chips, and search with them.

    Images go through the test pipeline of the config, so that a feature is
    the one that an evaluation would use.

    Weights are read without unpickling. The config is never taken from the
    checkpoint: a config is a program.

    Args:
        model: Path of a config file, or a config.
        weights: Checkpoint in any layout that the model accepts. Without
            it the model is untrained, which is logged as a warning.
        device: Where to run; by default what MMEngine finds.
        scope: Default scope of the registries.
        show_progress: Show a progress bar on stderr; by default only if
            that is a terminal.

    Raises:
        ConfigError: If the config cannot be used.
        CheckpointError: If the weights cannot be used.
    """

    preprocess_kwargs = {'modality', 'gsd'}

    def __init__(
            self, model: str | Path | Config | dict,
            weights: str | Path | None = None, device: str | None = None,
            scope: str = 'osar_plugin',
            show_progress: bool | None = None) -> None:
        if model is None:
            raise ConfigError(
                'model is None: give the config that the weights were '
                'trained with, e.g. configs/sdfnet_hoss.py. The copy inside '
                'a checkpoint is not used, because a config is a program.')
        if isinstance(model, (str, Path)):
            model = load_config(model)
        if model.get('model') is None:
            raise ConfigError('The config has no model.')
        if show_progress is None:
            show_progress = sys.stderr.isatty()
        super().__init__(
            model, None if weights is None else str(weights), device, scope,
            show_progress)

    # ------------------------------------------------------------- set up

    def _init_model(self, cfg: Config, weights: str | None,
                    device: str = 'cpu') -> nn.Module:
        """Build the model and load the weights, safely."""
        model = MODELS.build(cfg.model)
        if not callable(getattr(model, 'extract_feat', None)):
            raise ConfigError(
                f'{type(model).__name__} describes no single chips; give the '
                'config of a re-identification model.')
        if weights is None:
            model.init_weights()
            print_log(
                'No weights given: the model is as a training would start '
                'with it, and its answers mean nothing.', 'current',
                logging.WARNING)
        else:
            load_checkpoint(model, weights).require_complete()
        model.cfg = cfg
        return model.to(device).eval()

    def _init_pipeline(self, cfg: Config) -> Compose:
        """The test pipeline of the config."""
        dataset = (cfg.get('test_dataloader') or {}).get('dataset') or {}
        while 'pipeline' not in dataset and 'dataset' in dataset:
            dataset = dataset['dataset']
        pipeline = dataset.get('pipeline')
        if not pipeline:
            raise ConfigError(
                'The config has no test_dataloader.dataset.pipeline, which '
                'prepares the images.')
        return Compose(pipeline)

    def _init_visualizer(self, cfg: Config) -> None:
        """None: pictures are made by :mod:`osar_plugin.visualization`."""

    # ---------------------------------------------------------------- run

    def __call__(
            self, inputs: Any, return_datasamples: bool = False,
            batch_size: int = 32, **kwargs: Any) -> dict[str, Any]:
        """Describe images.

        Args:
            inputs: A file, a folder (with its sub-folders), an array, or a
                list in which these are mixed. Optical arrays are (H, W, 3)
                uint8 RGB; SAR arrays (H, W) of any real type, in their own
                range.
            return_datasamples: Give ``ReIDDataSample`` rather than dicts.
            batch_size: Images in one run of the model.
            modality: See the module; ``'auto'`` by default.
            gsd: Metres per pixel of the images, or two numbers for optical
                and SAR. By default those of the config, 0.75 and 1.0, which
                HOSS-ReID has; the ship-size vector scales with it.

        Returns:
            ``predictions``: for each image a dict of ``img_path``,
            ``modality`` (0 or 1), ``pid`` (None if the name does not tell),
            ``ori_shape`` (H, W) and ``feature``, (D,) float32, not
            normalised. ``visualization``: empty.

        Raises:
            ConfigError: If an argument cannot be used or a modality cannot
                be told.
            OSARError: If an image cannot be used; the message names it.
        """
        options, *_ = self._dispatch_kwargs(**kwargs)
        samples = self._describe(inputs, batch_size, **options)
        return self.postprocess(samples, [], return_datasamples)

    def encode(
            self, inputs: Any, modality: Any = 'auto', gsd: Any = None,
            batch_size: int = 32) -> DescribedChips:
        """Describe images, as what :func:`rank_gallery` takes.

        Arguments and errors as in :meth:`__call__`.
        """
        samples = self._describe(inputs, batch_size, modality, gsd)
        chips = [
            ChipInfo(
                s.metainfo['img_path'], s.modality, getattr(s, 'pid', None))
            for s in samples]
        return DescribedChips(
            chips, torch.stack([sample.feature for sample in samples]))

    def search(
            self, query: Any, gallery: Any, topk: int = 10,
            target: str = 'all', modality: Any = 'auto',
            gallery_modality: Any = 'auto', gsd: Any = None,
            batch_size: int = 32, exclude_self: bool = True,
            method: str = 'auto') -> list[RankedList]:
        """Find the ships of some images in others.

        Args:
            query: Anything that :meth:`__call__` takes, or
                :class:`DescribedChips`.
            gallery: The same; a ``GalleryIndex`` gives
                :class:`DescribedChips`.
            topk: Answers for each query.
            target: Modality to search: ``'sar'``, ``'optical'``, ``'all'``.
            modality: Of the queries.
            gallery_modality: Of the gallery.
            gsd: See :meth:`__call__`.
            batch_size: Images in one run of the model.
            exclude_self: See :func:`rank_gallery`.
            method: See :func:`~osar_plugin.apis.search.nearest`.

        Returns:
            One list for each query.
        """
        if not isinstance(gallery, DescribedChips):
            gallery = self.encode(gallery, gallery_modality, gsd, batch_size)
        if not isinstance(query, DescribedChips):
            query = self.encode(query, modality, gsd, batch_size)
        return rank_gallery(
            query, gallery, topk, target, exclude_self, method)

    def batches(
            self, items: Sequence[Item], modality: Sequence[int],
            gsd: Any = None, batch_size: int = 32,
            on_error: Callable[[int, OSARError], None] | None = None
    ) -> Iterator[tuple[list[int], list[ReIDDataSample]]]:
        """Describe images batch by batch.

        Args:
            items: Files and arrays.
            modality: 0 or 1 of each.
            gsd: See :meth:`__call__`.
            batch_size: Images in one run of the model.
            on_error: Called with the position and the error of an image
                that cannot be used; it may raise. Without it the error is
                raised.

        Yields:
            Positions in ``items``, and the samples with ``feature``.
        """
        if batch_size < 1:
            raise ConfigError(f'batch_size={batch_size}: expected 1 or more.')
        transforms = self._transforms(check_gsd(gsd))
        rows: list[int] = []
        data: list[dict[str, Any]] = []
        for row, (item, kind) in enumerate(zip(items, modality, strict=True)):
            try:
                data.append(_run_pipeline(transforms, item, kind, row))
                rows.append(row)
            except OSARError as error:
                if on_error is None:
                    raise
                on_error(row, error)
            if len(rows) == batch_size:
                yield rows, self._forward(data)
                rows, data = [], []
        if rows:
            yield rows, self._forward(data)

    def track(self, batches: Any, total: int, title: str) -> Iterator[Any]:
        """Go through ``batches`` under a progress bar of batches."""
        return iter(track(
            batches, title, total, disable=not self.show_progress,
            console=Console(stderr=True)))

    def fingerprint(self, gsd: Any = None) -> str:
        """A name for everything that a feature depends on but the image.

        The weights as loaded (not the file they came from), the model's
        and the pipeline's config, and ``gsd``.

        Returns:
            64 hexadecimal digits.
        """
        model = {k: v for k, v in self.cfg.model.items() if k != 'init_cfg'}
        described = dict(
            weights=_hash_weights(self.model), model=model,
            pipeline=[repr(t) for t in self.pipeline.transforms],
            gsd=check_gsd(gsd))
        text = json.dumps(described, sort_keys=True, default=repr)
        return hashlib.sha256(text.encode()).hexdigest()

    # ------------------------------------------- MMEngine's abstract steps

    def visualize(self, *_: Any, **__: Any) -> list[np.ndarray]:
        """Nothing: a descriptor has no picture; ``search_ships`` has."""
        return []

    def postprocess(
            self, preds: list[ReIDDataSample],
            visualization: list[np.ndarray],
            return_datasamples: bool = False, **_: Any) -> dict[str, Any]:
        """Pack what :meth:`__call__` returns."""
        packed: list[Any] = preds
        if not return_datasamples:
            packed = [
                dict(
                    img_path=sample.metainfo['img_path'],
                    modality=sample.modality,
                    pid=getattr(sample, 'pid', None),
                    ori_shape=sample.metainfo['ori_shape'],
                    feature=sample.feature.numpy()) for sample in preds]
        return dict(predictions=packed, visualization=visualization)

    # -------------------------------------------------------------- pieces

    def _describe(
            self, inputs: Any, batch_size: int, modality: Any = 'auto',
            gsd: Any = None) -> list[ReIDDataSample]:
        items = self._inputs_to_list(inputs)
        kinds = tell_modalities(items, modality)
        samples: list[ReIDDataSample] = []
        batches = self.batches(items, kinds, gsd, batch_size)
        total = math.ceil(len(items) / max(batch_size, 1))
        for _, part in self.track(batches, total, 'Describing'):
            samples += part
        return samples

    def _inputs_to_list(self, inputs: Any) -> list[Item]:
        """Files and arrays, folders replaced by what is in them."""
        if not isinstance(inputs, (list, tuple)):
            inputs = [inputs]
        items: list[Item] = []
        for item in inputs:
            if isinstance(item, np.ndarray):
                items.append(item)
            elif not isinstance(item, (str, Path)):
                raise DataFormatError(
                    'Images are given as files, folders or numpy arrays, '
                    f'not as {type(item).__name__}.')
            elif os.path.isdir(item):
                items += list_chips(item)
            else:
                items.append(item)
        if not items:
            raise DataFormatError('The list of images is empty.')
        return items

    def _transforms(self, gsd: tuple[float, float] | None) -> list[Any]:
        """The pipeline, the ship size from another pixel size if asked."""
        transforms = list(self.pipeline.transforms)
        if gsd is None:
            return transforms
        places = [
            i for i, t in enumerate(transforms) if isinstance(t, ShipSize)]
        if not places:
            raise ConfigError(
                f'gsd={gsd} has no effect: the pipeline of the config has no '
                'ShipSize. Leave it out.')
        for i in places:
            transforms[i] = copy.copy(transforms[i])
            transforms[i].gsd = gsd
        return transforms

    def _forward(self, data: list[dict[str, Any]]) -> list[ReIDDataSample]:
        samples = self.forward(self.collate_fn(data))
        for sample in samples:
            if not torch.isfinite(sample.feature).all():
                raise DataFormatError(
                    f'{sample.metainfo["img_path"]}: its descriptor holds '
                    'NaN or infinite values. If this happens with every '
                    'image, the checkpoint is broken.')
        return samples


def tell_modalities(items: Sequence[Item], modality: Any) -> list[int]:
    """The modality of each image, by the rules of the module.

    Args:
        items: Files and arrays.
        modality: ``'auto'``, ``'optical'``, ``'sar'``, 0, 1, or one of
            these for each image.

    Raises:
        ConfigError: If it is something else or cannot be told.
    """
    single = isinstance(modality, str) or np.ndim(modality) == 0
    flags = [modality] * len(items) if single else list(modality)
    if len(flags) != len(items):
        raise ConfigError(
            f'{len(flags)} modalities were given for {len(items)} images.')
    kinds = []
    for item, flag in zip(items, flags, strict=True):
        kind = check_modality(flag)
        if kind is None and not isinstance(item, np.ndarray):
            kind = modality_from_name(item)
        kinds.append(modality_from_pixels(item) if kind is None else kind)
    return kinds


def _run_pipeline(transforms: Sequence[Any], item: Item, modality: int,
                  row: int) -> dict[str, Any]:
    """Prepare one image."""
    results: dict[str, Any] = dict(modality=modality, sample_idx=row)
    if isinstance(item, np.ndarray):
        pixels = _check_pixels(item, modality, row)
        results.update(
            img=pixels, img_path=f'array {row}',
            img_shape=pixels.shape[:2], ori_shape=pixels.shape[:2])
        if not any(isinstance(t, LoadOpticalOrSAR) for t in transforms):
            raise ConfigError(
                'Arrays cannot be used with this config: its pipeline has '
                'no LoadOpticalOrSAR, whose place they would take.')
        transforms = [
            t for t in transforms if not isinstance(t, LoadOpticalOrSAR)]
    else:
        results['img_path'] = str(item)
        pid = identity_of(item)
        if pid is not None:
            results['pid'] = pid
    for transform in transforms:
        results = transform(results)
        if results is None:
            raise DataFormatError(
                f'{item}: {type(transform).__name__} gave no result.')
    return results


def _check_pixels(array: np.ndarray, modality: int, row: int) -> np.ndarray:
    """An array as the reader of its modality would give it."""
    if array.ndim == 3 and array.shape[2] == 1:
        array = array[:, :, 0]
    fits = array.size and (
        array.ndim == 2 or (array.ndim == 3 and array.shape[2] == 3))
    if modality == OPTICAL:
        if not fits or array.dtype != np.uint8:
            raise DataFormatError(
                f'Optical array {row} is {array.dtype} of shape '
                f'{array.shape}; (H, W, 3) uint8 RGB is expected. Scale it '
                'to 8 bit first.')
        if array.ndim == 2:
            array = np.repeat(array[:, :, None], 3, axis=2)
        return array
    if not fits or array.dtype.kind not in 'uif':
        raise DataFormatError(
            f'SAR array {row} is {array.dtype} of shape {array.shape}; '
            '(H, W) real amplitudes are expected.')
    array = array.astype(np.float32)
    if not np.isfinite(array).all():
        raise DataFormatError(
            f'SAR array {row} holds NaN or infinite values. Fill them in, '
            'e.g. with 0 for no return.')
    if array.ndim == 3 and (array == array[:, :, :1]).all():
        array = array[:, :, 0]
    return array


def _hash_weights(model: nn.Module) -> str:
    """SHA-256 over names, types, shapes and values of a model's tensors."""
    digest = hashlib.sha256()
    for name, value in sorted(model.state_dict().items()):
        value = value.detach().cpu().contiguous()
        digest.update(f'{name} {value.dtype} {tuple(value.shape)};'.encode())
        digest.update(value.reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()
