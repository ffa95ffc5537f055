"""Checkpoints: read, compare, load into a model, write.

Reading runs nothing that a file contains; see :mod:`.loading`.
"""

from __future__ import annotations

import hashlib
import json
import logging
import struct
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from mmengine.logging import print_log
from mmengine.model import is_model_wrapper
from torch import Tensor, nn

from ..io import atomic_write
from .errors import CheckpointError, CheckpointMismatchError
from .loading import read_checkpoint, read_meta
from .remote import fetch_checkpoint, use_safe_loading
from .work_dir import checkpoint_file, clean_leftovers, find_checkpoint

__all__ = [
    'LoadReport', 'adapt_on_load', 'bare_model', 'checkpoint_file',
    'clean_leftovers', 'compare', 'fetch_checkpoint', 'find_checkpoint',
    'load_checkpoint', 'publish_weights', 'read_checkpoint', 'read_meta',
    'save_weights', 'sha256_of', 'unwrap_state_dict', 'use_safe_loading',
    'watch_loading']


def unwrap_state_dict(content: Mapping[str, Any]) -> dict[str, Any]:
    """Find the tensors in a checkpoint and strip ``module.`` prefixes.

    Args:
        content: A state dict, or a dict that holds one under
            ``'state_dict'`` or ``'model'``.
    """
    for key in ('state_dict', 'model'):
        if isinstance(content.get(key), Mapping):
            content = content[key]
    return {
        key.removeprefix('module.'): value
        for key, value in content.items()
    }


@dataclass
class LoadReport:
    """What became of the entries of a checkpoint.

    Attributes:
        loaded: Keys of the model that were filled from the file.
        missing: Keys of the model that keep their initial values.
        unexpected: Keys of the file that the model does not have.
        resized: Keys of the model filled after interpolation or copying,
            with what was done.
        mismatched: Keys whose shapes differ, with both shapes.
        coverage: Share of the model's values that were filled, 0..1.
    """

    loaded: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    unexpected: list[str] = field(default_factory=list)
    resized: dict[str, str] = field(default_factory=dict)
    mismatched: dict[str, str] = field(default_factory=dict)
    coverage: float = 0.

    def require_complete(self, optional: str = 'head.classifier.') -> None:
        """Refuse weights with which the model must not be used as it is.

        Args:
            optional: Prefix of keys that inference does not need.

        Raises:
            CheckpointMismatchError: Naming the keys that kept their initial
                values.
        """
        absent = [
            k for k in self.missing if not k.startswith(optional)
            # Counted in training alone, and not in older files.
            and not k.endswith('num_batches_tracked')]
        if absent:
            raise CheckpointMismatchError(
                f'{len(absent)} tensors of the model are not in the '
                f'checkpoint: {_shorten(absent)}. It is of another model or '
                'of an earlier stage of training: use its own config, or '
                'train on from it (model.init_cfg).')

    def __str__(self) -> str:
        lines = [
            f'{len(self.loaded)} keys loaded ({self.coverage:.1%} of the '
            f'model), {len(self.missing)} missing, '
            f'{len(self.unexpected)} unexpected, {len(self.resized)} '
            'adapted'
        ]
        for title, names in (('missing', self.missing), ('unexpected',
                                                         self.unexpected)):
            if names:
                lines.append(f'{title}: {_shorten(names)}')
        lines += [f'adapted: {k}: {v}' for k, v in self.resized.items()]
        lines += [f'left out: {k}: {v}' for k, v in self.mismatched.items()]
        return '\n  '.join(lines)


def _shorten(names: list[str], most: int = 12) -> str:
    head = ', '.join(names[:most])
    more = len(names) - most
    return f'{head} and {more} more' if more > 0 else head


