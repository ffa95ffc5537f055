"""Registration test pairs, fixed in a file that every method reads.

A protocol is JSON: which images are a pair, how they lie on each other, and
by which stored perturbation the moving one is taken off. Methods are compared
on equal terms only if they see the same pixels, so images are named with
their SHA-256 and drawn parameters are stored, not seeds alone.

Rendering of a pair, with S the size of the protocol::

    fixed file  -> resized to S -> warped through `alignment` onto the grid of
                   the moving image -> fixed, with its mask
    moving file -> resized to S, mask from `moving_outline`
                -> perturbed -> moving, with its mask
    truth: the perturbation, fixed to moving

Legend: H W height and width in pixels.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from mmengine.dataset import BaseDataset

from osar_plugin.io import atomic_write, read_optical, read_sar
from osar_plugin.registry import DATASETS
from osar_plugin.utils.config_values import Buildable
from osar_plugin.utils.errors import (
    ConfigError,
    DataFormatError,
    DatasetNotFoundError,
)
from osar_plugin.utils.geometry import Size, check_matrix, inside, warp

from .perturbation import Perturbation, draw, warp_range

FORMAT = 'osar_plugin registration protocol'
VERSION = 1
MODALITIES = ('optical', 'sar')
_SIDES = ('fixed', 'moving')


@dataclass(frozen=True)
class ImageFile:
    """An image of a protocol.

    Attributes:
        path: Relative to the data root, with forward slashes.
        sha256: Of the file, 64 hexadecimal digits.
        modality: ``'optical'`` or ``'sar'``.
    """

    path: str
    sha256: str
    modality: str


@dataclass(frozen=True)
class PairRecord:
    """A pair of a protocol; see the module.

    Attributes:
        name: Unlike all others of the protocol.
        fixed: The reference image.
        moving: The image that is perturbed.
        perturbation: Of the moving image.
        alignment: 2x3, resized fixed to resized moving image, pixels.
        moving_outline: Corners (x, y) of where the resized moving image has
            data; empty for everywhere.
    """

    name: str
    fixed: ImageFile
    moving: ImageFile
    perturbation: Perturbation
    alignment: tuple = ((1., 0., 0.), (0., 1., 0.))
    moving_outline: tuple = ()


@dataclass(frozen=True)
class Protocol:
    """Test pairs that are fixed.

    Attributes:
        name: Of the protocol.
        size: (H, W) of the rendered images.
        seed: What the perturbations were drawn with.
        ranges: What from: the name of a preset, or ranges.
        pairs: The pairs, in order.
    """

    name: str
    size: Size
    seed: int
    ranges: Any
    pairs: tuple[PairRecord, ...]


@dataclass(frozen=True)
class RenderedPair:
    """A pair as methods see it, and its truth.

    Attributes:
        name: Of the pair.
        fixed: (H, W, 3) uint8 of optical, (H, W) float32 of SAR images.
        moving: The same.
        fixed_valid: (H, W) bool, where there is data.
        moving_valid: (H, W) bool.
        flow: (2, H, W) float32, the truth.
        valid: (H, W) bool, pixels of the fixed image whose ground both
            images show; what masked figures are taken over.
    """

    name: str
    fixed: np.ndarray
    moving: np.ndarray
    fixed_valid: np.ndarray
    moving_valid: np.ndarray
    flow: np.ndarray
    valid: np.ndarray


# ------------------------------------------------------------------- making


def file_hash(path: str | Path) -> str:
    """SHA-256 of a file.

    Raises:
        DatasetNotFoundError: If it cannot be read.
    """
    digest = hashlib.sha256()
    try:
        with open(path, 'rb') as file:
            while block := file.read(2**20):
                digest.update(block)
    except OSError as error:
        raise DatasetNotFoundError(
            f'{path}: cannot be read ({error.strerror}). Check the path and '
            'the data root of the protocol.') from error
    return digest.hexdigest()


def make_protocol(name: str, data_root: str | Path,
                  rows: Sequence[Mapping[str, Any]], size: Size,
                  ranges: Any, seed: int = 0) -> Protocol:
    """Draw a perturbation for each pair and hash its files.

    Each pair has a generator of its own, of the seed and its number, so
    that leaving out pairs at the end changes nothing for the others.

    Args:
        name: Of the protocol.
        data_root: Folder that paths are relative to.
        rows: With ``fixed_path``, ``moving_path`` and, where they are not
            optical and SAR, ``fixed_modality`` and ``moving_modality``;
            ``name``, ``alignment`` and ``moving_outline`` where wanted.
        size: (H, W).
        ranges: See :func:`~.perturbation.warp_range`.
        seed: Of the perturbations.

    Raises:
        DataFormatError: If there is no pair, or one lies elsewhere.
    """
    chosen = warp_range(ranges)
    pairs = []
    for number, row in enumerate(rows):
        rng = np.random.RandomState(
            np.random.SeedSequence([seed, number]).generate_state(4))
        files = {
            side: _describe(row[f'{side}_path'], data_root, row.get(
                f'{side}_modality', default))
            for side, default in zip(_SIDES, MODALITIES, strict=True)}
        pairs.append(PairRecord(
            str(row.get('name', f'{number:05d}')), files['fixed'],
            files['moving'], draw(size, chosen, rng),
            _tuples(row.get('alignment', PairRecord.alignment)),
            _tuples(row.get('moving_outline', ()))))
    made = Protocol(
        name, (int(size[0]), int(size[1])), int(seed), ranges if isinstance(
            ranges, str) else dict(vars(chosen)), tuple(pairs))
    return parse_protocol(to_json(made), name)


def _describe(path: str | Path, root: str | Path, modality: str
              ) -> ImageFile:
    whole = Path(path)
    whole = whole if whole.is_absolute() else Path(root) / whole
    try:
        relative = whole.resolve().relative_to(Path(root).resolve())
    except ValueError as error:
        raise DataFormatError(
            f'{whole} does not lie in the data root {root}: a protocol '
            'names files relative to it.') from error
    return ImageFile(relative.as_posix(), file_hash(whole), modality)


def _tuples(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        value = value.tolist()
    return tuple(map(_tuples, value)) if isinstance(
        value, (list, tuple)) else value


def to_json(protocol: Protocol) -> dict[str, Any]:
    """Plain values of a protocol."""
    pairs = []
    for pair in protocol.pairs:
        row: dict[str, Any] = dict(
            name=pair.name, fixed=dict(vars(pair.fixed)),
            moving=dict(vars(pair.moving)),
            perturbation=pair.perturbation.to_dict(),
            alignment=[list(r) for r in pair.alignment])
        if pair.moving_outline:
            row['moving_outline'] = [list(p) for p in pair.moving_outline]
        pairs.append(row)
    return dict(format=FORMAT, version=VERSION, name=protocol.name,
                size=list(protocol.size), seed=protocol.seed,
                ranges=protocol.ranges, pairs=pairs)


def write_protocol(protocol: Protocol, path: str | Path) -> None:
    """Write a protocol, whole or not at all; a line for each pair."""
    content = to_json(protocol)
    pairs = content.pop('pairs')
    head = json.dumps(content, indent=1)[:-2]
    with atomic_write(path) as file:
        file.write(f'{head},\n "pairs": [\n')
        file.write(',\n'.join(f'  {json.dumps(p)}' for p in pairs))
        file.write('\n ]\n}\n')


# ------------------------------------------------------------------ reading


def read_protocol(path: str | Path) -> Protocol:
    """Read and check a protocol.

    Raises:
        DatasetNotFoundError: If there is no such file.
        DataFormatError: If it is no valid protocol.
    """
    try:
        text = Path(path).read_text(encoding='utf-8')
    except OSError as error:
        raise DatasetNotFoundError(
            f'{path}: cannot be read ({error.strerror}). Protocols are made '
            'by tools/prepare_data/make_registration_protocol.py.') \
            from error
    except UnicodeDecodeError as error:
        raise DataFormatError(f'{path}: is no text file.') from error
    try:
        content = json.loads(text)
    except (json.JSONDecodeError, RecursionError) as error:
        raise DataFormatError(
            f'{path}: is no JSON ({error}). Make it again.') from error
    return parse_protocol(content, str(path))


def parse_protocol(content: Any, where: str) -> Protocol:
    """A protocol of plain values.

    Raises:
        DataFormatError: If anything in it cannot be used.
    """
    keys = {'format', 'version', 'name', 'size', 'seed', 'ranges', 'pairs'}
    if not isinstance(content, dict) or content.get('format') != FORMAT:
        raise DataFormatError(
            f'{where}: is no registration protocol: "format" must be '
            f'{FORMAT!r}.')
    if content.get('version') != VERSION or set(content) != keys:
        raise DataFormatError(
            f'{where}: version {content.get("version")!r} with the keys '
            f'{sorted(content)}; this package reads version {VERSION} with '
            f'{sorted(keys)}.')
    size = _size(content['size'], where)
    rows = content['pairs']
    if not isinstance(rows, list) or not rows:
        raise DataFormatError(f'{where}: has no pairs.')
    pairs = tuple(
        _parse_pair(row, size, f'{where}, pair {number}')
        for number, row in enumerate(rows))
    names = [pair.name for pair in pairs]
    if len(set(names)) < len(names):
        double = next(n for n in names if names.count(n) > 1)
        raise DataFormatError(
            f'{where}: the name {double!r} occurs more than once.')
    if not isinstance(content['seed'], int):
        raise DataFormatError(
            f'{where}: seed {content["seed"]!r} is no whole number.')
    return Protocol(str(content['name']), size, content['seed'],
                    content['ranges'], pairs)


def _size(value: Any, where: str) -> Size:
    if not (isinstance(value, list) and len(value) == 2 and all(
            isinstance(v, int) and not isinstance(v, bool)
            and 16 <= v <= 16384 for v in value)):
        raise DataFormatError(
            f'{where}: size {value!r}; expected [height, width], each 16 to '
            '16384 pixels.')
    return (value[0], value[1])


def _parse_pair(row: Any, size: Size, where: str) -> PairRecord:
    needed = {'name', 'fixed', 'moving', 'perturbation', 'alignment'}
    if not isinstance(row, dict) or not needed <= set(row) or (
            set(row) - needed - {'moving_outline'}):
        raise DataFormatError(
            f'{where}: expected the keys {sorted(needed)} and maybe '
            f'moving_outline, found '
            f'{sorted(row) if isinstance(row, dict) else row!r}.')
    if not isinstance(row['name'], str) or not row['name']:
        raise DataFormatError(f'{where}: name {row["name"]!r} is no text.')
    try:
        made = Perturbation.from_dict(row['perturbation'])
        alignment = check_matrix(row['alignment'], 'alignment')
    except DataFormatError as error:
        raise DataFormatError(f'{where}: {error}') from error
    if made.size != size or alignment.shape != (2, 3):
        raise DataFormatError(
            f'{where}: the perturbation is for {made.size}, the protocol '
            f'for {size}; the alignment is {alignment.shape}, not (2, 3).')
    outline = row.get('moving_outline', [])
    if outline and np.shape(_array(outline, where)) not in [
            (n, 2) for n in range(3, 65)]:
        raise DataFormatError(
            f'{where}: moving_outline must be 3 to 64 corners [x, y].')
    return PairRecord(
        row['name'], _parse_file(row['fixed'], f'{where}, fixed'),
        _parse_file(row['moving'], f'{where}, moving'), made,
        _tuples(alignment), _tuples(outline))


def _array(value: Any, where: str) -> np.ndarray:
    try:
        array = np.asarray(value, np.float64)
    except (TypeError, ValueError) as error:
        raise DataFormatError(f'{where}: {value!r} are no numbers.') \
            from error
    if not np.isfinite(array).all():
        raise DataFormatError(f'{where}: {value!r} must be finite.')
    return array


def _parse_file(row: Any, where: str) -> ImageFile:
    keys = {'path', 'sha256', 'modality'}
    if not isinstance(row, dict) or set(row) != keys or not all(
            isinstance(v, str) for v in row.values()):
        raise DataFormatError(
            f'{where}: expected the texts {sorted(keys)}, found {row!r}.')
    parts = Path(row['path']).parts
    if Path(row['path']).is_absolute() or '..' in parts or not parts:
        raise DataFormatError(
            f'{where}: path {row["path"]!r} must lie inside the data root, '
            'without "..".')
    if len(row['sha256']) != 64 or set(row['sha256']) - set(
            '0123456789abcdef'):
        raise DataFormatError(
            f'{where}: sha256 {row["sha256"]!r} is not 64 hexadecimal '
            'digits.')
    if row['modality'] not in MODALITIES:
        raise DataFormatError(
            f'{where}: modality {row["modality"]!r}; expected one of '
            f'{", ".join(MODALITIES)}.')
    return ImageFile(**row)


# ---------------------------------------------------------------- rendering


def read_side(image: ImageFile, root: str | Path,
              check_hash: bool = True) -> np.ndarray:
    """Read an image of a protocol.

    Raises:
        DatasetNotFoundError: If it is not there.
        DataFormatError: If it is another file than the protocol names.
    """
    path = Path(root) / image.path
    if check_hash:
        found = file_hash(path)
        if found != image.sha256:
            raise DataFormatError(
                f'{path}: its SHA-256 is {found[:12]}..., the protocol was '
                f'made with {image.sha256[:12]}.... Figures on other images '
                'cannot be compared: get the original file, or make a new '
                'protocol.')
    return read_optical(path) if image.modality == 'optical' else read_sar(
        path)


def resize(image: np.ndarray, size: Size) -> np.ndarray:
    """To (H, W): means of areas where it shrinks, else bilinear."""
    if image.shape[:2] == tuple(size):
        return image
    shrinks = image.shape[0] >= size[0] and image.shape[1] >= size[1]
    return cv2.resize(
        image, size[::-1],
        interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)


def render(pair: PairRecord, size: Size, root: str | Path,
           check_hash: bool = True) -> RenderedPair:
    """The images, masks and truth of a pair.

    Args:
        pair: Of a protocol.
        size: Of the protocol.
        root: Folder that its paths are relative to.
        check_hash: Whether to compare the files with their SHA-256.
    """
    sides = [resize(read_side(image, root, check_hash), size)
             for image in (pair.fixed, pair.moving)]
    fixed, moving = sides
    alignment = np.asarray(pair.alignment, np.float64)
    full = np.ones(size, np.float32)
    fixed_valid = np.ones(size, bool)
    if not np.array_equal(alignment, np.eye(2, 3)):
        fixed = cv2.warpAffine(fixed, alignment, size[::-1])
        fixed_valid = cv2.warpAffine(full, alignment, size[::-1]) > 0.999
    before = full
    if pair.moving_outline:
        before = _inside_outline(pair.moving_outline, size)
    moved = pair.perturbation.apply(moving)
    moving_valid = pair.perturbation.apply(before) > 0.999
    flow = pair.perturbation.flow()
    # Ground that the moving image had is not always on its perturbed frame.
    valid = fixed_valid & (before > 0.999) & inside(flow, size)
    return RenderedPair(pair.name, fixed, moved, fixed_valid, moving_valid,
                        flow.astype(np.float32), valid)


def _inside_outline(outline: Sequence[Sequence[float]], size: Size
                    ) -> np.ndarray:
    """1 inside of a polygon, 0 outside, (H, W) float32."""
    mask = np.zeros(size, np.uint8)
    corners = np.rint(np.asarray(outline) * 16).astype(np.int32)
    cv2.fillPoly(mask, [corners], 1, shift=4)
    return mask.astype(np.float32)


def warp_moving(moving: np.ndarray, flow: np.ndarray) -> np.ndarray:
    """The moving image on the grid of the fixed one, float32."""
    import torch

    image = torch.from_numpy(np.atleast_3d(moving).astype(np.float32))
    out = warp(image.permute(2, 0, 1)[None],
               torch.from_numpy(np.asarray(flow, np.float32))[None])
    array = out[0].permute(1, 2, 0).numpy()
    return array[..., 0] if moving.ndim == 2 else array


@DATASETS.register_module()
class RegistrationProtocol(BaseDataset):
    """The pairs of a protocol as a data set.

    Each row has ``pair`` (:class:`PairRecord`), ``size``, ``data_root``,
    ``check_hash`` and ``pair_name``; ``osar_plugin.LoadProtocolPair``
    renders it.

    Args:
        protocol: JSON file.
        data_root: Folder that its paths are relative to.
        check_hash: Whether to compare the files with their SHA-256.
        pipeline: Transforms.
        **kwargs: Further arguments of ``BaseDataset``.
    """

    METAINFO = {'dataset_type': 'RegistrationProtocol'}

    def __init__(self, protocol: str, data_root: str,
                 check_hash: bool = True,
                 pipeline: Sequence[Buildable] = (), **kwargs: Any) -> None:
        if not isinstance(protocol, (str, Path)):
            raise ConfigError(
                f'protocol={protocol!r} must be the path of a JSON file.')
        self.protocol = read_protocol(protocol)
        self.check_hash = check_hash
        super().__init__(
            data_root=str(data_root), pipeline=list(pipeline), **kwargs)

    def load_data_list(self) -> list[dict[str, Any]]:
        """A row for each pair."""
        return [
            dict(pair=pair, size=self.protocol.size, pair_name=pair.name,
                 data_root=self.data_root, check_hash=self.check_hash)
            for pair in self.protocol.pairs]
