"""Teachers of the optical side.

A teacher turns a batch into features on the encoder's grid. It is frozen,
runs without gradients, and is no part of the model: neither of its state
dict nor of what the optimizer, DDP or FSDP see.

Letters: B images, L units of 16 x 16 pixels, row by row, T channels of the
teacher, H W height and width in pixels.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from mmengine.logging import print_log
from torch import Tensor, nn

from ...compat import require
from ...registry import MODELS
from ...utils.checkpoint import compare, read_checkpoint, unwrap_state_dict
from ...utils.devices import half_precision
from ...utils.errors import (
    CheckpointError,
    CheckpointMismatchError,
    ConfigError,
    DataFormatError,
)

# DINOv3 SAT-493M's own normalisation (official code).
SAT_MEAN = (0.430, 0.411, 0.296)
SAT_STD = (0.213, 0.156, 0.143)
# Epsilon of the normalisation of features (official code).
FEATURE_EPS = 1e-5
# Names in files of the transformers library, and in timm.
HF_RENAMES = (
    ('embeddings.cls_token', 'cls_token'),
    ('embeddings.register_tokens', 'reg_token'),
    ('embeddings.patch_embeddings.', 'patch_embed.proj.'),
    ('layer.', 'blocks.'),
    ('.attention.o_proj.', '.attn.proj.'),
    ('.layer_scale1.lambda1', '.gamma_1'),
    ('.layer_scale2.lambda1', '.gamma_2'),
    ('.mlp.up_proj.', '.mlp.fc1.'),
    ('.mlp.down_proj.', '.mlp.fc2.'))


class Teacher(nn.Module):
    """What every teacher is.

    Attributes:
        dim: T; ``None`` where it is known only from the features.
    """

    dim: int | None = None

    def forward(self, inputs: Mapping[str, Tensor]) -> Tensor:
        """Features (B, L, T) of a batch as the preprocessor gives it."""
        raise NotImplementedError


class Standardize(nn.Module):
    """The optical images of a batch, standardised as a teacher knows them.

    Args:
        mean: Of the images on the scale 0..1.
        std: Likewise.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        for key, value in (('mean', mean), ('std', std)):
            self.register_buffer(key, torch.tensor(value).view(-1, 1, 1))

    def forward(self, inputs: Mapping[str, Tensor]) -> Tensor:
        """(B, 3, H, W) of ``inputs['rgb01']``.

        Raises:
            DataFormatError: If the batch does not have it.
        """
        images = inputs.get('rgb01')
        if images is None:
            raise DataFormatError(
                f'inputs has {sorted(inputs)}, but no rgb01, the optical '
                'images on the scale 0..1 that the teacher sees: use '
                'osar_plugin.PairPretrainPreprocessor.')
        return (images - self.mean) / self.std


def warn_of_random_weights() -> None:
    """For teachers that are built to measure speed, or by mistake."""
    print_log('The teacher has random weights: nothing can be learned from '
              'it.', 'current', logging.WARNING)


class Apart:
    """Holds a teacher out of the model that uses it.

    Being no module, it hides the teacher from ``state_dict``,
    ``parameters`` and ``to``; the teacher follows the device of its inputs.
    Copies of the model (averaged weights) share it.

    Args:
        teacher: The teacher, or ``None``.
    """

    def __init__(self, teacher: Teacher | None) -> None:
        self.teacher = teacher
        if teacher is not None:
            teacher.requires_grad_(False).eval()

    def __bool__(self) -> bool:
        return self.teacher is not None

    def __deepcopy__(self, memo: dict[int, Any]) -> Apart:
        return self

    def dims(self) -> dict[str, int]:
        """``teacher_dim``, where there is a teacher that knows it."""
        dim = None if self.teacher is None else self.teacher.dim
        return {} if dim is None else dict(teacher_dim=dim)

    @torch.no_grad()
    def __call__(self, inputs: Mapping[str, Tensor]) -> Tensor:
        """Features (B, L, T)."""
        if self.teacher is None:
            raise ConfigError(
                'There is no teacher: give CoDeMAE one, e.g. teacher='
                "dict(type='osar_plugin.PrecomputedTeacher').")
        own = next(self.teacher.parameters(), None)
        device = inputs['rgb'].device
        if own is not None and own.device != device:
            self.teacher.to(device)
        return self.teacher(inputs)


@MODELS.register_module()
class PrecomputedTeacher(Teacher):
    """Features that come with the batch, computed once and kept on disk.

    They are taken as they are: whoever wrote them has normalised them as
    :func:`normalized_features` does.

    Args:
        dim: T, to compare with the features; ``None`` for what the
            distillation is built for.
    """

    def __init__(self, dim: int | None = None) -> None:
        super().__init__()
        self.dim = dim

    def forward(self, inputs: Mapping[str, Tensor]) -> Tensor:
        """``inputs['teacher']`` (B, L, T).

        Raises:
            DataFormatError: If the batch has none.
        """
        features = inputs.get('teacher')
        if features is None:
            raise DataFormatError(
                f'inputs has {sorted(inputs)}, but no teacher: set '
                'teacher_features=FOLDER of the data set.')
        if features.ndim != 3:
            raise DataFormatError(
                f'inputs.teacher has the shape {tuple(features.shape)}, '
                'expected (B, L, channels).')
        return features


