"""Checkpoints of SOMA's release, both ways.

Its training writes ``{'encoder': ..., 'matcher': ...}``, with DINOv2 three
times under three prefixes and the unused classifiers of both ResNets.
Accepted by every loader of state dicts: that, and ours.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from ...utils.checkpoint import LoadReport, compare, unwrap_state_dict
from ...utils.errors import CheckpointMismatchError, ConfigError
from .glam_released import ReleasedGLAM

DINO = 'dino_model.'
# Prefixes of theirs and of ours.
BRANCHES = (
    ('opt_encoder.resnet_opt.net.', 'encoder.branches.optical.net.'),
    ('opt_encoder.fgeset.', 'encoder.branches.optical.fge.'),
    ('sar_encoder.resnet_sar.net.', 'encoder.branches.sar.net.'),
    ('sar_encoder.fgeset.', 'encoder.branches.sar.fge.'))
COPIES = (f'opt_encoder.{DINO}', f'sar_encoder.{DINO}')
CLASSES = 1000


def is_official(content: Mapping[str, Any]) -> bool:
    """Whether a file is laid out as the release's."""
    return all(isinstance(content.get(part), Mapping)
               for part in ('encoder', 'matcher'))


def from_official(content: Mapping[str, Any]) -> dict[str, Tensor]:
    """Rename a file of the release to the keys of :class:`~.soma.SOMA`.

    Args:
        content: ``encoder`` and ``matcher``, from several GPUs or one.
    """
    out: dict[str, Tensor] = {}
    for key, value in unwrap_state_dict(content['encoder']).items():
        if key.startswith(COPIES) or '.net.fc.' in key:
            continue
        if key.startswith(DINO):
            out[f'encoder.dino.{key[len(DINO):]}'] = value
            continue
        for theirs, ours in BRANCHES:
            if key.startswith(theirs):
                key = ours + key[len(theirs):]
                break
        out[key] = value
    out.update({
        f'matcher.{key}': value
        for key, value in unwrap_state_dict(content['matcher']).items()})
    return out


def to_official(model: Any) -> dict[str, dict[str, Tensor]]:
    """A model's weights as a file of the release, complete.

    The classifiers, which nothing uses, are 0.

    Args:
        model: A :class:`~.soma.SOMA` with :class:`~.glam_released.
            ReleasedGLAM` and DINOv2.

    Raises:
        ConfigError: If the release has no such model.
    """
    if not isinstance(model.matcher, ReleasedGLAM) or (
            getattr(model.encoder, 'dino', None) is None):
        raise ConfigError(
            'The release has only ReleasedGLAM on an encoder with DINOv2; '
            f'this is {type(model.matcher).__name__} on '
            f'{type(model.encoder).__name__}. Share the file as it is.')
    encoder: dict[str, Tensor] = {}
    matcher: dict[str, Tensor] = {}
    for key, value in model.state_dict().items():
        if key.startswith('matcher.'):
            matcher[key.removeprefix('matcher.')] = value
        elif key.startswith('encoder.dino.'):
            name = DINO + key.removeprefix('encoder.dino.')
            for copy in ('', 'opt_encoder.', 'sar_encoder.'):
                encoder[copy + name] = value
        for theirs, ours in BRANCHES:
            if key.startswith(ours):
                encoder[theirs + key[len(ours):]] = value
    width = model.encoder.out_channels[32]
    for theirs, _ in BRANCHES[::2]:
        encoder[f'{theirs}fc.weight'] = torch.zeros(CLASSES, width)
        encoder[f'{theirs}fc.bias'] = torch.zeros(CLASSES)
    return dict(encoder=encoder, matcher=matcher)


def adapt(content: Mapping[str, Any],
          model: nn.Module) -> tuple[dict[str, Tensor], LoadReport]:
    """Bring a checkpoint of any accepted layout to a model's keys.

    Args:
        content: What a file holds.
        model: The receiver; not changed.

    Raises:
        CheckpointMismatchError: If a file of the release meets a model of
            another kind; see also :func:`~osar_plugin.utils.checkpoint.
            compare`.
    """
    if not is_official(content):
        source = unwrap_state_dict(content)
        return source, compare(source, model)
    source = from_official(content)
    own = model.state_dict()
    if 'matcher.coarse_matcher.regressor.6.weight' not in own or (
            'matcher.fine_matcher_8.theta_decoder.2.weight' not in own):
        raise CheckpointMismatchError(
            "The file is of SOMA's release and the model is none: its "
            'matcher is not osar_plugin.ReleasedGLAM. Use '
            'configs/soma_released_sen12.py.')
    return source, compare(source, model)
