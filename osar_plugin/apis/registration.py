"""Registration of files and arrays.

    inferencer = RegistrationInferencer('cfog', transform='affine')
    found = inferencer('optical.tif', 'sar.tif')
    if found.ok:
        found.write('sar_on_optical.tif')
        found.apply('sar_vh.tif', 'vh_on_optical.tif')
    else:
        found.reason

FIXED is the image whose position is right, MOVING the one that is brought
onto it. Both may have any size, band count and type, and any reference
system; MOVING is first laid on FIXED by their georeferences, or, where
neither has one, from border to border.
"""

from __future__ import annotations

import json
import math
import platform
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch

from ..models.registration import Matcher
from ..models.registration.baselines import resolve
from ..registry import INFERENCERS, MODELS
from ..utils.config import load_config, require_parts
from ..utils.env import installed
from ..utils.errors import ConfigError, DataFormatError
from ..utils.geometry import Size, pixel_grid
from ..utils.names import did_you_mean, nearest
from ..version import __version__
from .registration_output import (
    Grid,
    control_points,
    csv_text,
    finer,
    fit_to_source,
    points_text,
    require_writable,
    write_gcps,
    write_geotransform,
    write_resampled,
    write_text,
)
from .registration_raster import (
    RESAMPLING,
    Box,
    FileRaster,
    Raster,
    open_raster,
)
from .registration_scene import (
    Alignment,
    Found,
    Points,
    ScenePair,
    SceneSettings,
    align,
    register,
)

METHODS: dict[str, dict[str, Any]] = {
    'cfog': dict(type='osar_plugin.CFOGMatcher'),
    'sift': dict(type='osar_plugin.SIFTMatcher'),
    'orb': dict(type='osar_plugin.ORBMatcher'),
    'ecc': dict(type='osar_plugin.ECCMatcher'),
    'phase': dict(type='osar_plugin.PhaseCorrelationMatcher'),
    'soma': dict(type='osar_plugin.SOMAMatcher',
                 refine=dict(type='osar_plugin.CFOGMatcher'))}
"""Matchers by name."""

# What method='soma' is without a model of the user's: trained on rendered
# pairs, see the config.
PACKAGE = Path(__file__).resolve().parents[1]
SOMA_CONFIG = PACKAGE / '.mim/configs/demo/soma_light_ospretrain.py'
SOMA_WEIGHTS = PACKAGE / 'weights/soma_light.safetensors'

TRANSFORMS = ('affine', 'poly2', 'tps', 'flow')
WAYS = ('resampled', 'geotransform', 'gcps')


def build_matcher(method: Any, options: Mapping[str, Any] | None = None
                  ) -> Matcher:
    """A matcher of a name, a config, ``'module:function'`` or an object.

    Args:
        method: A key of :data:`METHODS`; or the others.
        options: Arguments beside the name.

    Raises:
        ConfigError: If there is no such matcher.
    """
    options = dict(options or {})
    if isinstance(method, Mapping):
        return _built({**method, **options})
    if not isinstance(method, str):
        if not callable(getattr(method, 'match', None)):
            method = dict(type='osar_plugin.CallableMatcher',
                          function=resolve(method))
            return _built({**method, **options})
        return method  # type: ignore[no-any-return]
    if ':' in method:
        return _built(dict(type='osar_plugin.CallableMatcher',
                           function=method, **options))
    if method not in METHODS:
        raise ConfigError(
            f'method={method!r} is not known: use {", ".join(METHODS)}, or '
            'module:function of your own.'
            + did_you_mean(nearest(method, METHODS)))
    if method == 'soma':
        options = _soma_options(options)
    return _built({**METHODS[method], **options})


def _soma_options(options: dict[str, Any]) -> dict[str, Any]:
    """Those of a trained model; a path stands for the config's model.

    Without a model and a checkpoint they are the package's own.
    """
    given = [bool(options.get(k)) for k in ('model', 'checkpoint')]
    if not any(given):
        options.update(model=SOMA_CONFIG, checkpoint=str(SOMA_WEIGHTS))
    elif not all(given):
        raise ConfigError(
            "method='soma' needs a trained model: give both options, model "
            '(a config file, e.g. configs/soma_sen12.py) and checkpoint '
            "(its weights), or neither for the package's own.")
    model = options['model']
    if isinstance(model, (str, Path)):
        config = load_config(model)
        require_parts(config, str(model), 'used', ['model'])
        options['model'] = config.model
    return options


