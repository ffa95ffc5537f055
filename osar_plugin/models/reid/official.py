"""Checkpoints of the authors, both ways.

Accepted:

* the plain ViT-B/16 of timm (197 positions, one tokenizer, a head);
* the pair-pre-trained backbone, with and without ``base.``;
* fine-tuned TransOSS and MOS files (``base.*``, ``bottleneck``) and SDF-Net
  files (``bottleneck_fuse`` in use, ``bottleneck`` left over), each with or
  without ``module.``;
* ours.

What is adapted on the way: positions of another grid are interpolated, the
class position is doubled for models with a modality token, and a missing SAR
tokenizer starts as a copy of the optical one. A classifier of another number
of identities is left out.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...utils.checkpoint import (
    LoadReport,
    compare,
    unwrap_state_dict,
)
from ...utils.errors import CheckpointError, CheckpointMismatchError

# Official prefix, our prefix; the first that fits counts.
RENAMES = (
    ('base.patch_embed.proj.', 'backbone.patch_embeds.0.'),
    ('base.patch_embed_SAR.proj.', 'backbone.patch_embeds.1.'),
    ('base.mie_embed', 'backbone.modality_embed'),
    ('base.wh_embed.linear_layer.', 'backbone.size_embed.'),
    ('base.', 'backbone.'),
    ('classifier.', 'head.classifier.'),
)
SPECIFIC_TOKENS = ('base.cls_token_spe_rgb', 'base.cls_token_spe_sar')
# In the published files without any use: an ImageNet classifier, and what
# the plain ViT brings.
UNUSED = ('base.fc.', 'base.head', 'base.pre_logits', 'base.dist')


def is_official(state_dict: Mapping[str, Any]) -> bool:
    """Whether the keys are the authors' or a plain ViT's, not ours."""
    return not any(key.startswith('backbone.') for key in state_dict)


def from_official(state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename the authors' keys to ours; shapes stay as they are.

    Args:
        state_dict: Any of the layouts named above, without ``module.``.
    """
    out: dict[str, Tensor] = {}
    source = dict(state_dict)
    if not any(key.startswith('base.') for key in source):
        known = ('classifier.', 'bottleneck', 'logit_scale')
        source = {
            k if k.startswith(known) else f'base.{k}': v
            for k, v in source.items()
        }
    if all(key in source for key in SPECIFIC_TOKENS):
        out['backbone.modality_tokens'] = torch.cat(
            [source.pop(key) for key in SPECIFIC_TOKENS])
    fused = any(key.startswith('bottleneck_fuse.') for key in source)
    for key, value in source.items():
        if key.startswith(UNUSED):
            continue
        if key.startswith('bottleneck'):
            name, rest = key.split('.', 1)
            # SDF-Net files carry TransOSS's own neck along, unused.
            if (name == 'bottleneck_fuse') == fused:
                out[f'head.bottleneck.{rest}'] = value
            continue
        out[_rename(key)] = value
    return out


def _rename(key: str) -> str:
    for old, new in RENAMES:
        if key.startswith(old):
            return new + key[len(old):]
    return key


