"""Pseudo-SAR views of optical images: read from a folder, or generated.

Letters: K views of an image, H W height and width in pixels.
"""

from __future__ import annotations

import hashlib
import io
import json
import logging
import math
import time
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePath
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from mmengine.dataset import Compose
from mmengine.dist import (
    barrier,
    broadcast_object_list,
    get_rank,
    get_world_size,
    is_main_process,
)
from mmengine.logging import print_log
from PIL import Image

from ..datasets.hoss import GALLERY, QUERY
from ..datasets.layout import shorten
from ..datasets.transforms.loading import OPTICAL
from ..datasets.transforms.packing import to_tensor
from ..io import atomic_write, decode_bytes, read_optical
from ..registry import MODELS
from ..utils.checkpoint import checkpoint_file, sha256_of
from ..utils.config import load_config
from ..utils.devices import half_precision
from ..utils.errors import (
    CheckpointError,
    ConfigError,
    CorruptImageError,
    DataFormatError,
    DatasetNotFoundError,
)

SUFFIXES = ('.png', '.jpg', '.jpeg', '.tif', '.tiff', '.bmp')
# Part of every key: raised when the same settings begin to give other views.
VERSION = 1
_LOG_EVERY = 30.  # seconds
_HOUR = 3600.


class OpticalImage(NamedTuple):
    """An optical image of the data set.

    Attributes:
        path: The file.
        is_query: Its side.
    """

    path: str
    is_query: bool


class ViewSource(Protocol):
    """Where views come from."""

    def prepare(self, images: Sequence[OpticalImage],
                device: torch.device) -> None:
        """Make the views of these images available to :meth:`read`."""

    def read(self, path: str) -> list[np.ndarray]:
        """The K views of an image, each (H, W, 3) uint8."""


def check_optical(path: str | Path, data: bytes | None = None) -> None:
    """Refuse what can be told to be SAR.

    By its name, or, given the file's content, by its samples: one band of
    floats is what SAR chips are and optical images are not.

    Raises:
        DataFormatError: If it is SAR.
    """
    said = ''
    if PurePath(path).stem.split('_')[-1].upper() == 'SAR':
        said = 'its name ends in _SAR'
    elif data is not None:
        image = decode_bytes(data, path)
        if image.ndim == 2 and image.dtype.kind == 'f':
            said = f'it has one band of {image.dtype}'
    if said:
        raise DataFormatError(
            f'{path} is on the optical side, but is a SAR image: {said}. '
            'Only optical images get pseudo-SAR views. Mend the modality in '
            'the data set, or save a panchromatic image as 8 bit.')


# ------------------------------------------------------- made elsewhere


