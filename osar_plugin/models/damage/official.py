"""Checkpoints for :class:`~.damageformer.DamageFormer`.

Accepted by every loader of state dicts:

* fine-tuned damage mappers of CoDe-MAE's official code and of this package,
  which have the same names (``encoder.*``, ``fusion_layer_*``, ``clf_*``);
* pre-trained or otherwise fine-tuned backbones, official or ours, which fill
  the encoders alone; the heads start anew.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from ...utils.checkpoint import LoadReport, compare, unwrap_state_dict
from ...utils.errors import CheckpointMismatchError

HEADS = ('fusion_layer_', 'clf_')
ENCODERS = ('encoder', 'encoder_post')
INDEX = 'relative_position_index'


def is_damage_mapper(source: Mapping[str, Any]) -> bool:
    """Whether a state dict has the heads of a damage mapper."""
    return any(key.startswith(HEADS) for key in source)


def adapt(content: Mapping[str, Any],
          model: Any) -> tuple[dict[str, Tensor], LoadReport]:
    """Bring a checkpoint of any accepted layout to a model's keys.

    Args:
        content: What a file holds.
        model: The :class:`~.damageformer.DamageFormer`; not changed.

    Returns:
        The weights that fit, and the report.

    Raises:
        CheckpointMismatchError: If shapes differ, or the file is of another
            model.
    """
    source = {
        key: value for key, value in unwrap_state_dict(content).items()
        if isinstance(value, Tensor) and not key.endswith(INDEX)}
    if not is_damage_mapper(source):
        return _encoders_alone(content, model)
    twin = 'encoder_post' in dict(model.named_children())
    if twin != any(key.startswith('encoder_post.') for key in source):
        raise CheckpointMismatchError(
            f'The checkpoint has {"one encoder" if twin else "two encoders"} '
            f'and the model {"two" if twin else "one"}. Set '
            f'model.encoder_post={"None" if twin else "dict(type=...)"} as '
            'the checkpoint was trained.')
    report = compare(source, model)
    return {key: source[key] for key in report.loaded}, report


def _encoders_alone(content: Mapping[str, Any],
                    model: Any) -> tuple[dict[str, Tensor], LoadReport]:
    """A file of a backbone, for every encoder of the model."""
    # Of the backbones themselves: names, tables of other sizes.
    from ..backbones.official_hierarchical import adapt as adapt_backbone

    own = model.state_dict()
    weights: dict[str, Tensor] = {}
    report = LoadReport()
    for name in ENCODERS:
        encoder = getattr(model, name, None)
        if encoder is None:
            continue
        if not hasattr(encoder, 'embed_names'):
            raise CheckpointMismatchError(
                'The checkpoint has no fusion_layer_* and clf_*, and '
                f'{type(encoder).__name__} takes no other files here. Give '
                f'the file to model.{name}.init_cfg.')
        part, found = adapt_backbone(content, encoder)
        weights.update({f'{name}.{k}': v for k, v in part.items()})
        report.unexpected = found.unexpected
        report.resized.update({
            f'{name}.{k}': v for k, v in found.resized.items()})
    report.loaded = list(weights)
    report.missing = [key for key in own if key not in weights]
    total = sum(value.numel() for value in own.values())
    report.coverage = sum(
        value.numel() for value in weights.values()) / max(total, 1)
    return weights, report
