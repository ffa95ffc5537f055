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

import logging
from collections.abc import Mapping
from typing import Any

import torch.nn.functional as F
from mmengine.logging import print_log
from torch import Tensor, nn

from ...utils.checkpoint import (
    LoadReport,
    compare,
    read_checkpoint,
    unwrap_state_dict,
)
from ...utils.errors import CheckpointMismatchError
from .hierarchical import resize_positions, square_side

PREFIXES = ('module.', 'backbone.', 'encoder.')
# Of pre-training and of classifiers; no part of a backbone.
FOREIGN = ('decoder', 'mask_token', 'lm_', 'norm.', 'norm_cls.',
           'cls_pt_layers.', 'contrastive_loss.', 'head.', 'fc_norm.')
INDEX = 'relative_position_index'
TABLE = 'relative_position_bias_table'
POSITIONS = 'absolute_pos_embed'
# Where the authors, too, start anew when the file has none: relative
# positions at 0, norms of HiViT's detection maps at the identity.
FRESH = (TABLE, 'fpn1.', 'fpn2.', 'fpn3.', 'fpn4.')
LEAST = 0.9


def backbone_weights(content: Mapping[str, Any],
                     prefix: str = '') -> dict[str, Tensor]:
    """The backbone's tensors of a checkpoint, by their bare names.

    Args:
        content: Of a file, in any accepted layout.
        prefix: Of the backbone's keys; '' to find it.

    Raises:
        CheckpointMismatchError: If no key begins with ``prefix``.
    """
    source = {
        key: value for key, value in unwrap_state_dict(content).items()
        if isinstance(value, Tensor)}
    if prefix:
        prefix = prefix.rstrip('.') + '.'
        chosen = _below(source, prefix)
        if not chosen:
            raise CheckpointMismatchError(
                f'No key of the checkpoint begins with prefix={prefix!r}; '
                f'it has {", ".join(list(source)[:4])}, ... Leave the '
                'prefix out to have it found.')
        source = chosen
    while below := next(filter(None, (
            _below(source, name) for name in PREFIXES)), {}):
        source = below
    return {
        key: value for key, value in source.items()
        if not key.startswith(FOREIGN) and not key.endswith(INDEX)}


def _below(source: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {
        key.removeprefix(prefix): value for key, value in source.items()
        if key.startswith(prefix)}


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
        for key, value in _below(source, f'{origin}.').items():
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
    if old * old != table.shape[0]:
        raise CheckpointMismatchError(
            f'A table of relative positions has {table.shape[0]} rows, '
            'expected a square number.')
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
                square_side(value)**2 == value.shape[1]):
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
    _require_fit(report, model)
    return {key: source[key] for key in report.loaded}, report


def _require_fit(report: LoadReport, model: nn.Module) -> None:
    fresh = [k for k in report.missing if any(part in k for part in FRESH)]
    needed = len(report.loaded) + len(report.missing) - len(fresh)
    left = [k for k in report.unexpected
            if k.startswith('blocks.') and not k.endswith(TABLE)]
    if len(report.loaded) < LEAST * needed or left:
        absent = [k for k in report.missing if k not in fresh]
        raise CheckpointMismatchError(
            f'{len(report.loaded)} of {needed} keys of '
            f'{type(model).__name__} are in the checkpoint (at least '
            f'{LEAST:.0%} expected) and {len(left)} of its blocks are left '
            f'over. Missing: {", ".join(absent[:4]) or "none"}; left over: '
            f'{", ".join(left[:4]) or "none"}. Set arch and num_outs of the '
            'backbone as in the file.')


def adapt_on_load(model: nn.Module) -> None:
    """Let ``load_state_dict`` of a backbone accept the known layouts.

    Only where the backbone is what is loaded: as a part of a model it gets
    what that model saved. The report is logged and kept as
    ``model.load_report``.
    """

    def hook(module: nn.Module, state_dict: dict[str, Any], prefix: str,
             *_: Any) -> None:
        if prefix:
            return
        weights, report = adapt(state_dict, module)
        module.load_report = report  # type: ignore[assignment]
        print_log(
            f'Weights of {type(module).__name__}: {report}',
            logger='current',
            level=logging.WARNING if report.missing else logging.INFO)
        state_dict.clear()
        state_dict.update(weights)

    model.register_load_state_dict_pre_hook(hook)


def load_backbone(model: nn.Module, path: str,
                  prefix: str = '') -> LoadReport:
    """Load a checkpoint of any accepted layout into a backbone.

    Args:
        model: A :class:`HiViT` or :class:`ITPN`.
        path: The file; never unpickled.
        prefix: See :func:`backbone_weights`.

    Returns:
        What became of its entries; also logged.

    Raises:
        CheckpointError: If the file cannot be used.
    """
    content = read_checkpoint(path)
    print_log(f'Weights from {path}', logger='current')
    model.load_state_dict(backbone_weights(content, prefix), strict=False)
    return model.load_report  # type: ignore[return-value]


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
