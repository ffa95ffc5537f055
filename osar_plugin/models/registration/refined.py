"""A dense result made precise by tiles at full resolution.

A network sees cells of some pixels, and learned features say better where a
thing is than where its edge is. So its result is a start: the moving image is
brought onto the fixed one by its affine, and another matcher, whose tiles are
pixels, goes on from there. It goes on from the images as they lie, too, and
the more certain answer of the two is taken: a network that errs then costs
time and little else.

Legend: H W height and width in pixels, A an affine (2, 3), fixed to moving.
"""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from ...utils.geometry import Size, apply
from .estimate import Transform, estimate, uncertain_affine
from .match import (
    Match,
    Matcher,
    MatchSettings,
    grey_image,
    no_match,
    warped_onto,
)


def refine_match(first: Match, fine: Matcher, fixed: np.ndarray,
                 moving: np.ndarray, settings: MatchSettings, reach: float
                 ) -> Match:
    """Go on from a dense result with another matcher.

    Args:
        first: With a flow.
        fine: What goes on; it finds points.
        fixed: (H, W) or (H, W, C).
        moving: (h, w) or (h, w, C).
        settings: What is known of the pair.
        reach: Pixels within which ``fine`` goes on from ``first``, and
            beyond which the flow of ``first`` does not count.

    Returns:
        The points of ``fine``: what it does not confirm does not count,
        however sure the network is. Where they can be trusted there is a
        flow, too: the affine that they agree on and what the first one
        found beside its own; its certainty is 0 where the two differ by
        more than ``reach``.
    """
    size = (fixed.shape[0], fixed.shape[1])
    start = uncertain_affine(first, size)
    near = replace(settings, max_shift=max(1., reach), max_angle=0.)
    found = [fine.match(fixed, moving, settings)]
    if start is not None and start.matrix is not None:
        found.append(_from(start.matrix, fine, fixed, moving, near))
    judged = [uncertain_affine(match, size) for match in found]
    chances = [math.inf if one is None else one.chance for one in judged]
    best = int(np.argmin(chances))
    # Each count their own tries; the better of two is one of two tries more.
    points = replace(found[best], tries=found[best].tries * len(found))
    transform = judged[best]
    if not points.ok and start is not None:
        return no_match('The network found an affine that no tiles confirm. '
                        + points.reason)
    if transform is None or not estimate(points, 'affine', size).ok:
        return points
    flow, certainty = _corrected(first, start, transform, size, reach)
    return replace(points, flow=flow, certainty=certainty)


def _from(matrix: np.ndarray, fine: Matcher, fixed: np.ndarray,
          moving: np.ndarray, settings: MatchSettings) -> Match:
    """Matches of ``fine`` on the moving image brought onto the fixed."""
    grey, valid = grey_image(moving, settings.moving_valid, 'moving')
    image, known = warped_onto(grey, valid, matrix, fixed.shape)
    found = fine.match(fixed, image, replace(settings, moving_valid=known))
    return replace(
        found, points_moving=apply(matrix, found.points_moving),
        moving_size=(grey.shape[0], grey.shape[1]))


def _corrected(first: Match, start: Transform | None, found: Transform,
               size: Size, reach: float) -> tuple[np.ndarray, np.ndarray]:
    """A dense flow on the better affine, and its certainty."""
    whole = found.flow(size)
    if first.flow is None or start is None:
        return whole, np.zeros(size, np.float32)
    agrees = np.hypot(*(first.flow - whole)) <= reach
    local = np.where(agrees, first.flow - start.flow(size), 0)
    sure = np.ones(size) if first.certainty is None else first.certainty
    return (whole + local).astype(np.float32), (
        sure * agrees).astype(np.float32)
