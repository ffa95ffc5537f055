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

The learned one, :class:`SOMA`, from a batch of pairs to flows::

    inputs {fixed, moving}, each (B, C, H, W)
      | RegistrationPreprocessor: 0..1, three channels, sides that fit
      v
    (B, 3, H, W) twice
      | TwoBranchEncoder: a ResNet and FGE for each sensor, one DINOv2
      v
    {s: (B, C, H/s, W/s)} for s = 1, 2, 4, 8, 16, 32, twice
      | GLAM: correlation (or tiles), affine, flow; or ReleasedGLAM
      v
    GLAMOutput: affine (B, 2, 3), flow (B, 2, H, W), certainty
      | SOMALoss, or predictions in the samples; SOMAMatcher makes it a Matcher

With ``SOMA(search=...)`` the moving image is turned and scaled in some ways
first, and matching goes on from the best of them, see ``search``.
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
from .fge import FGE
from .glam import GLAM
from .glam_blocks import GLAMOutput
from .glam_released import ReleasedGLAM
from .losses import SOMALoss
from .match import Match, Matcher, MatchSettings
from .preprocessor import RegistrationPreprocessor
from .pyramid import TwoBranchEncoder
from .soma import SOMA
from .soma_matcher import SOMAMatcher

__all__ = [
    'CFOGMatcher', 'CallableMatcher', 'ECCMatcher', 'EstimateSettings',
    'FGE', 'GLAM', 'GLAMOutput', 'Match', 'MatchSettings', 'Matcher',
    'ORBMatcher', 'PhaseCorrelationMatcher', 'RegistrationPreprocessor',
    'ReleasedGLAM', 'SIFTMatcher', 'SOMA', 'SOMALoss', 'SOMAMatcher',
    'Transform', 'TwoBranchEncoder', 'estimate'
]