class FolderViews:
    """Views that someone generated elsewhere.

    Files are given to the optical images of the test set, K each,

    * by name: ``<optical name>_0.png``, or ``<optical name>/output_0.png``
      as BBDM writes them, at any depth of the folder. Views of other images
      may be there as well;
    * or, where no file is named after an optical image, by order, as the
      released code of MOS does: files sorted by path, images sorted by
      name, the first K files belong to the first image.

    A folder with the sub-folders ``query`` and ``bounding_box_test`` holds
    the views of each side apart. Otherwise it holds those of both, once for
    images that are on both sides.

    Args:
        folder: The folder.
        views: K.
    """

    def __init__(self, folder: str | Path, views: int) -> None:
        self.folder = Path(folder)
        self.views = views
        self._files: dict[str, list[Path]] = {}

    def prepare(self, images: Sequence[OpticalImage],
                device: torch.device) -> None:
        """Find the files.

        Raises:
            DatasetNotFoundError: If the folder is missing or empty.
            DataFormatError: If an image does not have exactly K views, or
                the order cannot be that of the images.
        """
        if not self.folder.is_dir():
            raise DatasetNotFoundError(
                f'{self.folder}: no such folder of pseudo-SAR views. Mend '
                'folder of PseudoSARHook.')
        sides = [(self.folder / QUERY, True), (self.folder / GALLERY, False)]
        if not all(folder.is_dir() for folder, _ in sides):
            self._assign(self.folder, [image.path for image in images])
            return
        for folder, is_query in sides:
            self._assign(folder, [
                image.path for image in images if image.is_query == is_query])

    def read(self, path: str) -> list[np.ndarray]:
        """The K views of an image, as the released code reads them."""
        return [read_optical(file) for file in self._files[path]]

    def _assign(self, folder: Path, paths: Sequence[str]) -> None:
        if not paths:
            return
        files = _list_images(folder)
        by_name: dict[str, list[str]] = {}
        for path in paths:
            by_name.setdefault(PurePath(path).stem, []).append(path)
        owned: dict[str, list[Path]] = {name: [] for name in by_name}
        for file in files:
            owner = _owner(file.relative_to(folder), by_name)
            if owner is not None:
                owned[owner].append(file)
        if any(owned.values()):
            self._check_each(folder, owned)
        else:
            owned = self._by_order(folder, files, sorted(by_name))
        for name, same in by_name.items():
            for path in same:
                self._files[path] = owned[name]

    def _check_each(self, folder: Path,
                    owned: Mapping[str, Sequence[Path]]) -> None:
        wrong = [
            f'{name} has {len(files)}' for name, files in owned.items()
            if len(files) != self.views]
        if wrong:
            raise DataFormatError(
                f'{folder}: {len(wrong)} of {len(owned)} optical images do '
                f'not have views={self.views} files named after them: '
                f'{shorten(wrong)}. Add or remove files, or set views of '
                'PseudoSARHook.')

    def _by_order(self, folder: Path, files: Sequence[Path],
                  names: Sequence[str]) -> dict[str, list[Path]]:
        expected = self.views * len(names)
        if len(files) != expected:
            raise DataFormatError(
                f'{folder} holds {len(files)} images, but {len(names)} '
                f'optical images with views={self.views} each need '
                f'{expected}, in the order of the sorted optical names. '
                'Add or remove files, set views of PseudoSARHook, or name '
                'each file after its optical image, e.g. '
                f'{names[0]}_0.png.')
        return {
            name: list(files[i * self.views:(i + 1) * self.views])
            for i, name in enumerate(names)}


def _list_images(folder: Path) -> list[Path]:
    """Images below a folder, sorted by path; hidden ones left out."""
    found = [
        path for path in folder.rglob('*')
        if path.suffix.lower() in SUFFIXES and path.is_file() and not any(
            part.startswith('.') for part in path.relative_to(folder).parts)]
    if not found:
        raise DatasetNotFoundError(
            f'{folder}: no image in it or below it; files ending in '
            f'{", ".join(SUFFIXES)} are looked for.')
    return sorted(found, key=lambda path: path.relative_to(folder).parts)


def _owner(file: Path, names: Mapping[str, Any]) -> str | None:
    """The optical image that a file is named after."""
    for parent in file.parents:
        if parent.name in names:
            return parent.name
    # The longest of them, at the end of a word: ship_1 is not ship_10.
    stem = file.stem
    for end in range(len(stem), 0, -1):
        if stem[:end] in names and not stem[end:end + 1].isalnum():
            return stem[:end]
    return None


# ------------------------------------------------------------- generated