def to_official(state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename our keys to the authors', complete for a strict load.

    Entries that their models hold without using them (``base.fc``,
    ``logit_scale``, SDF-Net's ``bottleneck``) are filled with their initial
    values.

    Of a pair-pre-trained model, the backbone without ``base.``: the layout
    of the published ``vit_b512_pre.pth``, which the authors' training reads.

    Args:
        state_dict: Of one of the models of this folder.

    Raises:
        CheckpointError: If the model has parts that the authors' have not
            (the projection heads of the paper's form).
    """
    foreign = [k for k in state_dict if k.startswith('neck.')]
    if foreign:
        raise CheckpointError(
            f"The authors' code has no place for {', '.join(foreign)}. "
            'Convert to our own layout (--to ours).')
    out: dict[str, Tensor] = {}
    disentangled = 'backbone.modality_tokens' in state_dict
    neck = 'bottleneck_fuse.' if disentangled else 'bottleneck.'
    back = {new: old for old, new in RENAMES}
    for key, value in state_dict.items():
        if key == 'backbone.modality_tokens':
            out.update(zip(SPECIFIC_TOKENS, value.split(1), strict=True))
        elif key.startswith('head.bottleneck.'):
            out[neck + key.removeprefix('head.bottleneck.')] = value
        else:
            new = next((n for n in back if key.startswith(n)), '')
            out[back.get(new, '') + key[len(new):]] = value
    dim = state_dict['backbone.cls_token'].shape[-1]
    out.setdefault('logit_scale', torch.tensor(math.log(1 / 0.07)))
    out['base.fc.weight'] = torch.zeros(1000, dim)
    out['base.fc.bias'] = torch.zeros(1000)
    if not any(key.startswith('head.') for key in state_dict):
        del out['logit_scale']
        return {k.removeprefix('base.'): v for k, v in out.items()}
    if disentangled:
        norm = nn.BatchNorm1d(dim).state_dict()
        out.update({f'bottleneck.{k}': v for k, v in norm.items()})
    return out


def resize_positions(positions: Tensor, num_class_tokens: int,
                     grid: tuple[int, int]) -> tuple[Tensor, str]:
    """Fit position embeddings to another number of tokens.

    Args:
        positions: (1, T, D): one or two class positions, then patches row
            by row.
        num_class_tokens: Of the receiving model, 1 or 2.
        grid: (h, w) of the receiving model.

    Returns:
        (1, num_class_tokens + h * w, D) and what was done, '' for nothing.

    Raises:
        CheckpointMismatchError: If the source grid cannot be told.
    """
    total, patches = positions.shape[1], grid[0] * grid[1]
    done = []
    # A grid of the same size decides how many class rows the source has.
    classes = total - patches if total - patches in (1, 2) else 1
    head, rest = positions[:, :classes], positions[:, classes:]
    if rest.shape[1] != patches:
        side = math.isqrt(rest.shape[1])
        if side * side != rest.shape[1]:
            raise CheckpointMismatchError(
                f'{total} positions fit neither the {grid[0]} x {grid[1]} '
                'grid of the model nor one class token and a square grid. '
                'Use a model of the size that the checkpoint was trained '
                'with.')
        square = rest.unflatten(1, (side, side)).permute(0, 3, 1, 2)
        rest = F.interpolate(
            square.float(), grid, mode='bilinear', align_corners=False)
        rest = rest.flatten(2).transpose(1, 2).to(positions.dtype)
        done.append(f'interpolated from {side} x {side} to '
                    f'{grid[0]} x {grid[1]}')
    if classes < num_class_tokens:
        head = head[:, :1].expand(-1, num_class_tokens, -1)
        done.append('class position doubled')
    elif classes > num_class_tokens:
        head = head[:, :num_class_tokens]
        done.append('second class position left out')
    return torch.cat([head, rest], dim=1), ', '.join(done)


def adapt(state_dict: Mapping[str, Any],
          model: nn.Module) -> tuple[dict[str, Tensor], LoadReport]:
    """Bring a state dict of any accepted layout to a model's keys.

    Args:
        state_dict: The content of a checkpoint.
        model: The receiver, with a ``backbone``; not changed.

    Returns:
        The adapted state dict, without entries that do not fit, and the
        report on it.

    Raises:
        CheckpointMismatchError: See :func:`compare`.
    """
    source = unwrap_state_dict(state_dict)
    if is_official(source):
        # Their files carry the parts of every training stage along.
        own_keys = model.state_dict().keys()
        source = {
            k: v
            for k, v in from_official(source).items()
            if k in own_keys or k.startswith('backbone.')
        }
    backbone: Any = model.backbone
    resized: dict[str, str] = {}
    key = 'backbone.pos_embed'
    if isinstance(source.get(key), Tensor) and source[key].ndim == 3:
        source[key], note = resize_positions(
            source[key], backbone.num_class_tokens, backbone.grid_size)
        if note:
            resized[key] = note
    for name, own in backbone.patch_embeds[1].named_parameters():
        optical = f'backbone.patch_embeds.0.{name}'
        sar = f'backbone.patch_embeds.1.{name}'
        if optical in source:
            if source[optical].ndim == 2 and name == 'weight':
                source[optical] = source[optical].reshape(own.shape)
            if sar not in source:
                source[sar] = source[optical]
                resized[sar] = 'copied from the optical tokenizer'
    report = compare(
        source, model, lambda k: k.startswith('head.classifier.'))
    report.resized = resized
    for name in report.mismatched:
        del source[name]
    return source, report