@MODELS.register_module()
class DINOv3Teacher(Teacher):
    """A DINOv3 vision transformer of timm (the extra ``pretraining``).

    Officially ViT-L/16 trained on 493 million satellite images; its weights
    are under Meta's licence and are not part of this package.

    Args:
        checkpoint: Weights: a file in the naming of timm or of the
            transformers library (``model.safetensors`` as published), or
            ``'hub'`` for timm's copy, which is downloaded. ``'random'``
            leaves the initial weights, for measurements of speed.
        model: Name in timm; the variants with ``_qkvb`` have the biases
            that the published files have.
        tag: Which of timm's copies ``'hub'`` is.
        mean: Of the images on the scale 0..1.
        std: Likewise.
        amp: ``'auto'``: half precision where the device has it; ``True``;
            ``False``: float32.
        options: Further arguments of ``timm.create_model``.

    Raises:
        ConfigError: If there is no such model, or its patches are not of
            16 pixels.
        CheckpointError: If the file cannot be used.
        MissingDependencyError: If timm is not installed.
    """

    def __init__(self,
                 checkpoint: str,
                 model: str = 'vit_large_patch16_dinov3_qkvb',
                 tag: str = 'sat493m',
                 mean: tuple[float, ...] = SAT_MEAN,
                 std: tuple[float, ...] = SAT_STD,
                 amp: bool | str = 'auto',
                 options: dict[str, Any] | None = None) -> None:
        super().__init__()
        timm = require('timm', 'pretraining')
        self.amp = amp
        half_precision(amp, torch.device('cpu'))  # refuses other words
        name = f'{model}.{tag}' if checkpoint == 'hub' else model
        try:
            self.vit: Any = timm.create_model(
                name, pretrained=checkpoint == 'hub', num_classes=0,
                **(options or {}))
        except (RuntimeError, ValueError) as error:
            raise ConfigError(
                f'timm has no usable model {name!r} ({error}). Name one of '
                "timm.list_models('*dinov3*').") from error
        patch = tuple(self.vit.patch_embed.patch_size)
        if patch != (16, 16):
            raise ConfigError(
                f'teacher.model={model!r} has patches of {patch} pixels, '
                'but the units of the encoder have (16, 16). Choose a '
                'teacher with patch16.')
        self.dim = int(self.vit.num_features)
        if checkpoint not in ('hub', 'random'):
            load_teacher(self.vit, checkpoint)
        if checkpoint == 'random':
            warn_of_random_weights()
        self.standardize = Standardize(mean, std)

    def forward(self, inputs: Mapping[str, Tensor]) -> Tensor:
        """Normalised features (B, L, T) float32 of ``inputs['rgb01']``.

        Raises:
            DataFormatError: If the batch does not have it.
        """
        images = self.standardize(inputs)
        dtype = half_precision(self.amp, images.device)
        with torch.autocast(images.device.type, dtype or torch.bfloat16,
                            enabled=dtype is not None):
            tokens = self.vit.forward_features(images)
        return normalized_features(tokens[:, self.vit.num_prefix_tokens:])


def normalized_features(tokens: Tensor) -> Tensor:
    """LayerNorm without weights over the channels, float32 (official)."""
    with torch.autocast(tokens.device.type, enabled=False):
        return F.layer_norm(
            tokens.float(), tokens.shape[-1:], eps=FEATURE_EPS)


def from_transformers(state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename DINOv3 weights of the transformers library to timm's names.

    The three projections become one; the key projection has no bias.

    Args:
        state_dict: Keys ``embeddings.*``, ``layer.i.*``, ``norm.*``.

    Raises:
        CheckpointError: If a projection is missing.
    """
    out: dict[str, Tensor] = {}
    for key, value in state_dict.items():
        if key == 'embeddings.mask_token':
            continue
        name = key
        for old, new in HF_RENAMES:
            # Prefixes at the start, the others anywhere.
            if old.startswith('.') or name.startswith(old):
                name = name.replace(old, new, 1)
        head, found, rest = name.partition('.attention.')
        if not found:
            out[name] = value
        elif rest == 'q_proj.weight':
            stem = key.removesuffix(rest)
            names = [f'{stem}{x}_proj.weight' for x in 'qkv']
            if not all(name in state_dict for name in names):
                raise CheckpointError(
                    f'The teacher file has {key} but not its key and value '
                    'projections: it is damaged. Fetch it again.')
            out[f'{head}.attn.qkv.weight'] = torch.cat(
                [state_dict[name] for name in names])
        elif rest in ('q_proj.bias', 'v_proj.bias'):
            out[f'{head}.attn.{rest[0]}_bias'] = value
    return out


def load_teacher(vit: nn.Module, path: str) -> None:
    """Fill a transformer of timm, completely.

    Args:
        vit: The receiver.
        path: In the naming of timm or of the transformers library.

    Raises:
        CheckpointError: If the file cannot be used, or leaves out or adds
            anything.
    """
    source = unwrap_state_dict(read_checkpoint(path))
    if 'embeddings.cls_token' in source:
        source = from_transformers(source)
    report = compare(source, vit)
    if report.missing or report.unexpected:
        raise CheckpointMismatchError(
            f'{path!r} is not of the teacher {type(vit).__name__}: {report}. '
            'Name the model of the file in teacher.model.')
    vit.load_state_dict(source)
