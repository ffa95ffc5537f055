"""Checkpoints of the authors, both ways.

Accepted by CoDe-MAE: the authors' pre-training files, with shared or
separate decoders; iTPN files, whose trunk and pyramid start a training
(official flag ``INP``: everything that begins with ``mask`` or ``decoder``
is left out, the patch embedding serves both sensors); ours. By HiViT-MAE:
the authors' files (HiViT and SARATR-X); ours.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from ...utils.checkpoint import (
    LoadReport,
    compare,
    unwrap_state_dict,
)
from ...utils.errors import CheckpointError, CheckpointMismatchError

POSITIONS = 'decoder_pos_embed'
# Of the backbone's keys, at least so many must be in a file.
NEEDED = 0.9
UNUSED = ('relative_position_index', 'contrastive_loss.temperature')
# Suffixes of separate decoders, and our names of them.
SIDES = (('', 'shared'), ('_rgb', 'rgb'), ('_sar', 'sar'))


def _codemae_names() -> dict[str, str]:
    """Official first parts of keys, and what stands for them in ours."""
    names = {
        'norm': 'distillation.norm', 'lm_head': 'distillation.head',
        'norm_cls': 'distillation.aux_norm',
        'lm_cls_head': 'distillation.aux_head',
        'cls_pt_layers': 'distillation.aux_blocks'}
    for suffix, side in SIDES:
        names[f'decoder_embed{suffix}'] = f'embedding.{side}.levels'
        for cross, part in (('', 'reconstruction'), ('_cross', 'degraded')):
            own = f'{part}.decoders.{side}'
            names[f'mask_token{cross}{suffix}'] = f'{own}.mask_token'
            for name in ('blocks', 'norm', 'pred'):
                names[f'decoder_{name}{cross}{suffix}'] = f'{own}.{name}'
    for side in ('rgb', 'sar'):
        names[f'contrastive_loss.crossattn_{side}.cattn'] = (
            f'contrast.attn_{side}')
    return names


CODEMAE = _codemae_names()
HIVIT_MAE = {
    'norm': 'norm', 'decoder_embed': 'embedding',
    'mask_token': 'decoder.mask_token', 'decoder_blocks': 'decoder.blocks',
    'decoder_norm': 'decoder.norm', 'decoder_pred': 'decoder.pred'}


def is_official(state_dict: Mapping[str, Any]) -> bool:
    """Whether the keys are the authors', not ours."""
    return not any(key.startswith('backbone.') for key in state_dict)


def from_official(state_dict: Mapping[str, Tensor],
                  names: Mapping[str, str]) -> dict[str, Tensor]:
    """Rename the authors' keys to ours; shapes stay as they are.

    The one position table of the decoders is given to each decoder.

    Args:
        state_dict: Without ``module.``.
        names: :data:`CODEMAE` or :data:`HIVIT_MAE`.
    """
    out: dict[str, Tensor] = {}
    for key, value in state_dict.items():
        if key != POSITIONS and not key.endswith(UNUSED):
            out[_rename(key, names)] = value
    if POSITIONS in state_dict:
        decoders = {key.rpartition('.')[0] for key in out
                    if key.endswith('.mask_token')}
        for name in decoders:
            out[f'{name}.pos_embed'] = state_dict[POSITIONS]
    return out


def _rename(key: str, names: Mapping[str, str]) -> str:
    for count in (1, 3):
        head = '.'.join(key.split('.')[:count])
        if head in names:
            return names[head] + key[len(head):]
    return f'backbone.{key}'


def to_official(state_dict: Mapping[str, Tensor],
                names: Mapping[str, str]) -> dict[str, Tensor]:
    """Rename our keys to the authors'.

    Args:
        state_dict: Of one of the models of this folder.
        names: See :func:`from_official`.

    Raises:
        CheckpointError: If a key has no place there.
    """
    back = {ours: official for official, ours in names.items()}
    out: dict[str, Tensor] = {}
    for key, value in state_dict.items():
        if key.startswith('backbone.'):
            out[key.removeprefix('backbone.')] = value
        elif key.endswith('.pos_embed'):
            out[POSITIONS] = value
        else:
            parts = key.split('.')
            head = next((h for h in (
                '.'.join(parts[:n]) for n in range(len(parts), 0, -1)
            ) if h in back), None)
            if head is None:
                raise CheckpointError(
                    f"The authors' code has no place for {key!r}. Convert "
                    'to our own layout (--to ours).')
            out[back[head] + key[len(head):]] = value
    return out


def adapt_codemae(content: Mapping[str, Any],
                  model: Any) -> tuple[dict[str, Tensor], LoadReport]:
    """Bring a checkpoint of any accepted layout to CoDe-MAE's keys.

    Raises:
        CheckpointMismatchError: If it is of another model.
    """
    source = unwrap_state_dict(content)
    if not is_official(source):
        return source, compare(source, model)
    if any(key.startswith('patch_embed.') for key in source):
        return _start_from_itpn(source, model)
    source = from_official(source, CODEMAE)
    require_backbone(source, model)
    return source, compare(source, model)


def _start_from_itpn(source: Mapping[str, Tensor],
                     model: Any) -> tuple[dict[str, Tensor], LoadReport]:
    """Trunk and pyramid of an iTPN file; decoders and heads stay fresh."""
    own = model.state_dict()
    out: dict[str, Tensor] = {}
    for key, value in source.items():
        if key.startswith(('mask', 'decoder')):
            continue
        head, _, rest = key.partition('.')
        names = ([f'patch_embed_{side}.{rest}' for side in ('rgb', 'sar')]
                 if head == 'patch_embed' else [key])
        # The second blocks of iTPN's deeper pyramid have no place.
        out.update({f'backbone.{name}': value for name in names
                    if f'backbone.{name}' in own})
    require_backbone(out, model)
    inner = {k.removeprefix('backbone.'): v for k, v in out.items()}
    compare(inner, model.backbone)  # the shapes
    report = LoadReport(
        loaded=list(out), missing=[k for k in own if k not in out],
        resized={k: 'copied from patch_embed' for k in out
                 if k.startswith('backbone.patch_embed_')})
    filled = sum(own[key].numel() for key in out)
    report.coverage = filled / sum(v.numel() for v in own.values())
    return out, report


def adapt_hivit_mae(content: Mapping[str, Any],
                    model: Any) -> tuple[dict[str, Tensor], LoadReport]:
    """Bring a checkpoint of an accepted layout to HiViT-MAE's keys.

    Raises:
        CheckpointMismatchError: If it is of another model.
    """
    source = unwrap_state_dict(content)
    if is_official(source):
        source = from_official(source, HIVIT_MAE)
        require_backbone(source, model)
    return source, compare(source, model)


def require_backbone(source: Mapping[str, Any], model: Any) -> None:
    """Refuse a file that hardly fills the encoder.

    Raises:
        CheckpointMismatchError: Naming what is missing.
    """
    own = {f'backbone.{key}' for key in model.backbone.state_dict()}
    missing = sorted(own - set(source))
    if len(missing) > (1 - NEEDED) * len(own):
        raise CheckpointMismatchError(
            f'The checkpoint has {len(own) - len(missing)} of the '
            f'{len(own)} tensors of the backbone; missing are '
            f'{", ".join(missing[:6])}, ... Use a file of this backbone '
            '(iTPN-B or -L for CoDe-MAE, HiViT for HiViT-MAE).')
