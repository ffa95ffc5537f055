"""Hooks, optimizer wrappers and schedules."""

from __future__ import annotations

from .checkpointing import AtomicCheckpointHook
from .checks import DataCheckHook
from .constructors import MergedGroupsConstructor
from .damage_visualization import DamageVisualizationHook
from .guards import BadSampleHook, InvalidLossHook
from .latent_statistics import LatentStatisticsHook
from .layer_decay import LayerDecayConstructor
from .leak_check import ListOverlapHook
from .optim import CPUAmpOptimWrapper
from .preemption import PreemptionHook
from .pseudo_sar import PseudoSARHook
from .resume import ExactResumeHook
from .schedules import WarmupCosineLR
from .sharding import wrap_blocks
from .translation import BridgeEMAHook, TrainingPlateauLR
from .visualization import ReIDVisualizationHook

__all__ = [
    'AtomicCheckpointHook', 'BadSampleHook', 'BridgeEMAHook',
    'CPUAmpOptimWrapper', 'DamageVisualizationHook', 'DataCheckHook',
    'ExactResumeHook', 'InvalidLossHook', 'LatentStatisticsHook',
    'LayerDecayConstructor', 'ListOverlapHook', 'MergedGroupsConstructor',
    'PreemptionHook', 'PseudoSARHook', 'ReIDVisualizationHook',
    'TrainingPlateauLR', 'WarmupCosineLR', 'wrap_blocks'
]
