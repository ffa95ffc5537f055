"""Sample types that MMEngine does not have."""

from __future__ import annotations

import torch
from mmengine.structures import BaseDataElement, PixelData


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


class DamageDataSample(BaseDataElement):
    """What is known of a pair of images before and after an event.

    Metainfo:
        image_id (str): Name of the tile.
        event (str): Name of the event, e.g. ``'turkey-earthquake'``.
        disaster (str): Its kind, e.g. ``'earthquake'``.
        optical_path, sar_path, seg_map_path (str): The files.
        img_path (str): ``optical_path``, as MMSegmentation calls it.
        reduce_zero_label (bool): False, for MMSegmentation.
        ori_shape, img_shape (tuple): (H, W) of the file, and of the sample.
        sample_idx (int): Row in the data set.

    Data fields:
        gt_damage (PixelData): (1, H, W) uint8: 0 background, 1 intact, 2
            damaged, 3 destroyed, 255 not known.
        pred_damage (PixelData): (1, H, W) uint8, set by ``predict``.
        pred_building (PixelData): (1, H, W) uint8, 1 where there is one.
        damage_logits (PixelData): (4, H, W) float32, where asked for.
        building_logits (PixelData): (2, H, W) float32, where asked for.
        gt_sem_seg, pred_sem_seg, seg_logits (PixelData): ``gt_damage``,
            ``pred_damage`` and ``damage_logits`` under the names that
            metrics and hooks of MMSegmentation look for; the same objects.
    """

    gt_damage: PixelData
    pred_damage: PixelData
    pred_building: PixelData
    damage_logits: PixelData
    building_logits: PixelData
    gt_sem_seg: PixelData
    pred_sem_seg: PixelData
    seg_logits: PixelData

    @property
    def gt_building(self) -> PixelData:
        """(1, H, W) uint8: 1 where there is a building, 255 not known."""
        damage = self.gt_damage.data
        return PixelData(data=torch.where(
            damage == 255, damage, damage.clamp(max=1)))
