r"""Cross-modal ship re-identification.

::

    chips (B, 3, H, W), modality (B,), ship size (B, 3)
      | backbones.VisionTransformer: a tokenizer per sensor, shared blocks
      v
    tokens (B, N, D) ------------------ tap after block 6 (B, N, D)
      | dfl.DisentangledNeck              | structure: gradient energy
      v                                   v
    shared, specific (B, D) -- L_orth   descriptors (B, D) -- L_struct
      | sum
      v
    fused (B, D) -- head.IdentityHead: BatchNorm, classifier -- L_id, L_tri
      |          \-- alignment: moments of the two modalities -- L_align
      v
    descriptor (B, D): compared at test time

``losses`` holds the functions, ``estimator`` puts the parts together,
``official`` reads and writes the authors' checkpoints, ``alignment`` holds
the modality alignment and the fusion of views of MOS.
"""

from __future__ import annotations

from .alignment import ModalityAlignmentLoss
from .dfl import ClassTokenNeck, DisentangledNeck, ReIDFeatures
from .estimator import SDFNet, TransOSS, TransOSSPretrain
from .head import IdentityHead
from .losses import IdentityLoss, OrthogonalityLoss, TripletLoss
from .preprocessor import ReIDDataPreprocessor
from .structure import StructureConsistency

__all__ = [
    'ClassTokenNeck', 'DisentangledNeck', 'IdentityHead', 'IdentityLoss',
    'ModalityAlignmentLoss', 'OrthogonalityLoss', 'ReIDDataPreprocessor',
    'ReIDFeatures', 'SDFNet', 'StructureConsistency', 'TransOSS',
    'TransOSSPretrain', 'TripletLoss'
]
