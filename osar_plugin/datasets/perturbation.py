"""Known misregistrations: drawn, applied to an image, and as truth.

The moving image of a registered pair is warped; what was done is the truth
of the pair. An affine or a homography P takes pixels of the image as it was
to those of the image as it is given out. With an elastic part e, defined on
the grid that is given out,

    moving(y) = image(P^-1 (y + e(y))).

Conventions in :mod:`osar_plugin.utils.geometry`. Where ``image`` lies on the
grid of the fixed image, P is the transform from fixed to moving.

Legend: H W height and width in pixels, P the matrix, e the elastic part.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import cv2
import numpy as np

from osar_plugin.utils.errors import ConfigError, DataFormatError
from osar_plugin.utils.geometry import (
    Size,
    apply,
    check_matrix,
    compose,
    flow_at,
    homogeneous,
    invert,
    matrix_to_flow,
    pixel_grid,
    similarity,
)

CENTRES = ('middle', 'half')
_REMAP = 32767  # OpenCV's limit on the sides of what it remaps


@dataclass(frozen=True)
class WarpRange:
    """What a perturbation is drawn from; all uniform but the elastic part.

    Lengths are pixels of an image of side ``reference`` and scale with the
    image, so that a preset means the same ground at every size.

    Attributes:
        angle: Up to so many degrees either way.
        scale: Up to so much above and below 1.
        shift: Up to so many pixels either way, in x and in y.
        corner: Homography: each corner moves up to so many pixels either
            way, in x and in y.
        elastic: Standard deviation in pixels of the control points of the
            elastic part.
        grid: Control points along each side.
        reference: Side of the image that the lengths are of, in pixels.
        centre: Of rotation and scale: ``'middle'``, ((W - 1) / 2,
            (H - 1) / 2), or ``'half'``, (W // 2, H // 2), as released.
    """

    angle: float = 0.
    scale: float = 0.
    shift: float = 0.
    corner: float = 0.
    elastic: float = 0.
    grid: int = 5
    reference: int = 512
    centre: str = 'middle'

    def __post_init__(self) -> None:
        for name in ('angle', 'scale', 'shift', 'corner', 'elastic'):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(
                    value, (int, float)) or not 0 <= value < math.inf:
                raise ConfigError(
                    f'{name}={value!r} must be a number of at least 0.')
        if self.scale >= 1:
            raise ConfigError(
                f'scale={self.scale} must be below 1: images are scaled by '
                '1 - scale to 1 + scale.')
        if self.grid < 3 or self.reference < 1:
            raise ConfigError(
                f'grid={self.grid} and reference={self.reference} must be '
                'at least 3 and 1.')
        if self.centre not in CENTRES:
            raise ConfigError(
                f'centre={self.centre!r} is not known: use one of '
                f'{", ".join(CENTRES)}.')


# Tables of SOMA: its main results; its ablation, which is also what the
# release trains and tests with. Then the two that classical methods are
# compared under: half of the first's range of scales; the second's range.
PRESETS = {
    'soma_main': WarpRange(angle=5, scale=0.2, shift=32),
    'soma_released': WarpRange(angle=20, shift=50, centre='half'),
    'mild': WarpRange(angle=5, scale=0.1, shift=16, reference=256),
    'hard': WarpRange(angle=20, shift=25, reference=256),
    'homography': WarpRange(angle=5, scale=0.1, shift=16, corner=12,
                            reference=256),
    'elastic': WarpRange(angle=5, scale=0.1, shift=16, elastic=3,
                         reference=256)}


def warp_range(value: str | Mapping[str, Any] | WarpRange) -> WarpRange:
    """A range by the name of a preset, as a dict, or as it is.

    Raises:
        ConfigError: If the name or a key is not known.
    """
    if isinstance(value, WarpRange):
        return value
    if isinstance(value, Mapping):
        unknown = sorted(set(value) - set(WarpRange.__dataclass_fields__))
        if unknown:
            raise ConfigError(
                f'{unknown} are no ranges of a perturbation; known are '
                f'{", ".join(WarpRange.__dataclass_fields__)}.')
        return WarpRange(**value)
    if value not in PRESETS:
        raise ConfigError(
            f'{value!r} is no preset of perturbations: use one of '
            f'{", ".join(PRESETS)}, or a dict of ranges.')
    return PRESETS[value]


@dataclass(frozen=True)
class Perturbation:
    """One misregistration, in pixels of an image of ``size``.

    Attributes:
        size: (H, W) of the image before and after.
        angle: Degrees, counter-clockwise on the screen.
        scale: Factor.
        shift: (x, y).
        centre: (x, y) of rotation and scale.
        corners: Four moves (x, y) of the corners upper left, upper right,
            lower left, lower right, after rotation, scale and shift; empty
            without homography.
        control: Elastic moves [row][column] (x, y) of a regular grid over
            the image; empty without.
    """

    size: Size
    angle: float = 0.
    scale: float = 1.
    shift: tuple[float, float] = (0., 0.)
    centre: tuple[float, float] = (0., 0.)
    corners: tuple = ()
    control: tuple = ()

    @property
    def matrix(self) -> np.ndarray:
        """P: (2, 3), or (3, 3) with a homography."""
        affine = similarity(self.angle, self.scale, self.shift, self.centre)
        if not len(self.corners):
            return affine
        height, width = self.size
        source = np.array([[0, 0], [width - 1, 0], [0, height - 1],
                           [width - 1, height - 1]], np.float32)
        target = source + np.asarray(self.corners, np.float32)
        return compose(
            cv2.getPerspectiveTransform(source, target), affine)

    def elastic(self) -> np.ndarray:
        """The elastic part e, (2, H, W); bicubic between its points."""
        height, width = self.size
        control = np.asarray(self.control, np.float32)
        rows, columns = control.shape[:2]
        x = np.linspace(0, columns - 1, width, dtype=np.float32)
        y = np.linspace(0, rows - 1, height, dtype=np.float32)
        dense = cv2.remap(
            control, *np.meshgrid(x, y), cv2.INTER_CUBIC,
            borderMode=cv2.BORDER_REPLICATE)
        return dense.transpose(2, 0, 1).astype(np.float64)

    def positions(self) -> np.ndarray:
        """Where each pixel that is given out comes from, (2, H, W)."""
        grid = pixel_grid(self.size).double().numpy()
        if len(self.control):
            grid = grid + self.elastic()
        points = apply(invert(self.matrix), grid.reshape(2, -1).T)
        return np.ascontiguousarray(points.T).reshape(grid.shape)

    def flow(self, iterations: int = 20) -> np.ndarray:
        """The truth: y(x) - x with y the place that x is moved to.

        With an elastic part y + e(y) = P x is solved by repeating
        y <- P x - e(y).

        Returns:
            (2, H, W) float64.
        """
        flow = matrix_to_flow(self.matrix, self.size)
        if not len(self.control):
            return flow
        grid = pixel_grid(self.size).double().numpy()
        elastic = self.elastic()
        target = (grid + flow).reshape(2, -1).T
        place = target
        for _ in range(iterations):
            place = target - flow_at(elastic, place)
        return place.T.reshape(grid.shape) - grid

    def apply(self, image: np.ndarray, nearest: bool = False
              ) -> np.ndarray:
        """The image warped; what comes from outside is 0.

        Args:
            image: (H, W) or (H, W, C).
            nearest: Take the nearest pixel rather than mix four, for masks.

        Returns:
            Array like ``image``.

        Raises:
            DataFormatError: If the image is of another size, or too large.
        """
        if image.shape[:2] != tuple(self.size) or max(self.size) > _REMAP:
            raise DataFormatError(
                f'An image of {image.shape[:2]} cannot be warped by a '
                f'perturbation of {tuple(self.size)}: both must be alike and '
                f'no side above {_REMAP}.')
        mode = cv2.INTER_NEAREST if nearest else cv2.INTER_LINEAR
        if not len(self.control) and not len(self.corners):
            return cv2.warpAffine(
                image, self.matrix, self.size[::-1], flags=mode)
        x, y = self.positions().astype(np.float32)
        return cv2.remap(image, x, y, mode)

    def to_dict(self) -> dict[str, Any]:
        """For JSON; empty parts are left out."""
        values = {k: v for k, v in asdict(self).items() if not (
            isinstance(v, tuple) and not v)}
        return {k: _plain(v) for k, v in values.items()}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Perturbation:
        """Read what :meth:`to_dict` wrote.

        Raises:
            DataFormatError: If a value is missing, of another shape or not
                finite, or the result cannot be inverted.
        """
        if not isinstance(values, Mapping):
            raise DataFormatError(
                f'A perturbation is a dict of numbers, not {values!r}.')
        unknown = set(values) - set(cls.__dataclass_fields__)
        if unknown or 'size' not in values:
            raise DataFormatError(
                f'A perturbation has size and some of '
                f'{", ".join(cls.__dataclass_fields__)}; found '
                f'{sorted(map(str, values))}.')
        shapes: dict[str, tuple] = dict(
            size=(2,), angle=(), scale=(), shift=(2,), centre=(2,),
            corners=(4, 2))
        clean: dict[str, Any] = {}
        for name, value in values.items():
            array = _numbers(name, value)
            shape: tuple | None = shapes.get(name)
            if shape is None and (array.ndim != 3 or array.shape[2] != 2
                                  or min(array.shape[:2]) < 3):
                shape = ('rows >= 3', 'columns >= 3', 2)
            if shape is not None and array.shape != shape:
                raise DataFormatError(
                    f'{name} of a perturbation has shape {array.shape}; '
                    f'expected {shape}.')
            clean[name] = _frozen(array.tolist())
        sides = clean['size']
        if min(sides) < 1 or any(side != int(side) for side in sides):
            raise DataFormatError(
                f'size={list(sides)} of a perturbation must be two whole '
                'numbers of pixels above 0.')
        clean['size'] = (int(sides[0]), int(sides[1]))
        made = cls(**clean)
        check_matrix(made.matrix, 'The matrix of a perturbation')
        return made


def _plain(value: Any) -> Any:
    return [_plain(v) for v in value] if isinstance(
        value, (tuple, list)) else value


def _frozen(value: Any) -> Any:
    return tuple(map(_frozen, value)) if isinstance(value, list) else value


def _numbers(name: str, value: Any) -> np.ndarray:
    try:
        array = np.asarray(value, np.float64)
    except (TypeError, ValueError):
        array = np.array(np.nan)
    if not np.isfinite(array).all():
        raise DataFormatError(
            f'{name}={value!r} of a perturbation must be finite numbers.')
    return array


def draw(size: Size, ranges: WarpRange, rng: Any = np.random
         ) -> Perturbation:
    """Draw a perturbation.

    Args:
        size: (H, W) of the image.
        ranges: What from.
        rng: ``numpy.random`` or a ``RandomState``.
    """
    height, width = size
    unit = max(size) / ranges.reference
    spread = ranges.shift * unit
    angle = float(rng.uniform(-ranges.angle, ranges.angle))
    scale = 1 + float(rng.uniform(-ranges.scale, ranges.scale))
    shift = tuple(float(v) for v in rng.uniform(-spread, spread, 2))
    corners: tuple = ()
    if ranges.corner:
        reach = ranges.corner * unit
        corners = _frozen(rng.uniform(-reach, reach, (4, 2)).tolist())
    control: tuple = ()
    if ranges.elastic:
        shape = (ranges.grid, ranges.grid, 2)
        control = _frozen(
            rng.normal(0, ranges.elastic * unit, shape).tolist())
    centre = (float(width // 2), float(height // 2)) if (
        ranges.centre == 'half') else ((width - 1) / 2, (height - 1) / 2)
    return Perturbation((int(height), int(width)), angle, scale,
                        (shift[0], shift[1]), centre, corners, control)


def truth_between(before: np.ndarray, made: Perturbation) -> np.ndarray:
    """The matrix from fixed to moving, where both are matrices.

    Args:
        before: (2, 3) or (3, 3), fixed to the moving image as it was.
        made: What the moving image was then warped by; its elastic part is
            not in the matrix.
    """
    return compose(made.matrix, before) if before.shape == (
        2, 3) else compose(homogeneous(made.matrix), before)
