"""Cross-modal degraded reconstruction (CDR).

From the visible units of one sensor, predict the masked units of the other
sensor's image, of which colour was taken away: nobody can tell the colour of
a roof from its echo, so the target does not ask for it.
"""

from __future__ import annotations

from ...registry import MODELS
from ...utils.config_values import Buildable
from .reconstruction import SelfReconstruction


@MODELS.register_module()
class DegradedReconstruction(SelfReconstruction):
    """Predict the masked units of the other sensor's degraded image.

    The targets are swapped: what comes from optical units is held against
    the grey SAR image, and the other way round.

    Args:
        decoder: See :class:`~.reconstruction.SelfReconstruction`.
        target: Likewise; ``'pixel'`` as published.
        reduction: See :func:`~.targets.reduce_image`; ``'channel'`` as
            published, ``'none'`` is the ablation with full information.
        norm_target: Normalise each patch of the target.
        share: One decoder for both directions (published), or one each.

    Raises:
        ConfigError: See :class:`~.reconstruction.SelfReconstruction`.
    """

    swap = True

    def __init__(self,
                 decoder: Buildable | None = None,
                 target: str = 'pixel',
                 reduction: str = 'channel',
                 norm_target: bool = True,
                 share: bool = True) -> None:
        super().__init__(decoder, target, reduction, norm_target, share)