def _built(config: Mapping[str, Any]) -> Matcher:
    try:
        matcher: Matcher = MODELS.build(dict(config))
    except (TypeError, KeyError) as error:
        # A KeyError is what the registry says of a type it does not know,
        # also of one inside the config.
        raise ConfigError(
            f'{config.get("type")} cannot be built: {error.args[0]}. See its '
            'arguments.') from error
    return matcher


@INFERENCERS.register_module()
class RegistrationInferencer:
    """Pairs of images in, transforms and registered files out.

    Args:
        method: See :func:`build_matcher`.
        transform: ``'affine'``, ``'poly2'``, ``'tps'``, or ``'flow'``: the
            dense flow of a method that gives one, else a spline.
        options: Arguments of the method.
        align: What is known beforehand, see
            :func:`.registration_scene.align`.
        settings: How a pair is gone through, and when the result is
            refused.

    Raises:
        ConfigError: If the method or an argument cannot be used.
    """

    def __init__(self, method: Any = 'cfog', transform: str = 'affine',
                 options: Mapping[str, Any] | None = None,
                 align: str = 'auto',
                 settings: SceneSettings | None = None) -> None:
        if transform not in TRANSFORMS:
            raise ConfigError(
                f'transform={transform!r} is not known: use one of '
                f'{", ".join(TRANSFORMS)}.')
        self.method = method if isinstance(method, str) else str(
            method.get('type') if isinstance(method, Mapping)
            else type(method).__name__)
        self.transform, self.align = transform, align
        self.matcher = build_matcher(method, options)
        self.settings = settings or SceneSettings()

    def __call__(self, fixed: Any, moving: Any,
                 fixed_crs: str | None = None,
                 moving_crs: str | None = None,
                 fixed_bands: Sequence[int] | None = None,
                 moving_bands: Sequence[int] | None = None
                 ) -> Registration:
        """Register a pair.

        Args:
            fixed: File, or array (H, W) or (H, W, C).
            moving: The same.
            fixed_crs: Reference system where the file names none.
            moving_crs: The same.
            fixed_bands: Numbers from 1 of the bands that are compared;
                default: the mean of all.
            moving_bands: The same.

        Returns:
            With ``ok`` False and the reason where it failed.

        Raises:
            OSARError: If the images cannot be used; the message says which
                and what to do.
        """
        start = time.perf_counter()
        one = open_raster(fixed, fixed_crs, 'fixed')
        other = open_raster(moving, moving_crs, 'moving')
        pair = ScenePair(
            one, other, align(one, other, self.align),
            _from_zero(fixed_bands), _from_zero(moving_bands))
        found = register(pair, self.matcher, self.transform, self.settings)
        return Registration(
            pair, found, self.method, time.perf_counter() - start)


def _from_zero(bands: Sequence[int] | None) -> list[int] | None:
    return None if bands is None else [band - 1 for band in bands]


