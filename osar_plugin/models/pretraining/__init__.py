r"""Masked pre-training on optical-SAR pairs and on single images.

CoDe-MAE, with B pairs of 224 x 224 pixels at mask ratio 0.75::

    rgb, sar (B, 3, 224, 224), normalised by source (preprocessor)
      | a patch embedding per sensor
      v
    units (2B, 196, 4, 4, 128) of 16 x 16 pixels, optical first
      | masking: the same 49 units of both images are kept
      v
    (2B, 49, 4, 4, 128) -- iTPN trunk, shared -- tap (2B, 49, 512) --.
      | pyramid                                                     |
      v                                                             |
    levels (2B, 49, 1|2|4, 1|2|4, 256)                              |
      | decoder.LevelEmbedding, summed                              |
      v                                                             |
    visible (2B, 49, 512)                                           |
      |-- reconstruction: own pixels of masked units -- loss_self   |
      |-- degraded (CDR): grey pixels of the other                  |
      |     sensor, swapped -- loss_cross                           |
      |-- distillation (OKD): optical half, against a   <-----------'
      |     frozen teacher (B, 196, 1024) -- loss_distill
      '-- contrast (CCL): cross attention, mean, unit length (B, 512),
            against all processes' pairs -- loss_contrast

Both reconstructions fill mask tokens in, (2B, 196, 512), run a
:class:`MaskedDecoder` and predict the 147 masked units alone. ``HiViTMAE`` is
the plain form for one sensor: trunk, one decoder, one loss; with MGF targets
it is the pre-training of SARATR-X.

Where published code and paper differ, or the code surprises, an argument
decides; the default is what the published weights were made with:

=========================  ================================================
published                  here
=========================  ================================================
mask token added 3 times   ``MaskedDecoder(mask_copies=3)``; 1 is the paper
position table resampled   ``ITPN(masked_position='official')``; ``'raw'``
gather without gradients   ``PairContrast(gather='official')``;
                           ``'differentiable'`` gives the gradients of one
                           process with the joint batch
1-D norms at 1e-5 in CCL   ``CrossAttention(norm_eps=1e-5)``, 1e-6 elsewhere
no optical-SAR decoder     ``share_decoders=True``; ``False`` is one each
token
patch statistics of the    ``norm_target=True``; with ``reduction='spatial'``
target                     it leaves nothing of the target
=========================  ================================================

Not taken over: the released forward pass asks for attributes that are never
set and so cannot run with the contrast (its switch is meant); its
constructor refuses the median although the code has it; a run on one GPU
repeats the order of its first epoch.

``targets`` and ``masking`` are functions of plain tensors, ``official``
reads and writes the authors' checkpoints.
"""

from __future__ import annotations

from .codemae import CoDeMAE
from .contrast import PairContrast
from .decoder import MaskedDecoder
from .degraded import DegradedReconstruction
from .distillation import OpticalDistillation
from .hivit_mae import HiViTMAE
from .preprocessor import PairPretrainPreprocessor
from .reconstruction import SelfReconstruction
from .teachers import DINOv3Teacher, PrecomputedTeacher
from .trunk_teacher import TrunkTeacher

__all__ = [
    'CoDeMAE', 'DINOv3Teacher', 'DegradedReconstruction', 'HiViTMAE',
    'MaskedDecoder', 'OpticalDistillation', 'PairContrast',
    'PairPretrainPreprocessor', 'PrecomputedTeacher', 'SelfReconstruction',
    'TrunkTeacher'
]
