"""HOSS-ReID and our models inside torchreid.

* :func:`register_torchreid` makes HOSS a torchreid image data set::

      register_torchreid('hoss')
      manager = torchreid.data.ImageDataManager(
          root='data/hoss', sources='hoss', use_gpu=False)

* :func:`evaluation_engine` runs one of our models, which needs the modality
  and the ship size beside the image, in torchreid's evaluation::

      evaluation_engine(manager, model).run(
          test_only=True, normalize_feature=True)

* :class:`FeatureExtractor` is called like torchreid's.

torchreid is imported when one of the first two is called. Two incompatible
distributions share its name: GitHub's has the modules ``torchreid.data`` and
so on, PyPI's 0.2.5 keeps them in ``torchreid.reid`` and has them as
attributes. ``import torchreid`` and attribute access works with both.

Legend: B batch, C channels, D channels of a descriptor, H W height and
width.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from ..compat import require
from ..datasets.hoss import HOSS, PROTOCOLS
from ..datasets.layout import MODALITIES
from ..datasets.transforms import (
    LoadOpticalOrSAR,
    PillowResize,
    SARToUint8,
    ShipSize,
)
from ..datasets.transforms.packing import to_tensor
from ..models.reid.preprocessor import ReIDDataPreprocessor
from ..utils.errors import ConfigError, DataFormatError

# Cameras of the gallery where torchreid's filter must not meet those of the
# queries; even is optical and odd SAR on both sides.
_APART = 2

_REGISTERED: dict[str, tuple[dict[str, Any], type]] = {}


def register_torchreid(
        name: str = 'hoss', protocol: str = 'ALL',
        exclude_same_camera: bool = False, sar_mode: str = 'max') -> type:
    """Register HOSS-ReID with torchreid, for one protocol.

    Items are torchreid's (``img, pid, camid, impath, dsetid``) with
    ``modality`` and ``size``. Files are read by our readers, because
    torchreid's ``convert('RGB')`` clips SAR in floating point. The camera is
    the modality (0 optical, 1 SAR), as in the authors' code.

    torchreid always leaves out gallery entries of the identity and camera of
    the query; the authors leave out nothing. By default the cameras of the
    gallery are therefore numbered from 2 (2 optical, 3 SAR), which gives the
    authors' figures.

    In a mixture of sources put HOSS first: torchreid reads all images with
    the class of the first.

    Args:
        name: Name in torchreid. The same name may be registered again with
            the same arguments.
        protocol: ``'ALL'``, ``'O2S'`` or ``'S2O'``.
        exclude_same_camera: Number the cameras of both sides alike, so that
            torchreid's filter takes effect.
        sar_mode: See :class:`~osar_plugin.datasets.transforms.SARToUint8`.

    Returns:
        The class, a ``torchreid.data.ImageDataset``.

    Raises:
        MissingDependencyError: If torchreid is not installed.
        ConfigError: If the protocol is unknown or the name is taken.
    """
    options = dict(
        protocol=protocol, exclude_same_camera=exclude_same_camera,
        sar_mode=sar_mode)
    if protocol not in PROTOCOLS:
        raise ConfigError(
            f'protocol={protocol!r} is not known: use one of '
            f'{", ".join(PROTOCOLS)}.')
    torchreid = require('torchreid', 'reid')
    if name in _REGISTERED:
        before, known = _REGISTERED[name]
        if before == options:
            return known
        raise ConfigError(
            f'{name!r} is registered already, with {before}: choose another '
            f'name for {options}.')
    dataset = _dataset_class(torchreid.data.ImageDataset, name, options)
    try:
        torchreid.data.register_image_dataset(name, dataset)
    except ValueError as error:
        raise ConfigError(
            f'torchreid has a data set {name!r} already: choose another '
            'name.') from error
    _REGISTERED[name] = options, dataset
    return dataset


def hoss_lists(
        root: str, protocol: str = 'ALL', exclude_same_camera: bool = False
) -> dict[str, list[tuple[str, int, int]]]:
    """The lists that torchreid wants.

    Args:
        root: The folder ``HOSS``, or the one that contains it.
        protocol: ``'ALL'``, ``'O2S'`` or ``'S2O'``.
        exclude_same_camera: See :func:`register_torchreid`.

    Returns:
        ``train``, ``query`` and ``gallery``, each of (path, identity,
        camera). Training identities count from 0.
    """
    train = HOSS(data_root=root, split='train')
    test = HOSS(data_root=root, split='test')
    lists: dict[str, list[tuple[str, int, int]]] = dict(
        train=[(row['img_path'], row['label'], row['modality'])
               for row in map(train.get_data_info, range(len(train)))],
        query=[], gallery=[])
    shift = 0 if exclude_same_camera else _APART
    for row in map(test.get_data_info, range(len(test))):
        if protocol not in row['protocols']:
            continue
        side = 'query' if row['is_query'] else 'gallery'
        camera = row['modality'] + (0 if row['is_query'] else shift)
        lists[side].append((row['img_path'], row['pid'], camera))
    for side, rows in lists.items():
        if not rows:
            raise DataFormatError(
                f'{root}: the {side} side of {protocol} is empty, but '
                'torchreid needs all three lists.')
    return lists


class ShipReader:
    """Read a chip as the recipe does, up to resizing.

    Args:
        sar_mode: See :class:`~osar_plugin.datasets.transforms.SARToUint8`.
    """

    def __init__(self, sar_mode: str = 'max') -> None:
        self.load = LoadOpticalOrSAR()
        self.finish = (ShipSize(), SARToUint8(mode=sar_mode))

    def __call__(self, image: str | Path | np.ndarray,
                 modality: int) -> tuple[np.ndarray, np.ndarray]:
        """Read and bring to 8 bit.

        Args:
            image: A file, or its pixels: (H, W) or (H, W, C), optical as
                uint8 RGB.
            modality: 0 optical, 1 SAR.

        Returns:
            (H, W, 3) uint8 and the ship-size vector (3,) float32.
        """
        results: dict[str, Any] = dict(modality=modality)
        if isinstance(image, np.ndarray):
            results.update(img=image, ori_shape=image.shape[:2])
        else:
            results['img_path'] = str(image)
            results = self.load.transform(results)
        for transform in self.finish:
            results = transform.transform(results)
        return results['img'], results['size']


def _dataset_class(base: type, name: str, options: dict[str, Any]) -> type:
    """A data set class on torchreid's base, which exists only now."""

    class TorchreidHOSS(base):  # type: ignore[misc, valid-type]
        """HOSS-ReID; see :func:`register_torchreid`."""

        def __init__(self, root: str = '', **kwargs: Any) -> None:
            lists = hoss_lists(
                root, options['protocol'], options['exclude_same_camera'])
            self.reader = ShipReader(options['sar_mode'])
            self.own = {row[0] for rows in lists.values() for row in rows}
            super().__init__(**lists, **kwargs)

        def __getitem__(self, index: int) -> dict[str, Any]:
            path, pid, camera, source = self.data[index]
            # Images of other data sets in a mixture are optical.
            modality = camera % _APART if path in self.own else 0
            pixels, size = self.reader(path, modality)
            image = Image.fromarray(pixels)
            if self.transform is not None:
                image = self._transform_image(
                    self.transform, self.k_tfm, image)
            return dict(
                img=image, pid=pid, camid=camera, impath=path, dsetid=source,
                modality=modality, size=torch.from_numpy(size))

        def __add__(self, other: Any) -> Any:
            # torchreid's sum would read our files with its own reader.
            both = copy.copy(self)
            both.train = super().__add__(other).train
            both.num_train_pids = both.get_num_pids(both.train)
            both.num_train_cams = both.get_num_cams(both.train)
            both.num_datasets = both.get_num_datasets(both.train)
            both.data = both.train if self.mode == 'train' else self.data
            return both

        def __reduce__(self) -> Any:
            # The class has no importable name, which workers would need.
            return _restore, (name, options, self.__dict__)

    return TorchreidHOSS


