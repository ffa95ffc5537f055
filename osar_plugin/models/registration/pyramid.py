"""From images of either sensor to features of strides 1 to 32 (SOMA).

Two branches that share no weights, one for optical and one for SAR images;
one frozen DINOv2 for both::

    image (B, 3, H, W)
      1   the image itself [and its orientated gradients]
      2   stem of the ResNet -- FGE
      4   layer1 -- FGE
      8   layer2 -- FGE
      16  DINOv2 of the resized image, or layer3 where there is none
      32  layer4

Names inside a branch's ResNet are torchvision's, so that its files load.

Letters: B batch, C channels, H W height and width in pixels, s stride.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from mmengine.logging import print_log
from mmengine.model import BaseModule
from torch import Tensor, nn

from ...registry import MODELS
from ...utils.checkpoint import read_checkpoint, unwrap_state_dict
from ...utils.config_values import Buildable, require_range
from ...utils.errors import (
    CheckpointMismatchError,
    ConfigError,
    DataFormatError,
)
from ..backbones.pretrained import below
from ..backbones.trunk import check_word
from .cfog import DIRECTIONS
from .fge import FGE, SOBEL

MODALITIES = ('optical', 'sar')  # by their numbers 0 and 1
STRIDES = (1, 2, 4, 8, 16, 32)
FGE_STRIDES = (2, 4, 8)
EXPANSION = 4
SMOOTH = 1.2  # sigma of the channels of orientated gradients, pixels
IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


# ------------------------------------------------------------ gradient stem


def gaussian(sigma: float, like: Tensor) -> Tensor:
    """Weights (n,) of a Gaussian that reaches four sigma; they add to 1."""
    reach = max(1, round(4 * sigma))
    place = torch.arange(
        -reach, reach + 1, dtype=like.dtype, device=like.device)
    weight = torch.exp(-0.5 * (place / sigma)**2)
    return weight / weight.sum()


def blur(x: Tensor, sigma: float) -> Tensor:
    """Gaussian of every channel of (B, C, H, W); reflected at the border."""
    kernel = gaussian(sigma, x).tolist()
    reach = len(kernel) // 2
    mode = 'reflect' if min(x.shape[-2:]) > reach else 'replicate'
    padded = F.pad(x.flatten(0, 1)[:, None], (reach, ) * 4,
                   mode=mode).view(*x.shape[:2], *(
                       side + 2 * reach for side in x.shape[2:]))
    return _blur_last(_blur_last(padded, kernel).mT, kernel).mT


def _blur_last(x: Tensor, kernel: list[float]) -> Tensor:
    """Along the last axis, which loses what the kernel reaches.

    Sums of shifted views: a tenth of the time of a convolution of one
    channel.
    """
    reach = len(kernel) // 2
    width = x.shape[-1] - 2 * reach
    out = x[..., reach:reach + width] * kernel[reach]
    for i in range(reach):
        far = 2 * reach - i
        out = out.add(x[..., i:i + width] + x[..., far:far + width],
                      alpha=kernel[i])
    return out


def orientated_gradients(image: Tensor, directions: int = DIRECTIONS,
                         presmooth: float = 1., smooth: float = SMOOTH
                         ) -> Tensor:
    """Channel features of orientated gradients, as :mod:`.cfog` has them.

    What an optical and a radar image have in common without any learning.

    Args:
        image: (B, C, H, W); channels are averaged.
        directions: K.
        presmooth: Sigma in pixels before the gradient.
        smooth: Sigma of the K channels.

    Returns:
        (B, K, H, W), of norm 1 at each pixel, or 0 where the image is flat.
    """
    grey = blur(image.mean(1, keepdim=True), presmooth)
    sobel = grey.new_tensor(SOBEL)
    gradient = F.conv2d(F.pad(grey, (1, 1, 1, 1), mode='reflect'),
                        torch.stack([sobel, sobel.T])[:, None])
    angle = torch.arange(
        directions, dtype=grey.dtype, device=grey.device) * (
            math.pi / directions)
    turn = torch.stack([angle.cos(), angle.sin()], 1)[..., None, None]
    stack = blur(F.conv2d(gradient, turn).abs(), smooth)
    stack = (2 * stack + stack.roll(1, 1) + stack.roll(-1, 1)) / 4
    # Faster than norm(); what is added gives it a gradient at 0.
    norm = (stack.square().sum(1, keepdim=True) + 1e-24).sqrt()
    # Below a thousandth of the usual gradient a direction is rounding.
    flat = norm <= 1e-3 * norm.mean((2, 3), keepdim=True)
    return torch.where(flat, 0, stack / norm.masked_fill(flat, 1))


def shrink_mask(valid: Tensor, reach: int) -> Tensor:
    """Pixels with data for ``reach`` pixels around, (B, 1, H, W) bool."""
    lacking = (~valid).float()
    side = 2 * reach + 1
    # A square is a row and a column, at a small part of the cost.
    rows = F.max_pool2d(lacking, (1, side), 1, (0, reach))
    return F.max_pool2d(rows, (side, 1), 1, (reach, 0)) == 0


# ------------------------------------------------------------------- ResNet


def make_norm(kind: str, channels: int) -> nn.Module:
    """BatchNorm, or GroupNorm that does not depend on the batch."""
    if kind == 'BN':
        return nn.BatchNorm2d(channels)
    return nn.GroupNorm(math.gcd(channels, 16), channels)


class Bottleneck(nn.Module):
    """1 x 1, 3 x 3 and 1 x 1 convolution with a shortcut."""

    def __init__(self, in_channels: int, width: int, stride: int,
                 norm: str) -> None:
        super().__init__()
        out = width * EXPANSION
        self.conv1 = nn.Conv2d(in_channels, width, 1, bias=False)
        self.bn1 = make_norm(norm, width)
        self.conv2 = nn.Conv2d(
            width, width, 3, stride, padding=1, bias=False)
        self.bn2 = make_norm(norm, width)
        self.conv3 = nn.Conv2d(width, out, 1, bias=False)
        self.bn3 = make_norm(norm, out)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = nn.Sequential(
            nn.Conv2d(in_channels, out, 1, stride, bias=False),
            make_norm(norm, out)
        ) if stride != 1 or in_channels != out else None

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to (B, 4 width, H / stride, W / stride)."""
        short = x if self.downsample is None else self.downsample(x)
        x = self.relu(self.bn1(self.conv1(x)))
        x = self.relu(self.bn2(self.conv2(x)))
        return self.relu(self.bn3(self.conv3(x)) + short)


