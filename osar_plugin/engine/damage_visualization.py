"""Pictures of a test of building damage."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from mmengine.hooks import Hook
from torch import Tensor

from ..registry import HOOKS
from ..structures import DamageDataSample
from ..utils.config_values import require_range
from ..visualization.damage import Panel, draw_assessment
from ..visualization.reid import write_png

UNKNOWN = (120, 120, 120)  # where the truth is not known


@HOOKS.register_module()
class DamageVisualizationHook(Hook):
    """Write pairs with their maps of damage during a test.

    ``tools/test.py --show-dir DIR`` adds it. A picture for each shown pair,
    ``<image_id>.png``: before, after, the predicted map and, where there is
    one, the true map.

    Args:
        out_dir: Where the pictures go.
        num_images: Pairs shown, evenly over the data set.

    Raises:
        ConfigError: If ``num_images`` is less than 1.
    """

    priority = 'LOW'

    def __init__(self, out_dir: str, num_images: int = 24) -> None:
        require_range(1, 2**31, num_images=num_images)
        self.out_dir = out_dir
        self.num_images = num_images
        self._wanted: set[int] = set()

    def before_test_epoch(self, runner: Any) -> None:
        """Choose the pairs."""
        count = len(runner.test_dataloader.dataset)
        self._wanted = set(np.linspace(
            0, count - 1, min(self.num_images, count)).round().astype(
                int).tolist())

    def after_test_iter(
            self, runner: Any, batch_idx: int, data_batch: Any = None,
            outputs: Sequence[DamageDataSample] | None = None) -> None:
        """Draw what is chosen of a batch."""
        meta = runner.test_dataloader.dataset.metainfo
        pairs = zip(data_batch['inputs']['pre'],
                    data_batch['inputs']['post'], outputs or (), strict=True)
        for pre, post, sample in pairs:
            if sample.sample_idx in self._wanted:
                write_png(
                    draw_sample(pre, post, sample, meta['classes'],
                                meta['palette']),
                    Path(self.out_dir, f'{sample.image_id}.png'))


def draw_sample(pre: Tensor, post: Tensor, sample: DamageDataSample,
                classes: Sequence[str],
                palette: Sequence[tuple[int, int, int]]) -> np.ndarray:
    """A pair, its predicted and its true map beside each other.

    Args:
        pre: (3, H, W) uint8, the optical image before the event.
        post: (1, H, W) uint8, the SAR image after it.
        sample: With ``pred_damage`` and, if known, ``gt_damage``.
        classes: Names of the states.
        palette: Their colours.

    Returns:
        (h, w, 3) uint8.
    """
    panels = [
        Panel('before, optical', pre.permute(1, 2, 0).cpu().numpy()),
        Panel('after, SAR', np.repeat(
            post.permute(1, 2, 0).cpu().numpy()[..., :1], 3, 2)),
        Panel('predicted', _coloured(sample.pred_damage.data, palette))]
    if 'gt_damage' in sample:
        panels.append(Panel('true', _coloured(sample.gt_damage.data, palette)))
    legend = [
        (name, colour, '')
        for name, colour in zip(classes, palette, strict=True)]
    return draw_assessment(panels, legend, str(sample.image_id))


def _coloured(labels: Tensor,
              palette: Sequence[tuple[int, int, int]]) -> np.ndarray:
    """(h, w, 3) uint8 of (1, h, w) labels."""
    table = np.full((256, 3), UNKNOWN, np.uint8)
    table[:len(palette)] = palette
    return table[labels[0].cpu().numpy()]
