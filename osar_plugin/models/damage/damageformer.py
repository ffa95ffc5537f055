"""DamageFormer: two maps from two images.

Chen et al., "BRIGHT: a globally distributed multimodal building damage
assessment dataset" (ESSD 2025), and the variant of CoDe-MAE's official code
with one encoder for both sensors. Module names are the official ones.

Letters: B batch, D channels of an encoder's maps, F channels behind the
fusion, C classes, H W height and width in pixels, s stride.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from mmengine.model import BaseModel
from mmengine.structures import PixelData
from torch import Tensor, nn

from ...registry import MODELS
from ...structures import DamageDataSample
from ...utils.checkpoint import adapt_on_load
from ...utils.config_values import Buildable, require_range
from ...utils.errors import ConfigError, DataFormatError
from ...utils.names import did_you_mean, nearest
from ..weights import SafeWeights
from .inference import (
    SlideSettings,
    Tile,
    divisible,
    pad_to,
    sliding_strips,
)
from .losses import DamageLogits, damage_losses, resolve_weights
from .lovasz import IGNORED
from .official import adapt

PREPROCESSOR = dict(type='osar_plugin.DamagePreprocessor')
DAMAGE_CLASSES, BUILDING_CLASSES = 4, 2
LEVELS = 4


class FusionBlock(nn.Module):
    """Residual block that mixes the channels of several maps.

    conv 3x3, norm, ReLU, conv 3x3, norm; the shortcut is a 1x1 convolution
    with bias and without norm; ReLU after the sum (official code).

    Args:
        in_channels: Of the concatenated maps.
        channels: F.
    """

    def __init__(self, in_channels: int, channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, channels, 3, padding=1,
                               bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.downsample = nn.Conv2d(in_channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, in_channels, h, w) to (B, F, h, w)."""
        y = F.relu(self.bn1(self.conv1(x)))
        return F.relu(self.bn2(self.conv2(y)) + self.downsample(x))


def merge_levels(maps: Sequence[Tensor]) -> Tensor:
    """All levels on the grid of the finest, the coarsest first.

    Args:
        maps: (B, D, H/s, W/s) each, fine to coarse.

    Returns:
        (B, sum of D, H/4, W/4).
    """
    size = maps[0].shape[-2:]
    coarse = [F.interpolate(level, size, mode='bilinear',
                            align_corners=False)
              for level in reversed(maps[1:])]
    return torch.cat([*coarse, maps[0]], 1)


def encode_pair(encoder: nn.Module, pre: Tensor,
                post: Tensor) -> tuple[list[Tensor], list[Tensor]]:
    """Features of both images by one encoder, in one batch.

    An encoder with a patch embedding for each sensor embeds each image with
    its own; the trunk then runs over both at once. Another encoder sees
    both alike.

    Args:
        encoder: Gives maps, fine to coarse.
        pre: (B, 3, H, W), optical.
        post: (B, 3, H, W), SAR.

    Returns:
        The maps of either image.
    """
    if hasattr(encoder, 'embed_names'):
        grid = encoder.grid_of(pre)  # type: ignore[operator]
        units = torch.cat([encoder.embed(pre, 'rgb'),  # type: ignore
                           encoder.embed(post, 'sar')])  # type: ignore
        maps = encoder.maps(encoder.trunk(units, grid), grid)  # type: ignore
    else:
        maps = encoder(torch.cat([pre, post]))
    halves = [level.chunk(2) for level in maps]
    return [a for a, _ in halves], [b for _, b in halves]


def decide(logits: Tensor, mask_by_building: bool = False
           ) -> tuple[Tensor, Tensor]:
    """Classes from logits.

    Args:
        logits: (..., 6, H, W): those of buildings, then those of damage.
        mask_by_building: Damage only where the other head sees a building
            (the official inference script by default; its model selection
            without).

    Returns:
        Damage and building, each (..., H, W) uint8.
    """
    building = logits[..., :BUILDING_CLASSES, :, :].argmax(-3)
    damage = logits[..., BUILDING_CLASSES:, :, :].argmax(-3)
    if mask_by_building:
        damage = damage * building
    return damage.to(torch.uint8), building.to(torch.uint8)