def compare(state_dict: Mapping[str, Any], model: nn.Module,
            optional: Callable[[str], bool] = lambda key: False
            ) -> LoadReport:
    """Hold a state dict against a model before it is loaded.

    Args:
        state_dict: With the model's own key names.
        model: The receiver; not changed.
        optional: Tells the keys that may have another shape (a classifier
            of another number of classes) and are then to be left out.

    Raises:
        CheckpointMismatchError: If other shapes differ, or if the file
            fills less than half of the model.
    """
    own = model.state_dict()
    report = LoadReport(
        unexpected=[k for k in state_dict if k not in own])
    wrong: dict[str, str] = {}
    for key, value in own.items():
        if key not in state_dict:
            report.missing.append(key)
        elif tuple(state_dict[key].shape) == tuple(value.shape):
            report.loaded.append(key)
        else:
            text = (f'{tuple(state_dict[key].shape)} in the file, '
                    f'{tuple(value.shape)} in the model')
            (report.mismatched if optional(key) else wrong)[key] = text
    needed = sum(value.numel() for value in own.values())
    filled = sum(own[key].numel() for key in report.loaded)
    report.coverage = filled / max(needed, 1)
    if wrong:
        shown = '; '.join(f'{k}: {v}' for k, v in list(wrong.items())[:5])
        raise CheckpointMismatchError(
            f'{len(wrong)} tensors of the checkpoint have other shapes: '
            f'{shown}. Use the config that the checkpoint was trained with.')
    if report.coverage < 0.5:
        raise CheckpointMismatchError(
            f'The checkpoint fills only {report.coverage:.1%} of '
            f'{type(model).__name__}: '
            f'{len(report.loaded)} of {len(own)} keys match. In the file: '
            f'{_shorten(list(state_dict), 4)}. In the model: '
            f'{_shorten(list(own), 4)}. Use the checkpoint of this model.')
    return report


Adapter = Callable[[dict[str, Any], Any],
                   tuple[Mapping[str, Tensor], LoadReport]]


def adapt_on_load(model: nn.Module, adapt: Adapter) -> None:
    """Let every ``load_state_dict`` of a model accept the known layouts.

    Done in a pre-hook of the root module, so that MMEngine's ``load_from``
    and ``resume`` profit as well as plain PyTorch. As a part of another
    model, or inside a wrapper (EMA, DDP), it gets what that one saved and
    leaves it alone. The report is logged and kept as ``model.load_report``.

    Args:
        model: The receiver.
        adapt: Brings a state dict to the keys of the model; takes both.
    """
    use_safe_loading()  # also what the parts' init_cfg may name

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


def bare_model(runner: Any) -> Any:
    """The model of a runner, a Module, without what distributes it."""
    model = runner.model
    return model.module if is_model_wrapper(model) else model


def watch_loading(model: nn.Module, partial: bool = False) -> None:
    """Hold what a model of another package loads against it.

    MMEngine fills what fits and goes on with the rest as it is. Models that
    report what they load (:func:`adapt_on_load`) are left alone.

    Args:
        model: Gets a ``load_report`` with its next weights.
        partial: Tensors of other shapes are left out, as for fine-tuning
            on other classes; otherwise they are an error.

    Raises:
        CheckpointMismatchError: While loading; see :func:`compare`.
    """
    if hasattr(model, 'load_report'):
        return

    def adapt(state_dict: dict[str, Any], module: Any
              ) -> tuple[dict[str, Tensor], LoadReport]:
        weights = unwrap_state_dict(state_dict)
        report = compare(weights, module, lambda key: partial)
        return {key: value for key, value in weights.items()
                if key not in report.mismatched}, report

    adapt_on_load(model, adapt)


def load_checkpoint(model: nn.Module, path: str | Path) -> LoadReport:
    """Load the weights of a file into a model and say what matched.

    Models that know other layouts (the authors' keys) adapt them on the
    way; see :func:`adapt_on_load`.

    Args:
        model: The receiver.
        path: See :func:`read_checkpoint`.

    Raises:
        CheckpointError: See :func:`read_checkpoint` and :func:`compare`.
    """
    state_dict = unwrap_state_dict(read_checkpoint(path))
    print_log(f'Weights from {path}', logger='current', level=logging.INFO)
    if hasattr(model, 'load_report'):
        model.load_state_dict(state_dict, strict=False)  # logs its report
        return model.load_report  # type: ignore[return-value]
    report = compare(state_dict, model)
    state_dict = {k: v for k, v in state_dict.items() if k in report.loaded}
    model.load_state_dict(state_dict, strict=False)
    print_log(f'Weights: {report}', logger='current', level=logging.INFO)
    return report


