"""Backbones shared by every task."""

from __future__ import annotations

from .vit import VisionTransformer, ViTOutput

__all__ = ['ViTOutput', 'VisionTransformer']
