"""Transforms and flows; see :mod:`osar_plugin.utils.geometry`.

They live with the utilities because data sets and metrics, which know no
model, follow the same conventions.
"""

from __future__ import annotations

from osar_plugin.utils.geometry import (
    Size,
    apply,
    check_matrix,
    compose,
    compose_flows,
    denormalise,
    flow_at,
    flow_to_affine,
    from_corner_convention,
    from_theta,
    homogeneous,
    inside,
    invert,
    invert_flow,
    matrix_to_flow,
    move_points,
    normalise,
    pixel_grid,
    rescale,
    resize_flow,
    sample,
    similarity,
    to_corner_convention,
    to_theta,
    warp,
)

__all__ = [
    'Size', 'apply', 'check_matrix', 'compose', 'compose_flows',
    'denormalise', 'flow_at', 'flow_to_affine', 'from_corner_convention',
    'from_theta', 'homogeneous', 'inside', 'invert', 'invert_flow',
    'matrix_to_flow', 'move_points', 'normalise', 'pixel_grid', 'rescale',
    'resize_flow', 'sample', 'similarity', 'to_corner_convention',
    'to_theta', 'warp',
]