class TranslatedViews:
    """Views that a translator makes, once, and keeps on disk.

    An image has one PNG file with its K views below each other. Its name is
    the SHA-256 of the image file; its folder is named after everything else
    that decides a view: the weights, the translator's config, the sampler,
    the precision. ``made_with.json`` there says what that was. Files are
    written whole, so that after a kill only the missing ones are generated;
    a damaged one is found by its checksums and generated again.

    Noise comes from the content of the image (see
    :meth:`~osar_plugin.models.translation.BrownianBridgeTranslator.translate`
    ), and the network always sees batches of one shape, the last one filled
    up, so that nothing of a view depends on which images are in its batch,
    on their order, on how many processes share the work or on where an
    earlier run was stopped. Another ``batch_size``, device or number of
    threads may round differently.

    Args:
        config: Config file of the translator. Images take the transforms of
            its ``PairPipeline``.
        checkpoint: Its weights, never unpickled; or the work dir of its
            training.
        cache_dir: Where the files go.
        views: K.
        sampler: Further settings of the sampler in place of the config's,
            see :class:`~osar_plugin.models.translation.SamplerSettings`.
        batch_size: Images at a time, with K views each; ``None`` for 8 on
            an accelerator and 1 on a CPU.
        amp: Half precision where the device computes in it: float16 on a
            GPU, bfloat16 on a CPU with such instructions.
    """

    def __init__(self,
                 config: str | Path,
                 checkpoint: str | Path,
                 cache_dir: str | Path,
                 views: int = 5,
                 sampler: Mapping[str, Any] | None = None,
                 batch_size: int | None = None,
                 amp: bool = True) -> None:
        self.config = str(config)
        self.checkpoint = str(checkpoint)
        self.cache_dir = Path(cache_dir)
        self.views = views
        self.sampler = dict(sampler or {})
        self.batch_size = batch_size
        self.amp = amp
        self.folder = self.cache_dir
        self._digests: dict[str, str] = {}

    def prepare(self, images: Sequence[OpticalImage],
                device: torch.device) -> None:
        """Generate what the cache lacks, shared among the processes.

        Raises:
            CheckpointError: If the weights cannot be used.
            ConfigError: If the config or a setting cannot.
            OSARError: If an image cannot be read or translated, or a view
                cannot be read or written.
        """
        weights = self._weights()
        cfg = load_config(self.config)
        model = self._model_cfg(cfg)
        transforms = optical_transforms(cfg)
        dtype = half_precision('auto' if self.amp else False, device)
        made_with = dict(
            version=VERSION, weights=sha256_of(weights),
            model=_without(model, 'init_cfg', 'max_items'),
            transforms=transforms, dtype=str(dtype or torch.float32))
        text = json.dumps(made_with, sort_keys=True, indent=2, default=repr)
        key = hashlib.sha256(text.encode()).hexdigest()
        self.folder = self.cache_dir / key[:16]
        sources = self._identify(images)
        missing = self._missing(sources, text)
        if missing:
            translator = _Translator(
                build_translator(model, weights, device),
                Compose(transforms), dtype, self._images_at_once(device))
            self._generate(translator, sources, missing)
            # No process reads before all have written.
            barrier()

    def read(self, path: str) -> list[np.ndarray]:
        """The K views of an image.

        Raises:
            CorruptImageError: If its file went away or was damaged since.
        """
        file = self._file(self._digests[path])
        views = self._read(file)
        if views is None:
            raise CorruptImageError(
                f'{file}: the views of {path} were there when the '
                'evaluation began and are not now. Start it again; what is '
                'missing is then generated.')
        return views

    def _weights(self) -> Path:
        try:
            return checkpoint_file(self.checkpoint)
        except CheckpointError as error:
            raise CheckpointError(
                f'{error} It is to be the translator: mend '
                'translator.checkpoint of PseudoSARHook, or train one with '
                'configs/bbdm_hoss.py.') from error

    def _model_cfg(self, cfg: Any) -> dict[str, Any]:
        """Config of the translator with the settings of this source."""
        if cfg.get('model') is None:
            raise ConfigError(f'{self.config} has no model.')
        model: dict[str, Any] = cfg.model.to_dict()
        model['sampler'] = {
            **(model.get('sampler') or {}), **self.sampler,
            'views': self.views}
        return model

    def _images_at_once(self, device: torch.device) -> int:
        return self.batch_size or (1 if device.type == 'cpu' else 8)

    def _identify(self, images: Sequence[OpticalImage]) -> dict[str, str]:
        """A path for each content, in an order that all processes share."""
        self._digests = {
            image.path: sha256_of(image.path) for image in images}
        sources: dict[str, str] = {}
        for path in sorted(self._digests):
            sources.setdefault(self._digests[path], path)
        return sources

    def _missing(self, sources: Mapping[str, str], made_with: str
                 ) -> list[str]:
        """Digests without views; one process looks for all of them.

        If each looked by itself, it would see what others have written
        meanwhile, and they would divide different lists.
        """
        missing: list[str] = []
        if is_main_process():
            self._sweep()
            missing = [
                digest for digest in sources
                if self._read(self._file(digest)) is None]
            print_log(
                f'Pseudo-SAR views: {len(sources) - len(missing)} of '
                f'{len(sources)} optical images have theirs in '
                f'{self.folder}, {len(missing)} to generate.', 'current')
            if missing:
                self._write(
                    self.folder / 'made_with.json', made_with.encode())
        shared = [missing]
        broadcast_object_list(shared)
        return shared[0]

    def _sweep(self) -> None:
        """Remove what killed runs left half written.

        Younger files may be those of a run beside this one.
        """
        for path in self.folder.glob('.*.tmp'):
            try:
                if time.time() - path.stat().st_mtime > _HOUR:
                    path.unlink()
            except OSError:
                continue  # gone meanwhile, or not ours to remove

    def _file(self, digest: str) -> Path:
        return self.folder / f'{digest[:32]}.png'

    def _read(self, file: Path) -> list[np.ndarray] | None:
        """Views of a file; None if there is none or it is damaged."""
        try:
            data = file.read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise CorruptImageError(
                f'{file}: cached pseudo-SAR views cannot be read ({error}). '
                'Make it readable, remove it, or set another cache_dir of '
                'PseudoSARHook.') from error
        try:
            stack = decode_bytes(data, file)
            if stack.ndim != 3 or len(stack) % self.views:
                raise DataFormatError(
                    f'{file}: an image of shape {stack.shape} does not hold '
                    f'{self.views} views.')
        except (CorruptImageError, DataFormatError) as error:
            print_log(
                f'Damaged in the cache, so generated again: {error}',
                'current', logging.WARNING)
            return None
        return list(stack.reshape(self.views, -1, *stack.shape[1:]))

    def _generate(self, translator: _Translator,
                  sources: Mapping[str, str],
                  missing: Sequence[str]) -> None:
        """Translate this process's share and write each image's file."""
        share = missing[get_rank()::get_world_size()]
        size = translator.batch_size
        begin = last = time.monotonic()
        for start in range(0, len(share), size):
            part = share[start:start + size]
            paths = [sources[digest] for digest in part]
            for digest, views in zip(
                    part, translator(paths), strict=True):
                self._write(self._file(digest), _png(views))
            now, done = time.monotonic(), start + len(part)
            if now - last > _LOG_EVERY or done == len(share):
                last = now
                rate = done / max(now - begin, 1e-9)
                print_log(
                    f'Pseudo-SAR views: {done} of {len(share)} images of '
                    f'this process, {rate * self.views:.2f} views/s, about '
                    f'{math.ceil((len(share) - done) / rate)} s left.',
                    'current')

    @staticmethod
    def _write(file: Path, content: bytes) -> None:
        try:
            with atomic_write(file, 'wb') as out:
                out.write(content)
        except OSError as error:
            raise ConfigError(
                f'{file}: pseudo-SAR views cannot be written ({error}). '
                'Make room, or set another cache_dir of PseudoSARHook. What '
                'is written already is kept.') from error