@MODELS.register_module()
class DamageFormer(SafeWeights, BaseModel):
    """Building localisation and damage classification.

    Every loader of state dicts accepts official and own checkpoints, and
    those of pre-training for the encoders; see :mod:`.official`.

    Args:
        encoder: Config of a backbone that gives four maps of the strides
            4, 8, 16 and 32: ``osar_plugin.ITPN`` with ``num_outs=4``.
        encoder_post: Config of a second encoder, for the SAR image, with
            weights of its own (official BRIGHT); None: one for both
            (CoDe-MAE).
        in_channels: Channels of the four maps; None to ask the encoder.
        channels: F, behind the fusion.
        loss_weights: ``'codemae'``, ``'bright'``, or a dict with a number
            for each of ``building_ce``, ``damage_ce``, ``damage_lovasz``
            and ``building_lovasz``.
        ignore_index: Label that counts nowhere.
        inference: Fields of :class:`~.inference.SlideSettings`.
        mask_by_building: See :func:`decide`.
        keep_logits: Put the logits into the samples, too.
        data_preprocessor: Config of the data preprocessor.
        init_cfg: ``dict(type='Pretrained', checkpoint=FILE)``: a damage
            mapper or a backbone, official or ours; with ``optional=True``
            a missing file is a warning.

    Raises:
        ConfigError: If an argument cannot be used.
    """

    def __init__(self,
                 encoder: Buildable,
                 encoder_post: Buildable | None = None,
                 in_channels: Sequence[int] | None = None,
                 channels: int = 256,
                 loss_weights: str | dict[str, float] = 'codemae',
                 ignore_index: int = IGNORED,
                 inference: dict[str, Any] | None = None,
                 mask_by_building: bool = False,
                 keep_logits: bool = False,
                 data_preprocessor: Buildable | None = None,
                 init_cfg: dict | None = None) -> None:
        super().__init__(data_preprocessor or dict(PREPROCESSOR), init_cfg)
        require_range(1, 2**14, channels=channels)
        # Not among the classes, and what a uint8 label can hold.
        require_range(DAMAGE_CLASSES, 255, ignore_index=ignore_index)
        self.encoder = MODELS.build(encoder)
        if encoder_post is not None:
            self.encoder_post = MODELS.build(encoder_post)
        self.in_channels = check_encoders(
            in_channels, self.encoder, getattr(self, 'encoder_post', None))
        width = sum(self.in_channels)
        self.fusion_layer_1 = FusionBlock(width, channels)
        self.fusion_layer_2 = FusionBlock(width, channels)
        self.fusion_layer_3 = FusionBlock(2 * channels, channels)
        self.clf_1 = nn.Conv2d(channels, BUILDING_CLASSES, 1)
        self.clf_2 = nn.Conv2d(channels, DAMAGE_CLASSES, 1)
        self.loss_weights = resolve_weights(loss_weights)
        self.ignore_index = ignore_index
        self.settings = slide_settings(inference)
        self.mask_by_building = mask_by_building
        self.keep_logits = keep_logits
        adapt_on_load(self, adapt)

    def forward(self,
                inputs: dict[str, Tensor],
                data_samples: Sequence[DamageDataSample] | None = None,
                mode: str = 'tensor') -> Any:
        """Map a batch of pairs.

        Args:
            inputs: ``pre`` and ``post``, (B, 3, H, W) each, as
                :class:`~.preprocessor.DamagePreprocessor` gives them.
            data_samples: B samples; for ``'loss'`` with ``gt_damage``.
            mode: ``'loss'``, ``'predict'`` or ``'tensor'``.

        Returns:
            Losses by name; samples with predictions, see :meth:`predict`;
            or :class:`DamageLogits`.

        Raises:
            DataFormatError: If labels are missing or of another size.
            ConfigError: If there is no such mode.
        """
        if mode not in ('loss', 'predict', 'tensor'):
            raise ConfigError(
                f"mode={mode!r} is none of 'loss', 'predict', 'tensor'.")
        pre, post = inputs['pre'], inputs['post']
        if mode == 'predict':
            return self.predict(pre, post, data_samples)
        logits = self.logits(pre, post)
        if mode == 'tensor':
            return logits
        labels = stack_labels(data_samples, logits.damage)
        losses = damage_losses(logits, labels, self.ignore_index)
        return {f'loss_{name}': weight * losses[name]
                for name, weight in self.loss_weights.items()}

    def features(self, pre: Tensor, post: Tensor) -> tuple[Tensor, Tensor]:
        """A, of the image before, and C, of both: (B, F, H/4, W/4) each."""
        if hasattr(self, 'encoder_post'):
            before = list(_encode(self.encoder, pre, 'rgb'))
            after = list(_encode(self.encoder_post, post, 'sar'))
        else:
            before, after = encode_pair(self.encoder, pre, post)
        check_maps(before, self.in_channels, self.encoder)
        check_maps(after, self.in_channels,
                   getattr(self, 'encoder_post', self.encoder))
        first = self.fusion_layer_1(merge_levels(before))
        second = self.fusion_layer_2(merge_levels(after))
        return first, self.fusion_layer_3(torch.cat([first, second], 1))

    def logits(self, pre: Tensor, post: Tensor) -> DamageLogits:
        """Both heads at the size of the images.

        Args:
            pre: (B, 3, H, W), normalised; sides multiples of 16.
            post: (B, 3, H, W).
        """
        first, fused = self.features(pre, post)
        size = pre.shape[-2:]
        building, damage = (
            F.interpolate(head(x), size, mode='bilinear',
                          align_corners=False)
            for head, x in ((self.clf_1, first), (self.clf_2, fused)))
        return DamageLogits(building, damage)

    @torch.no_grad()
    def predict(self, pre: Tensor, post: Tensor,
                data_samples: Sequence[DamageDataSample] | None
                ) -> list[DamageDataSample]:
        """Put predictions into the samples.

        Each gets ``pred_damage`` and ``pred_building``, ``PixelData`` of
        (1, H, W) uint8; with ``keep_logits`` also ``building_logits`` (2,
        H, W) and ``damage_logits`` (4, H, W) float32. Damage is there as
        ``pred_sem_seg`` and ``seg_logits``, too, for what looks for a
        segmentor of MMSegmentation: the same objects, no copies.
        """
        samples = list(data_samples or (
            DamageDataSample() for _ in range(len(pre))))
        logits = self.predict_logits(pre, post)
        damage, building = decide(logits, self.mask_by_building)
        for sample, one, two, own in zip(
                samples, damage, building, logits, strict=True):
            sample.pred_damage = PixelData(data=one[None])
            sample.pred_sem_seg = sample.pred_damage
            sample.pred_building = PixelData(data=two[None])
            if self.keep_logits:
                sample.building_logits = PixelData(
                    data=own[:BUILDING_CLASSES])
                sample.damage_logits = PixelData(data=own[BUILDING_CLASSES:])
                sample.seg_logits = sample.damage_logits
        return samples

    def predict_logits(self, pre: Tensor, post: Tensor) -> Tensor:
        """Logits (B, 6, H, W) float32 of images of any size.

        Whole or window by window, as the settings say; buildings come
        first, then damage.
        """
        if self.settings.mode == 'whole':
            return self.window_logits(pre, post)
        size = (pre.shape[-2], pre.shape[-1])
        count = BUILDING_CLASSES + DAMAGE_CLASSES

        def predict(parts: list[Tensor]) -> Tensor:
            stacked = torch.stack(parts)
            return self.window_logits(stacked[:, 0], stacked[:, 1])

        return torch.stack([
            torch.cat([strip for _, strip in sliding_strips(
                size, count, reader(pair), predict, self.settings,
                pre.device)], 1)
            for pair in torch.stack([pre, post], 1)])

    def window_logits(self, pre: Tensor, post: Tensor) -> Tensor:
        """Logits (B, 6, H, W) float32 of what fits into memory at once."""
        size = pre.shape[-2:]
        full = divisible((size[0], size[1]))
        logits = self.logits(pad_to(pre, full), pad_to(post, full))
        return torch.cat(logits, 1).float()[..., :size[0], :size[1]]


