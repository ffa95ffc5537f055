"""Registration of optical and SAR images.

From two images to a transform::

    fixed (H, W[, C]), moving (h, w[, C]), masks where there is data
      | a Matcher (match.Matcher): baselines.CFOGMatcher, SIFTMatcher,
      |   ORBMatcher, ECCMatcher, PhaseCorrelationMatcher, CallableMatcher
      v
    match.Match: points (N, 2) of fixed and of moving, scores (N,),
      or a dense flow (2, H, W)
      | estimate.estimate: random samples, least squares (fitting) on the
      |   pairs that agree, and whether that proves anything
      v
    estimate.Transform: affine | homography | poly2 | tps | flow, with
      inliers, residuals, ok and the reason where it failed
      | .flow(size), .points(points)
      v
    flow (2, H, W): moving(x + f(x)) = fixed(x)

Conventions of coordinates, matrices and flows are in ``geometry``. ``cfog``
holds the mathematics of the tile matcher.
"""

from __future__ import annotations

from .baselines import (
    CallableMatcher,
    CFOGMatcher,
    ECCMatcher,
    ORBMatcher,
    PhaseCorrelationMatcher,
    SIFTMatcher,
)
from .estimate import EstimateSettings, Transform, estimate
from .match import Match, Matcher, MatchSettings

__all__ = [
    'CFOGMatcher', 'CallableMatcher', 'ECCMatcher', 'EstimateSettings',
    'Match', 'MatchSettings', 'Matcher', 'ORBMatcher',
    'PhaseCorrelationMatcher', 'SIFTMatcher', 'Transform', 'estimate'
]
