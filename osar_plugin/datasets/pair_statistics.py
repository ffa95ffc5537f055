"""Mean and deviation of optical-SAR sources, for their normalisation.

A file of statistics is JSON::

    {"format": "osar_plugin pair statistics", "version": 1,
     "sources": {"<source>": {
         "rgb": {"mean": [r, g, b], "std": [r, g, b], "images": n,
                 "pixels": n},
         "sar": {"mean": [m], "std": [s], "images": n, "pixels": n}}}}

All means and deviations are of values in [0, 1], i.e. of bytes / 255.
``tools/prepare_data/check_pairs.py`` writes it.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from osar_plugin.io import atomic_write
from osar_plugin.utils.config_values import shown
from osar_plugin.utils.errors import ConfigError, DataFormatError

FORMAT, VERSION = 'osar_plugin pair statistics', 1


class SourceStatistics(NamedTuple):
    """What the images of one source are normalised with.

    Attributes:
        rgb_mean: Red, green, blue, in [0, 1].
        rgb_std: The same.
        sar_mean: One value: SAR has one channel, or equal ones.
        sar_std: The same.
    """

    rgb_mean: tuple[float, ...]
    rgb_std: tuple[float, ...]
    sar_mean: tuple[float, ...]
    sar_std: tuple[float, ...]


# Official pre-training code of CoDe-MAE: SAR mean and deviation, optical
# means, optical deviations.
_PUBLISHED: dict[str, tuple[float, ...]] = {
    'SpaceNet6': (
        .3552, .2093, .3712, .3928, .3576, .1871, .1627, .1723),
    'DFC23_Track2': (
        .1926, .1986, .3159, .3418, .2800, .1797, .1655, .1688),
    'DFC23_Track1': (
        .1814, .1975, .3240, .3476, .2904, .2159, .1874, .1739),
    'DFC25': (
        .1941, .1369, .4920, .5066, .4548, .2164, .1811, .1765),
    'QXSLAB_SARPORT': (
        .2707, .2359, .4371, .4139, .4133, .2016, .1717, .1654),
    'OGSOD-2': (
        .4770, .2693, .3544, .3587, .3384, .2237, .2099, .2112),
    'PIE-RGB-SAR': (
        .3617, .2141, .3545, .3812, .3122, .2184, .1870, .1907),
    'YESeg-OPT-SAR': (
        .1598, .1344, .3878, .3814, .3735, .1493, .1443, .1418),
    'DDHR': (
        .2365, .2034, .2243, .2357, .2443, .1463, .1329, .1274),
    'WHU-OPT-SAR': (
        .2119, .1911, .1639, .1527, .1260, .0723, .0740, .0703),
    'SS4EO-S12': (
        .3819, .2224, .4842, .4813, .4785, .1963, .1732, .1483),
    'GFGE_SOdataset': (
        .3929, .2324, .4005, .3968, .3373, .2430, .1730, .1549),
    'EarthMiss': (
        .2871, .2626, .4147, .4097, .3867, .2342, .2022, .2002),
    'osdataset': (
        .2683, .1898, .4071, .4227, .3414, .2370, .2035, .2038),
    'Unpaired': (
        .1738, .2226, .3865, .4117, .3632, .2093, .1803, .1748),
}
#: By the folder names of OSPretrain.
OSPRETRAIN_STATISTICS = {
    source: SourceStatistics(row[2:5], row[5:8], row[0:1], row[1:2])
    for source, row in _PUBLISHED.items()}


class Moments(NamedTuple):
    """Exact sums over 8-bit images; two of them add up to one.

    Whole numbers, so that neither the order of the images nor the number of
    processes changes the last digit.

    Attributes:
        images: Number of images.
        pixels: Number of pixels.
        total: Sum of the values, for each channel.
        squares: Sum of their squares, for each channel.
    """

    images: int
    pixels: int
    total: tuple[int, ...]
    squares: tuple[int, ...]

    def __add__(self, other: object) -> Moments:
        """The moments of both collections of images."""
        if not isinstance(other, Moments):
            return NotImplemented
        return Moments(
            self.images + other.images, self.pixels + other.pixels,
            tuple(map(sum, zip(self.total, other.total, strict=True))),
            tuple(map(sum, zip(self.squares, other.squares, strict=True))))

    def mean_std(self) -> tuple[list[float], list[float]]:
        """Mean and (population) deviation of values / 255, per channel."""
        mean, std = [], []
        for total, square in zip(self.total, self.squares, strict=True):
            # Exact in whole numbers up to the one division.
            spread = square * self.pixels - total * total
            mean.append(total / self.pixels / 255)
            std.append(math.sqrt(spread) / self.pixels / 255)
        return mean, std


def moments(image: np.ndarray) -> Moments:
    """The moments of one image.

    Args:
        image: (H, W) or (H, W, C) uint8.

    Raises:
        DataFormatError: If it is not 8-bit or has no pixel.
    """
    if image.dtype != np.uint8 or not image.size:
        raise DataFormatError(
            f'An image of type {image.dtype} and shape {image.shape}: '
            '8-bit pixels are expected. Convert it to 8 bit first.')
    flat = image.reshape(image.shape[0] * image.shape[1], -1)
    # Counting bytes is exact and cheaper than squaring them.
    counts = np.stack([
        np.bincount(channel, minlength=256) for channel in flat.T])
    values = np.arange(256, dtype=np.int64)
    return Moments(
        1, len(flat), tuple((counts @ values).tolist()),
        tuple((counts @ values ** 2).tolist()))


def write_statistics(
        path: str | Path,
        sources: Mapping[str, tuple[Moments, Moments]]) -> None:
    """Write a file of statistics, whole or not at all.

    Args:
        path: A JSON file.
        sources: Optical and SAR moments of each source.
    """
    content = dict(format=FORMAT, version=VERSION, sources={
        source: dict(rgb=_entry(rgb), sar=_entry(sar))
        for source, (rgb, sar) in sorted(sources.items())})
    with atomic_write(path) as file:
        json.dump(content, file, indent=2)
        file.write('\n')


def _entry(sums: Moments) -> dict[str, Any]:
    mean, std = sums.mean_std()
    return dict(mean=mean, std=std, images=sums.images, pixels=sums.pixels)


def read_statistics(path: str | Path) -> dict[str, SourceStatistics]:
    """Read a file of statistics.

    Raises:
        ConfigError: If there is no such file.
        DataFormatError: If it is no file of statistics, or holds values
            that cannot normalise anything.
    """
    try:
        content = json.loads(Path(path).read_text(encoding='utf-8'))
    except OSError as error:
        raise ConfigError(
            f'{path}: cannot be read ({error.strerror}). Write it with '
            'tools/prepare_data/check_pairs.py.') from error
    except ValueError as error:
        raise DataFormatError(
            f'{path}: is no JSON ({error}). Write it again with '
            'tools/prepare_data/check_pairs.py.') from error
    if not isinstance(content, dict) or content.get('format') != FORMAT or (
            content.get('version') != VERSION
            or not isinstance(content.get('sources'), dict)):
        raise DataFormatError(
            f'{path}: expected "format": "{FORMAT}", "version": {VERSION} '
            'and "sources". Write it with '
            'tools/prepare_data/check_pairs.py.')
    return parse_statistics(content['sources'], str(path))


def parse_statistics(
        sources: Mapping[str, Any],
        where: str = 'statistics') -> dict[str, SourceStatistics]:
    """Statistics from plain values, as a config or a file has them.

    Args:
        sources: ``{source: {'rgb': {'mean': 3 numbers, 'std': 3 numbers},
            'sar': {'mean': 1 number, 'std': 1 number}}}``.
        where: What to call it in messages.

    Raises:
        DataFormatError: If something is missing or out of range.
    """
    return {
        source: SourceStatistics(*(
            _numbers(entry, side, kind, f'{where}: {source}')
            for side in ('rgb', 'sar') for kind in ('mean', 'std')))
        for source, entry in sources.items()}


def _numbers(
        entry: Any, side: str, kind: str, where: str) -> tuple[float, ...]:
    """Mean or deviation of one side, checked."""
    values = entry
    for key in (side, kind):
        values = values.get(key) if isinstance(values, Mapping) else None
    count = 3 if side == 'rgb' else 1
    sound = isinstance(values, Sequence) and len(values) == count and all(
        isinstance(value, (int, float)) and 0 <= value <= 1
        and (value > 0 or kind == 'mean') for value in values)
    if not sound or values is None:
        raise DataFormatError(
            f'{where}: {side}.{kind} is {shown(values)}; expected a list of '
            f'{count} numbers in 0..1'
            f'{", above 0" if kind == "std" else ""}. Images that are all '
            'alike cannot be normalised; measure again with '
            'tools/prepare_data/check_pairs.py.')
    return tuple(map(float, values))


def choose_statistics(
        statistics: str | Mapping[str, Any] | None, root: str | Path,
        default: Mapping[str, SourceStatistics]
) -> dict[str, SourceStatistics]:
    """The table that the argument of a data set stands for.

    Args:
        statistics: A JSON file, absolute or in ``root``; a mapping as in
            :func:`parse_statistics`; or None.
        root: Folder of the data set.
        default: What None stands for, and what sources fall back to that
            ``statistics`` does not name.
    """
    if statistics is None:
        return dict(default)
    if isinstance(statistics, Mapping):
        return {**default, **parse_statistics(statistics)}
    return {**default, **read_statistics(Path(root) / statistics)}


def require_statistics(
        table: Mapping[str, SourceStatistics], sources: Iterable[str],
        root: str | Path) -> None:
    """Check that every source has its statistics.

    Raises:
        ConfigError: Naming the sources that have none, and the cure.
    """
    unknown = sorted(set(sources) - set(table))
    if unknown:
        raise ConfigError(
            f'{root}: no mean and deviation are known for '
            f'{", ".join(unknown)} (known: {", ".join(sorted(table))}). '
            'Measure them with: python tools/prepare_data/check_pairs.py '
            f'{root} --statistics {Path(root) / "statistics.json"} and set '
            "statistics='statistics.json' of the data set.")
