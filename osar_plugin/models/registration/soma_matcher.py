"""SOMA behind the interface of all matchers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import cv2
import numpy as np
import torch
from mmengine.structures import BaseDataElement
from torch import nn

from ...registry import MODELS
from ...utils.checkpoint import load_checkpoint
from ...utils.config_values import Buildable, require_range
from ...utils.errors import ConfigError
from ...utils.geometry import resize_flow
from .baselines import from_flow
from .match import Match, MatchSettings, empty_side, grey_image, no_match
from .pyramid import MODALITIES
from .refined import refine_match


@MODELS.register_module()
class SOMAMatcher:
    """Register a pair of arrays with a trained SOMA.

    Args:
        model: Config of a :class:`~.soma.SOMA`, or the finished model.
        checkpoint: Its weights, a file of ours or of the release.
        fixed: Modality of the fixed image: ``'optical'`` or ``'sar'``.
        moving: Of the moving one.
        size: Long side that both images are resized to for matching, by one
            factor; None matches them as they are.
        grid: Step in pixels at which points are taken from the flow.
        refine: Another matcher, or its config, that goes on from the result
            with tiles of pixels, see :mod:`.refined`; None leaves the network
            alone. Points are then that matcher's, the flow is corrected.
        reach: Pixels of the images as they are within which it goes on.
        device: Where it runs.

    Raises:
        ConfigError: If an argument cannot be used.
        CheckpointError: If the file cannot be used, or leaves weights
            unfilled.
    """

    def __init__(self, model: Buildable, checkpoint: str | None = None,
                 fixed: str = 'optical', moving: str = 'sar',
                 size: int | None = None, grid: int = 16,
                 refine: Any = None, reach: float = 14.,
                 device: str = 'cpu') -> None:
        for name, value in (('fixed', fixed), ('moving', moving)):
            if value not in MODALITIES:
                raise ConfigError(
                    f"{name}={value!r} is neither 'optical' nor 'sar'.")
        require_range(64, 2**15, size=size)
        require_range(1, grid=grid, reach=reach)
        self.fine = MODELS.build(refine) if isinstance(
            refine, Mapping) else refine
        if refine is not None and not callable(
                getattr(self.fine, 'match', None)):
            raise ConfigError(
                f'refine={refine!r} is no matcher: give a config such as '
                "dict(type='osar_plugin.CFOGMatcher'), or None.")
        self.model: nn.Module = model if isinstance(
            model, nn.Module) else MODELS.build(model)
        if checkpoint is not None:
            load_checkpoint(self.model, checkpoint).require_complete()
        self.model.to(device).eval()
        self.modalities = [MODALITIES.index(v) for v in (fixed, moving)]
        self.size, self.grid, self.reach = size, grid, reach

    def match(self, fixed: np.ndarray, moving: np.ndarray,
              settings: MatchSettings | None = None) -> Match:
        """See :meth:`.match.Matcher.match`."""
        settings = settings or MatchSettings()
        pairs = [(fixed, settings.fixed_valid, 'fixed'),
                 (moving, settings.moving_valid, 'moving')]
        greys = [grey_image(*pair) for pair in pairs]
        for (grey, valid), (_, _, name) in zip(greys, pairs, strict=True):
            reason = empty_side(grey, valid, name)
            if reason:
                return no_match(reason)
        shapes = [grey.shape for grey, _ in greys]
        factor = self.size / max(max(s) for s in shapes) if self.size else 1.
        sample = BaseDataElement(metainfo=dict(
            fixed_modality=self.modalities[0],
            moving_modality=self.modalities[1]))
        inputs = {}
        for (image, _, name), (grey, valid) in zip(
                pairs, greys, strict=True):
            image = np.asarray(image)
            # Colour is used where it is; anything else is one channel.
            colour = image.dtype == np.uint8 and image.shape[2:] == (3, )
            shown = _scaled(image if colour else grey, factor)
            shown = shown[..., None] if shown.ndim == 2 else shown
            inputs[name] = [torch.from_numpy(
                np.ascontiguousarray(shown.transpose(2, 0, 1)))]
            sample.set_data({f'{name}_valid': torch.from_numpy(
                _scaled(valid.astype(np.float32), factor) > 0.999)})
        with torch.no_grad():
            found = self.model.test_step(  # type: ignore[operator]
                dict(inputs=inputs, data_samples=[sample]))[0]
        match = self._as_match(found, shapes) if found.pred_ok else no_match(
            'The model is not certain of its flow: mean certainty '
            f'{float(found.pred_certainty.mean()):.2f}.')
        if self.fine is None:
            return match
        return refine_match(
            match, self.fine, fixed, moving, settings, self.reach)

    def _as_match(self, found: Any, shapes: list[Any]) -> Match:
        flow, sure = found.pred_flow.cpu(), found.pred_certainty.cpu()
        if flow.shape[1:] != shapes[0]:
            flow = resize_flow(flow, shapes[0])
            sure = torch.nn.functional.interpolate(
                sure[None, None], shapes[0], mode='bilinear',
                align_corners=False)[0, 0]
        return from_flow(flow.numpy(), sure.numpy(), self.grid, shapes[1])


def _scaled(image: np.ndarray, factor: float) -> np.ndarray:
    """An image resized by a factor; means of the area where it shrinks."""
    if factor == 1:
        return image
    height, width = image.shape[:2]
    size = (max(1, round(width * factor)), max(1, round(height * factor)))
    mode = cv2.INTER_AREA if factor < 1 else cv2.INTER_LINEAR
    return cv2.resize(image, size, interpolation=mode)