def _restore(name: str, options: dict[str, Any],
             state: dict[str, Any]) -> Any:
    """Rebuild a data set in another process."""
    dataset: Any = register_torchreid(name, **options)
    instance = dataset.__new__(dataset)
    instance.__dict__.update(state)
    return instance


def evaluation_engine(
        datamanager: Any, model: nn.Module, use_gpu: bool = True) -> Any:
    """A torchreid engine whose test runs one of our models.

    Args:
        datamanager: ``torchreid.data.ImageDataManager`` on data sets of
            :func:`register_torchreid`.
        model: With ``extract_feat(images, modality, size)``. torchreid's
            test transform normalises as the recipe does.
        use_gpu: Use a GPU if there is one.

    Returns:
        A ``torchreid.engine.Engine``; ``engine.run(test_only=True,
        normalize_feature=True)`` prints torchreid's figures. It has no
        training step: our models train in MMEngine's runner.
    """
    torchreid = require('torchreid', 'reid')

    class EvaluationEngine(torchreid.engine.Engine):  # type: ignore
        """Hands modality and size to the model."""

        def parse_data_for_eval(
                self, data: Mapping[str, Any]) -> tuple[Any, Any, Any]:
            missing = {'modality', 'size'} - set(data)
            if missing:
                raise DataFormatError(
                    f'A batch has no {" and no ".join(sorted(missing))}: use '
                    'data sets of osar_plugin.apis.torchreid.'
                    'register_torchreid.')
            self._conditions = data['modality'], data['size']
            return super().parse_data_for_eval(data)

        def extract_features(self, input: Tensor) -> Tensor:
            modality, size = (
                value.to(input.device) for value in self._conditions)
            return self.model.extract_feat(input, modality, size)

    engine = EvaluationEngine(datamanager, use_gpu)
    engine.model = model.cuda() if engine.use_gpu else model
    engine.register_model('model', engine.model)
    return engine


