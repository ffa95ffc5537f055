"""Optical-to-SAR translation with a Brownian bridge.

Training, on pairs of the same ship or ground::

    optical (B, 3, 256, 256), SAR (B, 3, 256, 256), both in -1..1
      | codec.VQCodec, frozen (latent variants only): 4, 8 or 16 times smaller
      v
    y, x0 (B, C, 64, 64)                 t (B,) uniform, noise like x0
      | bridge.q_sample with m_t and d_t of schedule.BridgeSchedule
      v
    x_t = (1 - m) x0 + m y + sqrt(d) noise
      | unet.BridgeUNet(x_t, t, condition)
      v
    prediction (B, C, 64, 64) -- L1 to bridge.training_target

Sampling, K views of an optical image::

    y (N = B K, C, 64, 64) = x at t = T - 1
      | sampling.sample: at each visited step predict x0, then draw the next x
      |   from bridge.posterior with the item's own noise
      v
    x0 (N, C, 64, 64)
      | codec: quantise, decode
      v
    views (B, K, 3, 256, 256)

``translator`` puts the parts together, ``official`` reads and writes the
authors' checkpoints. ``schedule``, ``bridge`` and ``sampling`` are functions
of plain tensors; ``unet`` and ``codec`` need diffusers (the extra
``translation``), which is imported when one of them is built.
"""

from __future__ import annotations

from .codec import SpaceToDepthCodec, VQCodec
from .translator import BrownianBridgeTranslator, SamplerSettings
from .unet import BridgeUNet

__all__ = [
    'BridgeUNet', 'BrownianBridgeTranslator', 'SamplerSettings',
    'SpaceToDepthCodec', 'VQCodec'
]
