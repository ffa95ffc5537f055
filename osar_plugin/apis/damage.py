"""Building damage of whole scenes.

    inferencer = DamageInferencer('configs/codemae_bright.py', 'best.pth')
    report = inferencer.assess('pre.tif', 'post.tif', 'damage.tif',
                               picture='damage.png', table='damage.csv')
    report.counts.rows()

The optical image before and the SAR image after an event show the same
ground pixel by pixel. They are read in windows, so that memory depends on
the width of a scene alone; maps are written as they come.

Legend: H W height and width in pixels.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from contextlib import ExitStack, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from mmengine.config import Config
from mmengine.device import get_device
from mmengine.logging import print_log
from torch import Tensor

from ..datasets.bright import CLASSES, PALETTE
from ..models.damage.damageformer import (
    BUILDING_CLASSES,
    DAMAGE_CLASSES,
    DamageFormer,
    decide,
)
from ..models.damage.inference import SlideSettings, sliding_strips
from ..registry import INFERENCERS, MODELS
from ..utils.checkpoint import checkpoint_file, load_checkpoint, sha256_of
from ..utils.config import load_config
from ..utils.devices import half_precision
from ..utils.errors import ConfigError
from ..utils.progress import progress_bar
from ..version import __version__
from ..visualization.damage import Panel, draw_assessment
from ..visualization.reid import write_png
from .damage_counts import NODATA, DamageCounter, DamageCounts
from .damage_output import (
    EMPTY,
    ClassView,
    MapWriter,
    check_outputs,
    legend_of,
    table_text,
)
from .damage_scene import DamageScene, open_scene
from .registration_output import write_text
from .registration_raster import Box

TEXT = 600
"""Longest side of a panel that text of its usual size goes with, pixels."""

BUILDING_PALETTE = ((0, 0, 0), (255, 255, 255))


class Strip(NamedTuple):
    """Rows of the maps that are complete.

    Attributes:
        row: The first one.
        damage: (rows, W) uint8, 0 to 3, 255 without data.
        building: (rows, W) uint8, 0 or 1, 255 without data.
    """

    row: int
    damage: np.ndarray
    building: np.ndarray


@dataclass(frozen=True)
class DamageMaps:
    """A pair that was assessed in memory.

    Attributes:
        damage: (H, W) uint8: 0 background, 1 intact, 2 damaged, 3
            destroyed, 255 without data.
        building: (H, W) uint8, 0 or 1, 255 without data.
        counts: Buildings and areas.
    """

    damage: np.ndarray
    building: np.ndarray
    counts: DamageCounts


@dataclass(frozen=True)
class DamageReport:
    """A pair whose maps were written.

    Attributes:
        size: (H, W).
        counts: Buildings and areas.
        outputs: The files.
    """

    size: tuple[int, int]
    counts: DamageCounts
    outputs: tuple[Path, ...]


@INFERENCERS.register_module()
class DamageInferencer:
    """Pairs of images in, maps of building damage out.

    Weights are read without unpickling.

    Args:
        config: Path of the config of a DamageFormer, or a config.
        checkpoint: Its weights, of this package or official; or the work
            dir of a training.
        device: Where to run; by default what MMEngine finds.
        amp: Half precision: ``'auto'``, True or False.
        mask_by_building: Damage only where the building head sees one; None
            for what the config says.
        show_progress: Show a bar on stderr; by default only on a terminal.
        **settings: Fields of :class:`~osar_plugin.models.damage.
            SlideSettings` (window, stride, batch_size, blend, trim) over
            those of the config. A config that looks at whole images is
            given windows of 1024, the size of its tiles. ``blend`` is
            ``'ramp'`` unless said otherwise here: a network with global
            attention says something else of a pixel in every window, and
            the ``'mean'`` of the published protocol, which configs keep for
            evaluation, shows the windows' borders as steps. A ramp spreads
            the difference over the overlap; it does not take it away.

    Raises:
        ConfigError: If the config or a setting cannot be used.
        CheckpointError: If the weights cannot be used.
    """

    def __init__(self, config: str | Path | Config | dict,
                 checkpoint: str | Path, device: str | None = None,
                 amp: bool | str = False,
                 mask_by_building: bool | None = None,
                 show_progress: bool | None = None,
                 **settings: Any) -> None:
        self.device = torch.device(device or get_device())
        self.dtype = half_precision(amp, self.device)
        weights = checkpoint_file(checkpoint)
        self.model = build_model(config)
        self.settings = scene_settings(self.model.settings, settings)
        load_checkpoint(self.model, weights).require_complete()
        self.model.to(self.device).eval().requires_grad_(False)
        self.mask_by_building = (
            self.model.mask_by_building if mask_by_building is None
            else mask_by_building)
        self.show_progress = (
            sys.stderr.isatty() if show_progress is None else show_progress)
        self._weights = sha256_of(weights)

    def __call__(self, pre: Any, post: Any, min_pixels: int = 1,
                 **reading: Any) -> DamageMaps:
        """Assess a pair in memory.

        Args:
            pre: Optical, before: a file, or an array (H, W, 3).
            post: SAR, after: a file, or an array (H, W).
            min_pixels: Buildings with fewer are not counted.
            **reading: Further arguments of :func:`~.damage_scene.
                open_scene`.

        Raises:
            OSARError: If the images cannot be used.
        """
        scene = open_scene(pre, post, **reading)
        counter = DamageCounter(min_pixels)
        damage, building = (np.empty(scene.size, np.uint8) for _ in '12')
        for strip in self.strips(scene):
            rows = slice(strip.row, strip.row + len(strip.damage))
            damage[rows], building[rows] = strip.damage, strip.building
            counter.add(strip.damage, strip.building)
        return DamageMaps(damage, building, counted(counter, scene))

    def assess(self, pre: Any, post: Any, out: str | Path,
               building: str | Path | None = None,
               picture: str | Path | None = None,
               table: str | Path | None = None,
               min_pixels: int = 1, **reading: Any) -> DamageReport:
        """Assess a pair and write what was found.

        Every file appears whole or not at all.

        Args:
            pre: See :meth:`__call__`.
            post: See there.
            out: The map of damage: a GeoTIFF, on the pixels of the pair and
                with its georeference, or a PNG; both with a colour table.
            building: The map of buildings, in the same way.
            picture: A PNG with both images, the map and a legend.
            table: Counts and areas, as ``.csv`` or ``.json``.
            min_pixels: See :meth:`__call__`.
            **reading: See there.

        Raises:
            ConfigError: If an output cannot be written.
            OSARError: If the images cannot be used.
        """
        paths = check_outputs(
            out, building, picture, table,
            [Path(x) for x in (pre, post) if isinstance(x, (str, Path))])
        scene = open_scene(pre, post, **reading)
        counter = DamageCounter(min_pixels)
        view = ClassView(scene.size)
        with ExitStack() as stack:
            writers = [stack.enter_context(MapWriter(
                path, scene, names, palette, self._tags(scene)))
                for path, names, palette in (
                    (paths['out'], CLASSES, PALETTE),
                    (paths.get('building'), ('none', 'building'),
                     BUILDING_PALETTE)) if path is not None]
            for strip in self.strips(scene):
                counter.add(strip.damage, strip.building)
                view.add(strip.damage)
                for writer, pixels in zip(
                        writers, (strip.damage, strip.building),
                        strict=False):
                    writer.write(strip.row, pixels)
        counts = counted(counter, scene)
        if 'picture' in paths:
            write_png(self._picture(scene, view, counts), paths['picture'])
        if 'table' in paths:
            write_text(paths['table'], table_text(
                counts, scene, paths['table'].suffix.lower()))
        return DamageReport(scene.size, counts, tuple(paths.values()))

    def strips(self, scene: DamageScene) -> Iterator[Strip]:
        """Maps of a scene, from top to bottom, as they are complete."""
        count = BUILDING_CLASSES + DAMAGE_CLASSES
        strips = sliding_strips(
            scene.size, count, scene.tile, self._predict, self.settings,
            self.device)
        bar = (progress_bar('Assessing') if self.show_progress
               else nullcontext(lambda done, total: None))
        with bar as show:
            for row, logits in strips:
                damage, building = (
                    classes.cpu().numpy() for classes in decide(
                        logits, self.mask_by_building))
                empty = ~scene.valid(row, len(damage))
                damage[empty], building[empty] = NODATA, NODATA
                show(row + len(damage), scene.size[0])
                yield Strip(row, damage, building)

    def _predict(self, parts: list[tuple[Tensor, Tensor]]) -> Tensor:
        """Logits (n, 6, h, w) of windows."""
        pre, post = (list(side) for side in zip(*parts, strict=True))
        inputs = self.model.data_preprocessor(
            dict(inputs=dict(pre=pre, post=post)))['inputs']
        with torch.inference_mode(), torch.autocast(
                self.device.type, self.dtype or torch.bfloat16,
                enabled=self.dtype is not None):
            return self.model.window_logits(inputs['pre'], inputs['post'])

    def _tags(self, scene: DamageScene) -> dict[str, str]:
        return dict(
            TIFFTAG_SOFTWARE=f'osar_plugin {__version__}',
            OSAR_PLUGIN_WEIGHTS=self._weights,
            OSAR_PLUGIN_PRE=Path(scene.pre.name).name,
            OSAR_PLUGIN_POST=Path(scene.post.name).name)

    def _picture(self, scene: DamageScene, view: ClassView,
                 counts: DamageCounts) -> np.ndarray:
        height, width = scene.size
        pre, post, valid = scene.read(Box(0, 0, width, height), view.k)
        title = (f'{Path(scene.pre.name).name} and '
                 f'{Path(scene.post.name).name}')
        sides = [pre.transpose(1, 2, 0).copy(),
                 np.repeat(post[0][..., None], 3, 2)]
        for side in sides:
            side[~valid] = EMPTY
        block = f' of {view.k} x {view.k} pixels' if view.k > 1 else ''
        mean, worst = (f', {word}{block}' if block else ''
                       for word in ('mean', 'worst'))
        return draw_assessment(
            [Panel(f'before, optical{mean}', sides[0]),
             Panel(f'after, SAR{mean}', sides[1]),
             Panel(f'building damage{worst}', view.picture(pre[1]))],
            legend_of(counts, height * width), title,
            max(1., max(pre.shape[1:]) / TEXT))


def counted(counter: DamageCounter, scene: DamageScene) -> DamageCounts:
    """What was counted; says so where there was nothing to look at."""
    counts = counter.result(scene.pixel_area())
    if not counts.assessed_pixels:
        print_log(
            f'{scene.pre.name} and {scene.post.name}: no pixel has data in '
            'both images, so nothing was assessed. Check their nodata values '
            'and masks (gdalinfo -stats), and that they overlap.',
            'current', logging.WARNING)
    return counts


def build_model(config: str | Path | Config | dict) -> DamageFormer:
    """The DamageFormer of a config, with random weights.

    Raises:
        ConfigError: If it is of another model.
    """
    if isinstance(config, (str, Path)):
        config = load_config(config)
    model = config.get('model') if isinstance(config, (dict, Config)) else (
        None)
    if model is None:
        raise ConfigError(
            'Give the config of a DamageFormer, such as '
            'configs/codemae_bright.py: the copy inside a checkpoint is not '
            'used, because a config is a program.')
    built = MODELS.build({**model, 'init_cfg': None})
    if not isinstance(built, DamageFormer):
        raise ConfigError(
            f'{type(built).__name__} assesses no damage; give the config of '
            'an osar_plugin.DamageFormer, e.g. configs/codemae_bright.py.')
    return built


def scene_settings(base: SlideSettings,
                   changes: dict[str, Any]) -> SlideSettings:
    """Settings for scenes of any size.

    Args:
        base: Of the model; one for whole images becomes windows of 1024
            that overlap by half.
        changes: Over these; None leaves a value, of ``blend`` ``'ramp'``.

    Raises:
        ConfigError: If a setting is not known or out of range.
    """
    known = set(SlideSettings.__dataclass_fields__) - {'mode'}
    wrong = set(changes) - known
    if wrong:
        raise ConfigError(
            f'{", ".join(sorted(wrong))}: no setting of windows; there are '
            f'{", ".join(sorted(known))}.')
    if base.mode == 'whole':
        base = replace(base, window=1024, stride=512)
    given = {k: v for k, v in changes.items() if v is not None}
    if 'window' in given and 'stride' not in given:
        given['stride'] = max(1, given['window'] // 2)
    return replace(base, **{'mode': 'slide', 'blend': 'ramp', **given})