class ResNetPyramid(nn.Module):
    """ResNet with bottlenecks, every stride kept.

    Args:
        in_channels: Of the image.
        width: Channels of the stem; 64 in ResNet-50.
        depths: Blocks of the four layers.
        norm: ``'BN'`` or ``'GN'``.
        last: Largest stride that is needed; what is behind it is left out.
    """

    def __init__(self, in_channels: int, width: int, depths: Sequence[int],
                 norm: str, last: int = 32) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(
            in_channels, width, 7, stride=2, padding=3, bias=False)
        self.bn1 = make_norm(norm, width)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(3, stride=2, padding=1)
        self.channels = {2: width}
        channels = width
        for i, depth in enumerate(depths):
            if 4 << i > last:
                break
            blocks = []
            for number in range(depth):
                stride = 2 if i and not number else 1
                blocks.append(
                    Bottleneck(channels, width << i, stride, norm))
                channels = (width << i) * EXPANSION
            self.add_module(f'layer{i + 1}', nn.Sequential(*blocks))
            self.channels[4 << i] = channels
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(
                    module.weight, mode='fan_out', nonlinearity='relu')

    def forward(self, x: Tensor) -> dict[int, Tensor]:
        """(B, C, H, W) to maps by stride."""
        x = self.relu(self.bn1(self.conv1(x)))
        out = {2: x}
        x = self.maxpool(x)
        for stride in list(self.channels)[1:]:
            x = getattr(self, f'layer{stride.bit_length() - 2}')(x)
            out[stride] = x
        return out


# ------------------------------------------------------------------ encoder


class Branch(nn.Module):
    """One sensor: a ResNet and enhancers.

    Args:
        net: The ResNet.
        strides: Those whose features are enhanced.
        fge: Arguments of :class:`~.fge.FGE`.
    """

    def __init__(self, net: ResNetPyramid, strides: Sequence[int],
                 fge: Mapping[str, Any]) -> None:
        super().__init__()
        self.net = net
        self.fge = nn.ModuleDict(
            {str(s): FGE(net.channels[s], **fge) for s in strides})

    def forward(self, x: Tensor) -> dict[int, Tensor]:
        """(B, C, H, W) to maps by stride."""
        maps = self.net(x)
        for stride, enhance in self.fge.items():
            maps[int(stride)] = enhance(maps[int(stride)])
        return maps


