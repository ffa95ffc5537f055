"""Transforms: file to image, augmentation, image to model input.

The order of the official training pipeline::

    LoadOpticalOrSAR  optical (H, W, 3) uint8, SAR (H, W) float32
    ShipSize          (3,) from the file's pixel size
    SARToUint8        both (H, W, 3) uint8
    PillowResize      (256, 128, 3), bicubic
    RandomFlip        left-right, 0.5 (mmcv's)
    ColorJitter       SDF-Net only
    PadRandomCrop     pad 10, back to (256, 128, 3)
    RandomErasing     float32, 0..255
    PackReIDInputs    (3, 256, 128) tensor and a ReIDDataSample

Normalisation follows on the device, in ``ReIDDataPreprocessor``.
"""

from __future__ import annotations

from .augmentation import (
    ColorJitter,
    PadRandomCrop,
    PillowResize,
    RandomErasing,
)
from .center_crop import CenterCropPad, center_crop_pad
from .damage import (
    DamageColorJitter,
    DamageRandomCrop,
    DamageRandomFlip,
    DamageRandomScale,
    DamageRotate90,
    LoadDamagePair,
    PackDamageInputs,
)
from .denoise import SARDenoise, truncate_lowest
from .joint import PairFlip
from .loading import LoadOpticalOrSAR, ShipSize, ship_size
from .packing import PackReIDInputs
from .pairs import PackPairInputs, PairPipeline
from .pretrain_pairs import (
    LoadPair,
    PackPretrainInputs,
    PairHorizontalFlip,
    PairRandomResizedCrop,
    PairResize,
    SARContrast,
)
from .registration import (
    LoadProtocolPair,
    LoadRegistrationPair,
    PackRegistrationInputs,
    RandomPairWarp,
    SARAppearance,
)
from .registration_views import RandomPairView, RandomTone
from .sar import SARToUint8, scale_by_max, scale_by_percentiles
from .segmentation import LoadLabelMap

__all__ = [
    'CenterCropPad', 'LoadLabelMap',
    'ColorJitter', 'DamageColorJitter', 'DamageRandomCrop',
    'DamageRandomFlip', 'DamageRandomScale', 'DamageRotate90',
    'LoadDamagePair', 'PackDamageInputs',
    'LoadOpticalOrSAR', 'LoadPair', 'LoadProtocolPair',
    'LoadRegistrationPair', 'PackPairInputs', 'PackPretrainInputs',
    'PackReIDInputs', 'PackRegistrationInputs', 'PadRandomCrop', 'PairFlip',
    'PairHorizontalFlip', 'PairPipeline', 'PairRandomResizedCrop',
    'PairResize', 'PillowResize', 'RandomErasing', 'RandomPairView',
    'RandomPairWarp', 'RandomTone', 'SARAppearance', 'SARContrast',
    'SARDenoise', 'SARToUint8', 'ShipSize', 'center_crop_pad',
    'scale_by_max',
    'scale_by_percentiles', 'ship_size', 'truncate_lowest',
]