class _Translator:
    """A translator from files to views.

    Args:
        model: The translator, on its device.
        transforms: From a path to an image.
        dtype: Half precision to compute in, ``None`` for float32.
        batch_size: Images at a time.
    """

    def __init__(self, model: Any, transforms: Compose,
                 dtype: torch.dtype | None, batch_size: int) -> None:
        self.model = model
        self.transforms = transforms
        self.dtype = dtype
        self.batch_size = batch_size

    @torch.no_grad()
    def __call__(self, paths: Sequence[str]) -> list[np.ndarray]:
        """Views (K, H, W, 3) uint8 of at most ``batch_size`` images."""
        images = [self._load(path) for path in paths]
        # Always the same shape, so always the same kernels and rounding.
        images += images[-1:] * (self.batch_size - len(images))
        inputs = self.model.data_preprocessor(
            dict(inputs=dict(optical=images)))['inputs']
        device = inputs['optical'].device.type
        with torch.autocast(
                device, dtype=self.dtype, enabled=self.dtype is not None):
            views = self.model(inputs, mode='tensor')[:len(paths)]
        whole = views.isfinite().flatten(1).all(dim=1).tolist()
        if not all(whole):
            cure = 'Set amp=False in PseudoSARHook.' if self.dtype else (
                'The checkpoint is broken or its training diverged.')
            raise DataFormatError(
                f'{paths[whole.index(False)]}: its pseudo-SAR views hold NaN '
                f'or infinite values. {cure}')
        return list(to_bytes(views).permute(0, 1, 3, 4, 2).cpu().numpy())

    def _load(self, path: str) -> torch.Tensor:
        check_optical(path, Path(path).read_bytes())
        results = self.transforms(dict(img_path=path, modality=OPTICAL))
        return to_tensor(results['img'])