@MODELS.register_module()
class TwoBranchEncoder(BaseModule):
    """Features of both sensors; see the module.

    Args:
        width: Channels of the ResNets' stem; 64 in ResNet-50.
        depths: Blocks of their four layers.
        fge: Arguments of :class:`~.fge.FGE`; None for no enhancers.
        fge_strides: Where they act.
        dino: Config of a :class:`~osar_plugin.models.backbones.DINOv2`
            with ``out='map'`` for stride 16; None for the ResNet's map. It
            is frozen.
        dino_raw: Give it the images as they come (release); else they are
            normalised as ImageNet's, which expects images on 0..1.
        gradient_stem: Add orientated gradients to the image (stride 1).
        stem_sigmas: Gaussians in pixels before these gradients; each gives
            its own channels. Radar wants wide ones for its speckle.
        raw_input: The ResNets see the image, too; else only its gradients,
            in which no grey value and no contrast of a sensor is left.
        norm: ``'BN'`` or ``'GN'`` of the ResNets; GN where nothing is
            pre-trained and batches are small.
        frozen_norm: The ResNets' BatchNorm stays in evaluation mode
            (release).
        last: Largest stride that is needed.
        pretrained: File of a ResNet with torchvision's names for both
            branches.
        init_cfg: See :class:`mmengine.model.BaseModule`.

    Attributes:
        out_channels: Of the features by stride.
        fge_strides: Where enhancers act.

    Raises:
        ConfigError: If an argument cannot be used.
    """

    def __init__(self,
                 width: int = 64,
                 depths: Sequence[int] = (3, 4, 6, 3),
                 fge: dict[str, Any] | None = None,
                 fge_strides: Sequence[int] = FGE_STRIDES,
                 dino: Buildable | None = None,
                 dino_raw: bool = True,
                 gradient_stem: bool = False,
                 stem_sigmas: Sequence[float] = (1., ),
                 raw_input: bool = True,
                 norm: str = 'BN',
                 frozen_norm: bool = True,
                 last: int = 32,
                 pretrained: str | None = None,
                 init_cfg: dict | None = None) -> None:
        super().__init__(init_cfg)
        require_range(8, 2**12, width=width)
        require_range(1, 2**8, depths=list(depths))
        check_word('norm', norm, ('BN', 'GN'))
        check_word('last', last, STRIDES[2:])
        require_range(0, 16, without=(0, ), stem_sigmas=list(stem_sigmas))
        if not raw_input and not gradient_stem:
            raise ConfigError(
                'raw_input=False and gradient_stem=False leave the ResNets '
                'nothing to see.')
        if len(depths) != 4 or width % 8 or not set(fge_strides) <= set(
                STRIDES[1:STRIDES.index(last) + 1]):
            raise ConfigError(
                f'width={width}, depths={tuple(depths)}, fge_strides='
                f'{tuple(fge_strides)}: expected a multiple of 8, four '
                f'depths, and strides of 2 to last={last}.')
        self.gradient_stem, self.dino_raw = gradient_stem, dino_raw
        self.frozen_norm, self.pretrained = frozen_norm, pretrained
        self.stem_sigmas, self.raw_input = tuple(stem_sigmas), raw_input
        stem = DIRECTIONS * len(self.stem_sigmas) * gradient_stem
        channels = 3 * raw_input + stem
        strides = () if fge is None else tuple(fge_strides)
        self.fge_strides = strides
        self.branches = nn.ModuleDict({
            name: Branch(ResNetPyramid(channels, width, depths, norm, last),
                         strides, fge or {}) for name in MODALITIES})
        self.dino: Any = None if dino is None else MODELS.build(dino)
        first: Any = self.branches['optical']
        own: dict[int, int] = first.net.channels
        self.out_channels = {1: 3 + stem, **own}
        if self.dino is not None:
            self.dino.requires_grad_(False)
            self.dino.frozen = True
            self.out_channels[16] = self.dino.embed_dim

    def init_weights(self) -> None:
        """Load ``pretrained`` into both branches, then as MMEngine does."""
        super().init_weights()
        if self.pretrained is None:
            return
        content = read_checkpoint(self.pretrained)
        print_log(f'Weights from {self.pretrained}', logger='current')
        branches: Any = self.branches.values()
        for branch in branches:
            load_resnet(branch.net, content)

    def forward(self, images: Tensor, modality: int,
                valid: Tensor | None = None) -> dict[int, Tensor]:
        """Features of images of one sensor.

        Args:
            images: (B, 3, H, W), sides multiples of 32, at least 64.
            modality: 0 optical, 1 SAR.
            valid: (B, 1, H, W) bool, where there is data; default:
                everywhere. The gradients of a border are no structure.

        Returns:
            (B, C, H / s, W / s) by stride s, float32.

        Raises:
            DataFormatError: If the images are none.
        """
        _check(images, modality)
        x = images.float()
        if self.gradient_stem:
            with torch.no_grad():
                stem = self.structure(x, valid)
            x = torch.cat([x, stem], dim=1)
        seen = x if self.raw_input else x[:, 3:]
        maps = {1: x, **self.branches[MODALITIES[modality]](seen)}
        if self.dino is not None:
            maps[16] = self.describe(images)
        return {stride: m.float() for stride, m in maps.items()}

    def structure(self, images: Tensor, valid: Tensor | None) -> Tensor:
        """Orientated gradients (B, K, H, W), 0 where they saw no data."""
        made = []
        for sigma in self.stem_sigmas:
            stem = orientated_gradients(images, presmooth=sigma)
            if valid is not None:
                # What the two Gaussians and the gradient reach.
                stem = stem * shrink_mask(valid, round(
                    3 * math.hypot(sigma, SMOOTH) + 2))
            made.append(stem)
        return torch.cat(made, dim=1)

    @torch.no_grad()
    def describe(self, images: Tensor) -> Tensor:
        """DINOv2's map of stride 16: its patches, of the resized image."""
        x = images
        if not self.dino_raw:
            mean, std = (x.new_tensor(v)[:, None, None] for v in IMAGENET)
            x = (x - mean) / std
        side = self.dino.patch_size
        size = [n // 16 * side for n in x.shape[2:]]
        x = F.interpolate(x, size, mode='bilinear', align_corners=False)
        out: Tensor = self.dino(x)[-1]
        return out

    def train(self, mode: bool = True) -> TwoBranchEncoder:
        """Switch the mode; frozen norms and DINOv2 stay in evaluation."""
        super().train(mode)
        branches: Any = self.branches.values()
        if self.frozen_norm:
            for branch in branches:
                for module in branch.net.modules():
                    if isinstance(module, nn.BatchNorm2d):
                        module.eval()
        return self


def _check(images: Tensor, modality: int) -> None:
    if modality not in (0, 1):
        raise DataFormatError(
            f'modality={modality!r} is neither 0 (optical) nor 1 (SAR).')
    if images.ndim != 4 or images.shape[1] != 3 or not (
            images.is_floating_point()) or any(
                s % 32 or s < 64 for s in images.shape[2:]):
        raise DataFormatError(
            f'The encoder takes floats (B, 3, H, W) with sides of at least '
            f'64 that are multiples of 32 and got {tuple(images.shape)} '
            f'{images.dtype}. osar_plugin.SOMA pads and converts.')


def load_resnet(net: ResNetPyramid, content: Mapping[str, Any]) -> None:
    """Load a classifier with torchvision's names into a branch.

    A stem with more channels than the file's gets the file's filters for
    the first three and 0 for the others.

    Raises:
        CheckpointMismatchError: If keys are missing or shapes differ.
    """
    source = {k: v for k, v in unwrap_state_dict(content).items()
              if isinstance(v, Tensor)}
    source = below(source, 'backbone.') or source
    own = net.state_dict()
    stem = source.get('conv1.weight')
    if stem is not None and stem.ndim == 4 and (
            stem.shape[1] < own['conv1.weight'].shape[1]):
        more = own['conv1.weight'].shape[1] - stem.shape[1]
        source['conv1.weight'] = F.pad(stem, (0, 0, 0, 0, 0, more))
    wrong = [k for k, v in own.items() if not k.endswith('batches_tracked')
             and (k not in source or source[k].shape != v.shape)]
    if wrong:
        raise CheckpointMismatchError(
            f'{len(wrong)} of {len(own)} tensors of the ResNet are not in '
            f'the file, or have other shapes: {", ".join(wrong[:4])}. Use a '
            'ResNet with bottlenecks of the same width and depths and the '
            "names of torchvision, and norm='BN'.")
    net.load_state_dict({k: source[k] for k in own if k in source},
                        strict=False)
