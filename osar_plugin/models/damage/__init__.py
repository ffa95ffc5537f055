"""Building damage from an optical image before and a SAR image after.

From a batch of pairs to maps::

    inputs {pre (3, H, W), post (1, H, W)} uint8, a list of each
      | preprocessor.DamagePreprocessor: stacked, normalised, three channels
      v
    pre, post (B, 3, H, W)
      | one encoder for both sensors, or one each: maps (B, D, H/s, W/s),
      |   s = 4, 8, 16, 32
      v
    all four on the grid of stride 4: (B, 4 D, H/4, W/4), twice
      | fusion_layer_1 -> A, fusion_layer_2 -> B, fusion_layer_3 of both -> C
      v
    A (B, F, H/4, W/4) -- clf_1 --> building logits (B, 2, H, W)
    C (B, F, H/4, W/4) -- clf_2 --> damage logits (B, 4, H, W)
      | training: cross-entropy and Lovasz of both (losses, lovasz)
      | inference: whole images or windows (inference)
      v
    DamageDataSample: pred_damage, pred_building (1, H, W)

Damage classes: 0 background, 1 intact, 2 damaged, 3 destroyed; 255 counts
nowhere. Building classes: 0 none, 1 building.
"""

from __future__ import annotations

from .damageformer import DamageFormer
from .inference import SlideSettings, sliding_strips
from .losses import DamageLogits
from .lovasz import lovasz_softmax
from .preprocessor import DamagePreprocessor

__all__ = [
    'DamageFormer', 'DamageLogits', 'DamagePreprocessor', 'SlideSettings',
    'lovasz_softmax', 'sliding_strips'
]