def reader(images: Tensor) -> Any:
    """Windows of images (..., H, W) in memory, for ``sliding_strips``."""

    def read(tile: Tile) -> Tensor:
        part = images[..., tile.y:tile.y + tile.height,
                      tile.x:tile.x + tile.width]
        return pad_to(part, (tile.height, tile.width))

    return read


def _encode(encoder: nn.Module, images: Tensor, sensor: str) -> Any:
    if hasattr(encoder, 'embed_names'):
        return encoder(images, sensor)
    return encoder(images)


def check_encoders(in_channels: Sequence[int] | None, encoder: Any,
                   encoder_post: Any = None) -> list[int]:
    """Channels of the four maps that one or two encoders give.

    Args:
        in_channels: As configured; None to ask the encoder.
        encoder: Of the image before; without another one, of both.
        encoder_post: Of the image after.

    Raises:
        ConfigError: If the maps are not four, not known, or not those of
            the config or of the other encoder; or if an encoder has no
            embedding of a sensor that it is to look at.
    """
    known = in_channels or getattr(encoder, 'out_channels', None)
    if isinstance(known, int) or known is None or len(known) != LEVELS:
        raise ConfigError(
            f'in_channels={in_channels!r} and {type(encoder).__name__} gives '
            f'maps of {getattr(encoder, "out_channels", "unknown")} '
            f'channels: expected {LEVELS}, for the strides 4, 8, 16 and 32. '
            f'{_cure(encoder)}')
    require_range(1, 2**14, in_channels=list(known))
    for name, one, sensors in (
            ('encoder', encoder, ('rgb', ) if encoder_post is not None
             else ('rgb', 'sar')), ('encoder_post', encoder_post, ('sar', ))):
        own = getattr(one, 'out_channels', None)
        if own is not None and list(own) != list(known):
            raise ConfigError(
                f'{name}: {type(one).__name__} gives maps of {list(own)} '
                f'channels, and {list(known)} are expected (of in_channels, '
                'or of the other encoder). Leave in_channels out, and build '
                'both encoders with the same widths.')
        check_embeddings(name, one, sensors)
    return list(known)


