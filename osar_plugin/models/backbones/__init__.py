"""Backbones shared by every task.

Re-identification: :class:`VisionTransformer`, images and sensors to tokens.

Pre-training, detection, segmentation, damage: images (B, 3, H, W) of one
sensor to maps (B, F, H/s, W/s) of the strides s = 4, 8, 16, 32, ... or to
tokens (B, H/16 * W/16, D): :class:`ITPN` (CoDe-MAE), :class:`HiViT`
(SARATR-X), :class:`DenseViT` (MAE, DINO), :class:`DINOv2` (patches of 14
pixels). Masked images go through ``embed``, ``trunk`` and ``pyramid`` of the
first two. Each takes the authors' checkpoints by
``init_cfg=dict(type='Pretrained', checkpoint=FILE)`` and works as
``backbone`` of other frameworks' configs by its scoped name.
"""

from __future__ import annotations

from .dinov2 import DINOTokens, DINOv2
from .hivit import HiViT
from .itpn import ITPN
from .pooling import MeanPoolNeck
from .trunk import TrunkOutput
from .vit import VisionTransformer, ViTOutput
from .vit_dense import DenseViT

__all__ = [
    'DINOTokens', 'DINOv2', 'DenseViT', 'HiViT', 'ITPN', 'MeanPoolNeck',
    'TrunkOutput',
    'ViTOutput', 'VisionTransformer'
]