class FeatureExtractor:
    """Descriptors of files or arrays; called like torchreid's.

    Unlike torchreid's it takes a model rather than a name, knows SAR, and
    never downloads. It does not need torchreid.

    Args:
        model: With ``extract_feat(images, modality, size)``.
        image_size: (H, W) of the model's input.
        pixel_mean: Per channel, on the scale 0..1.
        pixel_std: Per channel, on the scale 0..1.
        device: Where to run; the model's own by default.
        sar_mode: See :class:`~osar_plugin.datasets.transforms.SARToUint8`.
        batch_size: Images in one run of the model.

    Examples:
        >>> extractor = FeatureExtractor(model)
        >>> extractor(['0001_s01c1_RGB.tif', '0001_s01c1_SAR.tif']).shape
        torch.Size([2, 768])
    """

    def __init__(
            self, model: nn.Module, image_size: tuple[int, int] = (256, 128),
            pixel_mean: Sequence[float] = (0.485, 0.456, 0.406),
            pixel_std: Sequence[float] = (0.229, 0.224, 0.225),
            device: str | torch.device | None = None, sar_mode: str = 'max',
            batch_size: int = 64) -> None:
        if device is None:
            device = next(
                (p.device for p in model.parameters()), torch.device('cpu'))
        self.device = torch.device(device)
        self.model = model.to(self.device).eval()
        self.reader = ShipReader(sar_mode)
        self.resize = PillowResize(image_size, 'bilinear')
        self.normalise = ReIDDataPreprocessor(
            pixel_mean, pixel_std).to(self.device)
        self.batch_size = batch_size

    @torch.no_grad()
    def __call__(
            self, input: Any, modality: int | Sequence[int] | None = None,
            size: Any = None) -> Tensor:
        """Descriptors, not normalised.

        Args:
            input: A path, an array (H, W) or (H, W, C), a list of such, or
                a *normalised* tensor (C, H, W) or (B, C, H, W) of the
                model's input size.
            modality: 0 optical, 1 SAR, for all or for each. If not given,
                file names tell it (``..._RGB.tif``, ``..._SAR.tif``), and
                so do arrays: one channel is SAR, three of uint8 are
                optical. A tensor needs it.
            size: (3,) or (B, 3) ship-size vectors, by default from the
                pixel size of the images. A tensor needs it, because it has
                been resized.

        Returns:
            (B, D).

        Raises:
            ConfigError: If the modality or size cannot be told.
            DataFormatError: If the input is of another kind.
        """
        if isinstance(input, Tensor):
            return self._from_tensor(input, modality, size)
        items = list(input) if isinstance(input, (list, tuple)) else [input]
        if not items:
            raise DataFormatError('The list of images is empty.')
        given = None if modality is None else self._for_each(
            modality, len(items)).tolist()
        sizes = None if size is None else self._sizes(size, len(items))
        parts = []
        for start in range(0, len(items), self.batch_size):
            rows = range(start, min(start + self.batch_size, len(items)))
            kinds = [_modality(items[i]) if given is None else given[i]
                     for i in rows]
            images, own = self._read([items[i] for i in rows], kinds)
            if sizes is not None:
                own = sizes[start:start + len(rows)]
            parts.append(self._run(images, torch.tensor(kinds), own))
        return torch.cat(parts)

    def _read(self, items: Sequence[Any],
              kinds: Sequence[int]) -> tuple[Tensor, Tensor]:
        """Images (B, 3, H, W) normalised and sizes (B, 3)."""
        images, sizes = [], []
        for item, kind in zip(items, kinds, strict=True):
            pixels, size = self.reader(item, kind)
            resized = self.resize.transform(dict(img=pixels))['img']
            images.append(to_tensor(resized))
            sizes.append(torch.from_numpy(size))
        batch = self.normalise(dict(inputs=images))['inputs']
        return batch, torch.stack(sizes)

    def _from_tensor(self, images: Tensor, modality: Any,
                     size: Any) -> Tensor:
        if images.ndim == 3:
            images = images[None]
        if images.ndim != 4 or not images.is_floating_point():
            raise DataFormatError(
                'A tensor must be normalised floating point images of shape '
                f'(C, H, W) or (B, C, H, W), got {images.dtype} of shape '
                f'{tuple(images.shape)}.')
        if modality is None or size is None:
            raise ConfigError(
                'A tensor of images needs modality (0 optical, 1 SAR) and '
                'size (the ship-size vectors): neither can be read from it.')
        kinds = self._for_each(modality, len(images))
        sizes = self._sizes(size, len(images))
        step = self.batch_size
        return torch.cat([
            self._run(images[i:i + step], kinds[i:i + step],
                      sizes[i:i + step])
            for i in range(0, len(images), step)])

    def _run(self, images: Tensor, modality: Tensor, size: Tensor) -> Tensor:
        features: Tensor = self.model.extract_feat(  # type: ignore
            images.to(self.device), modality.to(self.device),
            size.to(self.device))
        return features

    @staticmethod
    def _for_each(modality: Any, num: int) -> Tensor:
        kinds = torch.as_tensor(modality).flatten()
        if len(kinds) == 1:
            kinds = kinds.expand(num)
        if len(kinds) != num or not torch.isin(
                kinds, torch.tensor([0, 1])).all():
            raise ConfigError(
                f'modality={modality!r} must be 0 (optical) or 1 (SAR), one '
                f'for all or one for each of {num} images.')
        return kinds.long()

    @staticmethod
    def _sizes(size: Any, num: int) -> Tensor:
        sizes = torch.as_tensor(np.asarray(size), dtype=torch.float32)
        if sizes.shape == (3,):
            sizes = sizes.expand(num, 3)
        if sizes.shape != (num, 3):
            raise ConfigError(
                f'size has shape {tuple(sizes.shape)}, expected (3,) or '
                f'({num}, 3).')
        return sizes


def _modality(item: Any) -> int:
    """Modality of a file by its name, of an array by its channels."""
    if isinstance(item, (str, Path)):
        last = Path(item).stem.split('_')[-1]
        if last not in MODALITIES:
            raise ConfigError(
                f'{item}: the name does not tell the modality (it would end '
                'in _RGB or _SAR). Give modality=0 (optical) or 1 (SAR).')
        return MODALITIES[last]
    if isinstance(item, np.ndarray):
        if item.ndim == 2 or (item.ndim == 3 and item.shape[2] == 1):
            return 1
        if item.ndim == 3 and item.shape[2] == 3 and item.dtype == np.uint8:
            return 0
        raise ConfigError(
            f'An array of {item.dtype} and shape {item.shape} may be either '
            'modality. Give modality=0 (optical) or 1 (SAR).')
    raise DataFormatError(
        'Images must be given as paths or numpy arrays (H, W) or (H, W, C), '
        f'got {type(item).__name__}.')
