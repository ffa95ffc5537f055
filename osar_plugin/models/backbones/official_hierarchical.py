"""Checkpoints of HiViT, SARATR-X, iTPN and CoDe-MAE for the backbones here.

Accepted, as ``.pth`` (with an ``argparse.Namespace`` beside the weights, as
the authors save it) or ``.safetensors``:

* pre-training files: ``{model: ...}`` with decoders and heads;
* fine-tuned classifiers, detectors and damage mappers: ``backbone.*``,
  ``encoder.*`` or flat, each with or without ``module.``;
* ours, which have the same names.

What is adapted on the way: a single patch embedding is copied to both
sensors, that of the wanted sensor is taken where the backbone has one
without a name, tables of relative positions and of positions are resized
where the backbone is made for another image size. Decoders, mask tokens,
heads and index buffers are left out.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch.nn.functional as F
from torch import Tensor

from ...utils.checkpoint import LoadReport, compare
from ...utils.errors import CheckpointMismatchError
from .hierarchical import resize_positions, square_side
from .pretrained import bare_weights, below, require_fit

# Of pre-training and of classifiers; no part of a backbone.
FOREIGN = ('decoder', 'mask_token', 'lm_', 'norm.', 'norm_cls.',
           'cls_pt_layers.', 'contrastive_loss.', 'head.', 'fc_norm.')
INDEX = 'relative_position_index'
TABLE = 'relative_position_bias_table'
POSITIONS = 'absolute_pos_embed'
# Where the authors, too, start anew when the file has none: relative
# positions at 0, norms of HiViT's detection maps at the identity.
FRESH = (TABLE, 'fpn1.', 'fpn2.', 'fpn3.', 'fpn4.')


def backbone_weights(content: Mapping[str, Any]) -> dict[str, Tensor]:
    """The tensors of HiViT or iTPN in a checkpoint, by their bare names.

    Args:
        content: Of a file, in any accepted layout.
    """
    return {
        key: value for key, value in bare_weights(content).items()
        if not key.startswith(FOREIGN) and not key.endswith(INDEX)}


def choose_embeddings(source: Mapping[str, Tensor], names: list[str],
                      sensor: str | None = None
                      ) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Give each patch embedding of a backbone one of the file.

    Args:
        source: See :func:`backbone_weights`.
        names: Patch embeddings of the backbone.
        sensor: ``'rgb'`` or ``'sar'``: which to take for one without a
            name, where the file has both.

    Returns:
        The weights with the backbone's names, and what was copied or
        renamed, by key.

    Raises:
        CheckpointMismatchError: If the file has none that fits.
    """
    found = sorted({
        key.split('.')[0] for key in source if key.startswith('patch_embed')})
    out = {k: v for k, v in source.items()
           if not k.startswith('patch_embed')}
    notes: dict[str, str] = {}
    for name in names:
        if name in found:
            origin = name
        elif 'patch_embed' in found:
            origin = 'patch_embed'
        elif name == 'patch_embed' and len(found) == 1:
            origin = found[0]
        elif name == 'patch_embed' and f'patch_embed_{sensor}' in found:
            origin = f'patch_embed_{sensor}'
        else:
            raise CheckpointMismatchError(
                f'The backbone needs {name} and the checkpoint has '
                f'{", ".join(found) or "no patch embedding"}. Set '
                "backbone.modality to 'rgb', 'sar' or 'both' as in the "
                'file, or backbone.default_modality to choose one of two.')
        for key, value in below(source, f'{origin}.').items():
            out[f'{name}.{key}'] = value
            if origin != name:
                notes[f'{name}.{key}'] = f'from {origin}'
    return out, notes


def resize_relative_table(table: Tensor, rows: int) -> Tensor:
    """Bicubic resize of a table of relative positions.

    Args:
        table: ((2s-1)^2, heads) for a grid of s x s.
        rows: (2S-1)^2.

    Returns:
        (rows, heads).

    Raises:
        CheckpointMismatchError: If the table is not square.
    """
    old, new = round(table.shape[0]**0.5), round(rows**0.5)
    if not old or old * old != table.shape[0]:
        raise CheckpointMismatchError(
            f'A table of relative positions has {table.shape[0]} rows, '
            'expected a square number above 0.')
    maps = table.float().T.reshape(1, -1, old, old)
    maps = F.interpolate(maps, size=(new, new), mode='bicubic')
    return maps.flatten(2)[0].T.to(table.dtype).contiguous()


def _resize(source: dict[str, Tensor], model: Any) -> dict[str, str]:
    """Fit the position tables in place; returns what was done, by key."""
    notes: dict[str, str] = {}
    own = model.state_dict()
    for key, value in source.items():
        if key not in own or own[key].shape == value.shape:
            continue
        before = tuple(value.shape)
        if key.endswith(TABLE) and value.ndim == 2:
            source[key] = resize_relative_table(value, own[key].shape[0])
        elif key == POSITIONS and value.ndim == 3 and (
                0 < square_side(value)**2 == value.shape[1]):
            source[key] = resize_positions(
                value, (model.side, model.side), model.position)
        else:
            continue
        notes[key] = f'resized from {before} to {tuple(source[key].shape)}'
    return notes


def adapt(content: Mapping[str, Any],
          model: Any) -> tuple[dict[str, Tensor], LoadReport]:
    """Bring a checkpoint of any accepted layout to a backbone's keys.

    Args:
        content: Of a file.
        model: A :class:`HiViT` or :class:`ITPN`; not changed.

    Returns:
        The weights that fit, and the report.

    Raises:
        CheckpointMismatchError: If shapes differ, blocks are left over, or
            less than 90 % of the backbone's keys are filled.
    """
    source, notes = choose_embeddings(
        backbone_weights(content), model.embed_names,
        model.default_modality)
    notes.update(_resize(source, model))
    report = compare(source, model)
    report.resized = notes
    left = [k for k in report.unexpected
            if k.startswith('blocks.') and not k.endswith(TABLE)]
    require_fit(report, model, FRESH, left)
    return {key: source[key] for key in report.loaded}, report


def export_backbone(content: Mapping[str, Any],
                    modality: str | None = None,
                    prefix: str = '') -> dict[str, Tensor]:
    """The backbone alone, for configs of other frameworks.

    They take it by ``init_cfg=dict(type='Pretrained', checkpoint=FILE)``.

    Args:
        content: Of a file in any accepted layout.
        modality: ``'rgb'`` or ``'sar'``: leave the other patch embedding
            out; None: keep what is there.
        prefix: Written in front of every key.

    Raises:
        CheckpointMismatchError: If the file holds no such backbone.
    """
    source = backbone_weights(content)
    if POSITIONS not in source or 'blocks.0.norm2.weight' not in source:
        raise CheckpointMismatchError(
            'The checkpoint is of no hierarchical backbone: it has no '
            f'{POSITIONS} and blocks.0.norm2. It has '
            f'{", ".join(list(source)[:4]) or "no tensors"}.')
    if modality:
        source, _ = choose_embeddings(source, [f'patch_embed_{modality}'])
    return {prefix + key: value for key, value in source.items()}
