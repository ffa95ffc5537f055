"""Data sets and samplers."""

from __future__ import annotations

from .hoss import HOSS
from .optisar_pair import OptiSarPair
from .ospretrain import OSPretrain
from .pair_samplers import PairedBatchSampler
from .registration_pairs import RegistrationPairs
from .registration_protocol import RegistrationProtocol
from .samplers import ModalityBalancedSampler, RandomIdentitySampler
from .scene_list import SceneList
from .sen12 import SEN12
from .translation_pairs import AlignedPairs, HOSSPairs

__all__ = [
    'AlignedPairs', 'HOSS', 'HOSSPairs', 'ModalityBalancedSampler',
    'OSPretrain', 'OptiSarPair', 'PairedBatchSampler',
    'RandomIdentitySampler', 'RegistrationPairs', 'RegistrationProtocol',
    'SEN12', 'SceneList',
]
