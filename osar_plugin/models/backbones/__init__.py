"""Backbones shared by every task."""

from __future__ import annotations

from .itpn import ITPN
from .trunk import TrunkOutput
from .vit import VisionTransformer, ViTOutput

__all__ = ['ITPN', 'TrunkOutput', 'ViTOutput', 'VisionTransformer']