@dataclass(frozen=True)
class Registration:
    """A registered pair, or one that failed.

    Attributes:
        pair: The images and what was known of them.
        found: The transform and what it rests on.
        method: Name of the matcher.
        seconds: That it took.
    """

    pair: ScenePair
    found: Found
    method: str
    seconds: float = field(default=math.nan)

    @property
    def ok(self) -> bool:
        """Whether the registration can be used."""
        return self.found.transform.ok

    @property
    def reason(self) -> str:
        """Why it cannot."""
        return self.found.transform.reason

    @property
    def grid(self) -> Grid:
        """Of the fixed image."""
        return Grid(self.pair.fixed.size, self.pair.fixed.place)

    def points(self, points: np.ndarray) -> np.ndarray:
        """Pixels of FIXED to pixels of MOVING, (N, 2), centres at integers.

        Raises:
            DataFormatError: If the registration failed.
        """
        self._require_ok()
        return self.pair.alignment.points(
            self.found.transform.points(np.asarray(points, np.float64)))

    def matrix(self) -> np.ndarray:
        """The least-squares affine of :meth:`points`, (2, 3)."""
        self._require_ok()
        return fit_to_source(self.grid, self.pair.moving, self.points)[0]

    def flow(self, size: Size | None = None) -> np.ndarray:
        """Displacement on the grid of FIXED after alignment.

        Args:
            size: Of the result, (H, W); default: that of the overview.

        Returns:
            (2, H, W) float32, in pixels of FIXED.
        """
        self._require_ok()
        size = size or self.found.fixed_mask.shape
        height, width = self.pair.fixed.size
        grid = pixel_grid(size, torch.float64).numpy().reshape(2, -1).T
        at = (grid + 0.5) * np.array([
            width / size[1], height / size[0]]) - 0.5
        moved = self.found.transform.points(at) - at
        return moved.T.reshape(2, *size).astype(np.float32)

    def moved_view(self) -> tuple[np.ndarray, np.ndarray]:
        """MOVING on the overview of FIXED, (H, W) float32, and its mask."""
        self._require_ok()
        height, width = self.pair.fixed.size
        return self.pair.moving_part(
            Box(0, 0, width, height), self.found.factor,
            self.found.transform.points)

    def certainty(self) -> np.ndarray:
        """Share of agreeing tie points around each overview pixel, 0..1.

        Of dense methods their own certainty. Tie points weigh by a Gaussian
        of an eighth of the longer side; far from all of them it is 0.
        """
        match, transform = self.found.match, self.found.transform
        size = self.found.fixed_mask.shape
        if match.certainty is not None and self.found.factor == 1:
            return np.asarray(match.certainty, np.float32)
        step = 8
        small = (max(2, size[0] // step), max(2, size[1] // step))
        sums = np.zeros((2, *small), np.float32)
        at = (match.points_fixed + 0.5) / (self.found.factor * step)
        keep = (at >= 0).all(1) & (at < np.array(small[::-1])).all(1)
        x, y = at[keep].astype(int).T
        if len(transform.inliers) == len(at):
            np.add.at(sums[0], (y, x), transform.inliers[keep])
        np.add.at(sums[1], (y, x), 1)
        sigma = max(small) / 8
        agree, total = (cv2.GaussianBlur(s, (0, 0), sigma) for s in sums)
        # A tenth of an even cover counts as nothing.
        floor = 0.1 * max(len(at), 1) / (small[0] * small[1])
        return cv2.resize(agree / (total + floor), size[::-1])

    # ------------------------------------------------------------- output

    def write(self, path: str | Path, way: str = 'resampled',
              resampling: str = 'cubic') -> None:
        """Write MOVING, registered.

        Args:
            path: ``.tif`` or, resampled, ``.png``; ``.points`` (QGIS) and
                ``.csv`` hold control points alone.
            way: ``'resampled'`` onto the grid of FIXED; ``'geotransform'``:
                a copy with another geotransform, of affines;
                ``'gcps'``: a copy with ground control points.
            resampling: ``'nearest'``, ``'bilinear'`` or ``'cubic'``.

        Raises:
            ConfigError: If that cannot be written.
            DataFormatError: If the registration failed.
        """
        self._write(Path(path), self.pair.moving, self.points, way,
                    resampling, self.grid)

    def apply(self, source: Any, path: str | Path, way: str = 'resampled',
              resampling: str = 'cubic', own_resolution: bool = False
              ) -> None:
        """Write a further file of MOVING's ground, registered alike.

        It is laid on MOVING by georeference where both have one, else from
        border to border.

        Args:
            source: A file or array, of any resolution.
            path: See :meth:`write`, as the following.
            way: See there.
            resampling: See there.
            own_resolution: Resample onto the ground of FIXED in pixels of
                about the source's size, not onto FIXED's pixels.
        """
        raster = open_raster(source, None, 'source')
        onto = align(self.pair.moving, raster, _how(self.pair.moving, raster))

        def points(at: np.ndarray) -> np.ndarray:
            return onto.points(self.points(at))

        grid = self.grid
        if own_resolution:
            matrix, _ = fit_to_source(grid, raster, points)
            x, y = np.linalg.norm(matrix[:, :2], axis=0)
            grid = finer(grid, (1 / float(x), 1 / float(y)))
        self._write(Path(path), raster, points, way, resampling, grid)

    def _write(self, path: Path, source: Raster, points: Points, way: str,
               resampling: str, grid: Grid) -> None:
        self._require_ok()
        check_output(path, way, resampling, self.found.transform.kind)
        require_writable(path, self.inputs(source))
        bends = self.found.transform.kind != 'affine'
        bends = bends or self.pair.alignment.matrix is None
        note = f'{self.method} {self.found.transform.kind} {__version__}'
        suffix = path.suffix.lower()
        if suffix in ('.points', '.csv'):
            found = control_points(self.grid, source, points, bends)
            write_text(path, points_text(found, source)
                       if suffix == '.points' else csv_text(found))
        elif way == 'gcps':
            write_gcps(path, source, control_points(
                self.grid, source, points, bends), note)
        elif way == 'geotransform':
            write_geotransform(path, source, self.grid, points, note=note)
        else:
            write_resampled(
                path, source, grid, lambda at: points(grid.to_fixed(at)),
                resampling, note)

    def inputs(self, *more: Raster) -> list[Path]:
        """Files that must not be written over."""
        return [raster.path if isinstance(raster, FileRaster)
                else Path(raster.name)
                for raster in (self.pair.fixed, self.pair.moving, *more)]

    def _require_ok(self) -> None:
        if not self.ok:
            raise DataFormatError(
                f'The registration failed: {self.reason} Nothing can be '
                'written.')

    def report(self) -> dict[str, Any]:
        """What is known of the registration, for JSON."""
        found, transform = self.found, self.found.transform
        inside = transform.residuals[transform.inliers]
        count = len(found.match.points_fixed)
        result: dict[str, Any] = dict(
            ok=self.ok, reason=self.reason, method=self.method,
            transform=transform.kind, fixed=_about(self.pair.fixed),
            moving=_about(self.pair.moving),
            alignment=_about_alignment(self.pair.alignment),
            matches=count, inliers=int(transform.inliers.sum()),
            inlier_share=float(transform.inliers.mean()) if len(
                transform.inliers) else None,
            log10_chance=transform.chance,
            residuals_px=_quantiles(inside), confirmation=found.check,
            tiles=dict(matched=found.tiles[0], tried=found.tiles[1]),
            overview_factor=found.factor, seconds=self.seconds,
            versions=versions())
        if self.ok:
            result.update(
                matrix_fixed_to_moving=self.matrix().tolist(),
                matrix_convention='pixels, centres at integers; x, y of '
                'MOVING from x, y of FIXED; least squares if it bends',
                matrix_after_alignment=np.asarray(
                    transform.matrix).tolist(),
                shift_at_centre_px=self._central_shift())
        plain: dict[str, Any] = _finite(result)
        return plain

    def _central_shift(self) -> list[float]:
        height, width = self.pair.fixed.size
        centre = np.array([[(width - 1) / 2, (height - 1) / 2]])
        shift = self.found.transform.points(centre) - centre
        return [float(value) for value in shift[0]]

    def write_report(self, path: str | Path, **more: Any) -> None:
        """Write :meth:`report` as JSON, of failed registrations, too."""
        text = json.dumps(_finite({**self.report(), **more}), indent=1)
        write_text(Path(path), text + '\n')


def _how(moving: Raster, source: Raster) -> str:
    usable = moving.place is not None and (
        moving.place.transform is not None) and source.place is not None
    return 'georeference' if usable else 'size'


def check_output(path: Path, way: str, resampling: str, kind: str) -> None:
    """Refuse an output that cannot be, before any work.

    Raises:
        ConfigError: With what to do.
    """
    if way not in WAYS or resampling not in RESAMPLING:
        raise ConfigError(
            f'way={way!r}, resampling={resampling!r}: expected one of '
            f'{", ".join(WAYS)}, and of {", ".join(RESAMPLING)}.')
    known = ('.tif', '.tiff', '.png', '.points', '.csv')
    suffix = path.suffix.lower()
    if suffix not in known:
        raise ConfigError(
            f'The output {path} must end in one of {", ".join(known)}.')
    if suffix == '.png' and way != 'resampled':
        raise ConfigError(
            f'The output {path} cannot hold a georeference; name it .tif.')
    if way == 'geotransform' and kind != 'affine' and suffix in (
            '.tif', '.tiff'):
        raise ConfigError(
            f'A geotransform cannot hold the transform {kind!r}: use '
            "transform='affine', or the way 'gcps' or 'resampled'.")


def _about(raster: Raster) -> dict[str, Any]:
    place = raster.place
    about: dict[str, Any] = dict(
        name=raster.name, size=list(raster.size), bands=raster.count,
        dtype=str(raster.dtype), nodata=raster.nodata)
    if place is not None:
        about['crs'] = None if place.crs is None else place.crs.to_string()
        about['geotransform'] = None if place.transform is None else (
            place.transform.tolist())
    return about


def _about_alignment(alignment: Alignment) -> dict[str, Any]:
    matrix = alignment.matrix
    return dict(how=alignment.how, matrix=None if matrix is None else
                np.asarray(matrix).tolist(), reprojected=matrix is None)


def _quantiles(values: np.ndarray) -> dict[str, float]:
    if not len(values):
        return {}
    return dict(
        rmse=float(np.sqrt((values**2).mean())),
        median=float(np.median(values)),
        p95=float(np.quantile(values, 0.95)), max=float(values.max()))


def versions() -> dict[str, str | None]:
    """Of what the numbers depend on."""
    return dict(
        osar_plugin=__version__, python=platform.python_version(),
        numpy=np.__version__, torch=torch.__version__,
        opencv=cv2.__version__, rasterio=installed('rasterio'))


def _finite(value: Any) -> Any:
    """The same content with None where JSON has no number."""
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
