"""Data sets and samplers."""

from __future__ import annotations

from .bright import BRIGHTDataset
from .dior import DIORDataset
from .hoss import HOSS
from .list_classification import (
    AID,
    MSTAR,
    RESISC45,
    SARACD,
    FUSARShip,
    ListClassification,
)
from .loveda import LoveDA
from .optisar_pair import OptiSarPair
from .ospretrain import OSPretrain
from .pair_samplers import PairedBatchSampler
from .registration_pairs import RegistrationPairs
from .registration_protocol import RegistrationProtocol
from .samplers import ModalityBalancedSampler, RandomIdentitySampler
from .sardet100k import SARDet100KDataset
from .scene_list import SceneList
from .sen12 import SEN12
from .translation_pairs import AlignedPairs, HOSSPairs

__all__ = [
    'AID', 'FUSARShip', 'ListClassification', 'LoveDA', 'MSTAR', 'RESISC45',
    'SARACD',
    'AlignedPairs', 'BRIGHTDataset', 'DIORDataset', 'HOSS', 'HOSSPairs',
    'ModalityBalancedSampler',
    'OSPretrain', 'OptiSarPair', 'PairedBatchSampler',
    'RandomIdentitySampler', 'RegistrationPairs', 'RegistrationProtocol',
    'SARDet100KDataset', 'SEN12', 'SceneList',
]