def sha256_of(path: str | Path) -> str:
    """Hexadecimal SHA-256 of a file."""
    digest = hashlib.sha256()
    with open(path, 'rb') as file:
        while block := file.read(2**20):
            digest.update(block)
    return digest.hexdigest()


def save_weights(state_dict: Mapping[str, Tensor], path: str | Path,
                 metadata: Mapping[str, str] | None = None) -> str:
    """Write weights as ``.safetensors``, or as ``.pth`` for other tools.

    Args:
        state_dict: Tensors by name.
        path: The suffix decides the format.
        metadata: What ``.safetensors`` files say of themselves. The same
            weights and metadata give the same bytes.

    Returns:
        SHA-256 of the file.

    Raises:
        CheckpointError: For another suffix, and for metadata in a ``.pth``.
    """
    path = Path(path)
    if path.suffix == '.safetensors':
        content = _safetensors(state_dict, metadata or {})
        with atomic_write(path, 'wb') as file:
            file.writelines(content)
        return _digest(content)
    if path.suffix not in ('.pth', '.pt'):
        raise CheckpointError(
            f'{str(path)!r} ends in {path.suffix!r}, expected .safetensors, '
            '.pth or .pt.')
    if metadata:
        raise CheckpointError(
            f'{str(path)!r} is to say {", ".join(metadata)} of itself, which '
            'only .safetensors can. Use that suffix.')
    with atomic_write(path, 'wb') as file:
        torch.save(
            {k: v.detach().cpu().contiguous()
             for k, v in state_dict.items()}, file)
    return sha256_of(path)


def publish_weights(state_dict: Mapping[str, Tensor], path: str | Path,
                    metadata: Mapping[str, str] | None = None
                    ) -> tuple[Path, str]:
    """Write weights to a file whose name carries their checksum.

    ``name.safetensors`` becomes ``name-<sha256>.safetensors`` with the first
    eight digits, which PyTorch, MMEngine and :func:`fetch_checkpoint`
    compare when they download such a file.

    Args:
        state_dict: Tensors by name.
        path: The name without the checksum.
        metadata: See :func:`save_weights`.

    Returns:
        The path of the file and its whole SHA-256.

    Raises:
        CheckpointError: For another suffix than ``.safetensors``.
    """
    path = Path(path)
    if path.suffix != '.safetensors':
        raise CheckpointError(
            f'{str(path)!r} ends in {path.suffix!r}, expected .safetensors, '
            'which runs nothing when it is read.')
    content = _safetensors(state_dict, metadata or {})
    digest = _digest(content)
    final = path.with_name(f'{path.stem}-{digest[:8]}{path.suffix}')
    with atomic_write(final, 'wb') as file:
        file.writelines(content)
    return final, digest


def _safetensors(state_dict: Mapping[str, Tensor],
                 metadata: Mapping[str, str]) -> list[bytes | memoryview]:
    """The parts of a file: length of the header, header, tensors.

    The library puts metadata into an order of chance; here it is sorted.
    """
    from safetensors.torch import save

    data = memoryview(save({
        # A clone: tensors of one storage would be refused.
        key: value.detach().cpu().contiguous().clone()
        for key, value in state_dict.items()}))
    length, = struct.unpack('<Q', data[:8])
    header = json.loads(bytes(data[8:8 + length]))
    if metadata:
        header = {'__metadata__': dict(sorted(metadata.items())), **header}
    text = json.dumps(header, separators=(',', ':')).encode()
    text += b' ' * (-len(text) % 8)  # tensors begin at a multiple of eight
    return [struct.pack('<Q', len(text)), text, data[8 + length:]]


def _digest(content: Iterable[bytes | memoryview]) -> str:
    digest = hashlib.sha256()
    for part in content:
        digest.update(part)
    return digest.hexdigest()