def check_embeddings(name: str, encoder: Any,
                     sensors: Sequence[str]) -> None:
    """Make sure that an encoder can look at its sensors.

    Raises:
        ConfigError: If it has embeddings of sensors, but not of these.
    """
    found = getattr(encoder, 'embed_names', None)
    if not found or 'patch_embed' in found:
        return  # one embedding for whatever comes
    if any(f'patch_embed_{sensor}' not in found for sensor in sensors):
        hint = '.' if len(sensors) == 1 else (
            ', or give an encoder_post for the SAR image.')
        raise ConfigError(
            f'{name}: {type(encoder).__name__} has {", ".join(found)} and is '
            f'to look at {" and ".join(sensors)}. Set '
            f"{name}.modality='both'{hint}")


def check_maps(maps: Sequence[Tensor], channels: Sequence[int],
               encoder: nn.Module) -> None:
    """Make sure that an encoder gives what was built for.

    Raises:
        ConfigError: If it does not.
    """
    found = [level.shape[1] for level in maps]
    if found != list(channels):
        raise ConfigError(
            f'{type(encoder).__name__} gives maps of {found} channels where '
            f'in_channels={list(channels)}: set in_channels to these, or '
            f'change the encoder. {_cure(encoder)}')


def _cure(encoder: object) -> str:
    """How the encoders of this package come to give four maps."""
    if type(encoder).__name__ == 'HiViT':
        return "Set encoder.out='maps'."
    return ('Set encoder.num_outs=4, or in_channels where the encoder does '
            'not say it.')


def slide_settings(values: Mapping[str, Any] | None) -> SlideSettings:
    """Settings of inference from a config.

    Raises:
        ConfigError: If a name is not known or a value is out of range.
    """
    known = tuple(SlideSettings.__dataclass_fields__)
    for name in values or ():
        if name not in known:
            raise ConfigError(
                f'inference.{name} is not known; there are '
                f'{", ".join(known)}.{did_you_mean(nearest(name, known))}')
    return SlideSettings(**(values or {}))


def stack_labels(samples: Sequence[Any] | None, logits: Tensor) -> Tensor:
    """Damage labels of a batch, (B, H, W) int64.

    Args:
        samples: B samples.
        logits: (B, C, H, W).

    Raises:
        DataFormatError: If one is missing or of another size.
    """
    size = tuple(logits.shape[-2:])
    found = [sample.get('gt_damage', None) for sample in samples or ()]
    shapes = [None if x is None else tuple(x.data.shape[-2:]) for x in found]
    if len(found) != len(logits) or any(x != size for x in shapes):
        raise DataFormatError(
            f'{len(logits)} pairs of {size} pixels and labels of {shapes}: '
            'training needs gt_damage of that size for each pair. Use a '
            'data set with labels, with osar_plugin.LoadDamagePair and '
            'osar_plugin.PackDamageInputs in its pipeline.')
    labels = torch.stack([x.data.reshape(size) for x in found])
    return labels.to(logits.device, torch.int64, non_blocking=True)
