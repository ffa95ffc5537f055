"""Sample types that MMEngine does not have."""

from __future__ import annotations

import torch
from mmengine.structures import BaseDataElement


class ReIDDataSample(BaseDataElement):
    """What is known of one ship chip.

    Metainfo:
        img_path (str): The file.
        ori_shape (tuple): (H, W) of the file in pixels.
        sample_idx (int): Row in the data set.
        is_query (bool): Query side or gallery side.
        protocols (tuple): Names of the protocols of which the chip is a
            member on its side, e.g. ``('ALL', 'O2S')``.

    Data fields:
        pid (int): Identity as the file name gives it.
        label (int): Class index of the identity, -1 outside training.
        modality (int): 0 optical, 1 SAR.
        size (Tensor): (3,) ship-size vector.
        feature (Tensor): (D,) descriptor, set by ``predict``; not
            normalised.
    """

    pid: int
    label: int
    modality: int
    size: torch.Tensor
    feature: torch.Tensor