def to_bytes(views: torch.Tensor) -> torch.Tensor:
    """-1..1 to 0..255, rounded as the translator's ``predict`` does it."""
    return views.mul(0.5).add(0.5).clamp(0, 1).mul(255).add(0.5).byte()


def _png(views: np.ndarray) -> bytes:
    """(K, H, W, 3) as one image of (K H, W)."""
    buffer = io.BytesIO()
    Image.fromarray(views.reshape(-1, *views.shape[2:])).save(buffer, 'PNG')
    return buffer.getvalue()


def optical_transforms(cfg: Any) -> list[dict[str, Any]]:
    """How a translator's config prepares an image.

    Args:
        cfg: The config; a data loader of it has a pipeline with
            ``PairPipeline``.

    Raises:
        ConfigError: If none has.
    """
    for name in ('test_dataloader', 'val_dataloader', 'train_dataloader'):
        dataset = (cfg.get(name) or {}).get('dataset') or {}
        for step in dataset.get('pipeline') or ():
            if step['type'].rpartition('.')[2] == 'PairPipeline':
                return [dict(part) for part in step['transforms']]
    raise ConfigError(
        f'{cfg.filename}: none of its data loaders has a PairPipeline, which '
        'says how the translator sees an image. Give the config that the '
        'translator was trained with.')


def build_translator(model: Mapping[str, Any], weights: str | Path,
                     device: torch.device) -> Any:
    """Build a translator and load its weights, without unpickling.

    Args:
        model: Its config. Files that it starts its training from are not
            read: the checkpoint holds everything.
        weights: A file of ours or of BBDM.
        device: Where it goes.

    Raises:
        ConfigError: If the config is not a translator's.
        CheckpointError: If the file is unsafe, of another model or
            incomplete.
    """
    cfg = _without(model, 'init_cfg')
    cfg['init_cfg'] = dict(type='Pretrained', checkpoint=str(weights))
    # A validation must leave the generator of a training as it was.
    with torch.random.fork_rng(devices=[]):
        translator = MODELS.build(cfg)
        if not callable(getattr(translator, 'translate', None)):
            raise ConfigError(
                f'{type(translator).__name__} translates nothing. Give '
                'PseudoSARHook the config of a translator, such as '
                'configs/bbdm_hoss.py.')
        translator.init_weights()
    translator.load_report.require_complete()
    # The order of numbers that convolutions are fastest in.
    translator.to(device, memory_format=torch.channels_last)
    for module in translator.modules():
        if hasattr(module, 'channels_last'):
            module.channels_last = True
    return translator.eval()


def _without(node: Any, *keys: str) -> Any:
    """A nested value without some keys of its dicts."""
    if isinstance(node, Mapping):
        return {
            key: _without(value, *keys) for key, value in node.items()
            if key not in keys}
    if isinstance(node, (list, tuple)):
        return [_without(value, *keys) for value in node]
    return node
