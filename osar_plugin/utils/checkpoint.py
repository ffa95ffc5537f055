"""Checkpoints without unpickling: read, report, write.

A pickle can run code while it is read. Everything here reads ``.safetensors``
or goes through PyTorch's restricted unpickler (``weights_only=True``) with a
short list of admitted types, none of which runs anything that the file
chooses. Files that need more are refused.
"""

from __future__ import annotations

import argparse
import hashlib
import logging
import pickle
import pickletools
import re
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.logging import HistoryBuffer, print_log
from mmengine.runner.checkpoint import CheckpointLoader
from torch import Tensor, nn

from ..io import atomic_write
from .errors import (
    CheckpointError,
    CheckpointMismatchError,
    UnsafeCheckpointError,
)

CURE = ('Convert it where you trust it (`torch.load`, then save the plain '
        'state dict as .safetensors) or ask its author for safetensors.')


def _inert_getattr(owner: Any = None, name: str = '', *_: Any) -> Any:
    """Stand-in for ``getattr``, which MMEngine's message hub pickles.

    The real one would let a file reach any attribute of any admitted type.
    This one knows the four statistics that a HistoryBuffer asks for, which
    it must get back to go on logging after a resume, and nothing else.
    """
    if owner is HistoryBuffer and name in ('current', 'max', 'mean', 'min'):
        return getattr(HistoryBuffer, name)
    return None


def _safe_globals() -> list[Any]:
    """Types that files written by MMEngine and by numpy users contain."""
    core: Any = getattr(np, '_core', None) or np.core
    multiarray = core.multiarray
    admitted: list[Any] = [
        HistoryBuffer, argparse.Namespace, slice, np.ndarray, np.dtype,
        (_inert_getattr, 'builtins.getattr')
    ]
    for name in ('_reconstruct', 'scalar'):
        function = getattr(multiarray, name)
        # numpy 1 and numpy 2 pickle the same function by two names.
        admitted += [(function, f'numpy.core.multiarray.{name}'),
                     (function, f'numpy._core.multiarray.{name}')]
    codes = ('?', 'i1', 'i2', 'i4', 'i8', 'u1', 'u2', 'u4', 'u8', 'f2', 'f4',
             'f8')
    admitted += [type(np.dtype(code)) for code in codes]
    return admitted


def read_checkpoint(path: str | Path,
                    map_location: Any = 'cpu') -> dict[str, Any]:
    """Read a checkpoint without running anything that it contains.

    Args:
        path: A ``.safetensors`` file, or one written by ``torch.save``.
        map_location: Device of the tensors, as in ``torch.load``.

    Returns:
        What was saved; for safetensors, ``dict(state_dict=...)``.

    Raises:
        CheckpointError: If the file is missing, truncated or no checkpoint.
        UnsafeCheckpointError: If its pickle asks for other types than
            plain data; the message names them.
    """
    path = Path(path).expanduser()
    if not path.is_file():
        raise CheckpointError(
            f'There is no checkpoint {str(path)!r}. Check the path; weights '
            'are never downloaded on their own.')
    if path.suffix == '.safetensors':
        content: Any = dict(state_dict=_read_safetensors(path))
    else:
        content = _read_pickle(path, map_location)
    if not isinstance(content, Mapping):
        raise CheckpointError(
            f'{str(path)!r} holds a {type(content).__name__}, not a dict of '
            'tensors. Save a state dict.')
    return dict(content)


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file
    try:
        return load_file(path)
    except (SafetensorError, OSError) as error:
        raise CheckpointError(
            f'{str(path)!r} is no whole safetensors file ({error}). Copy or '
            'download it again.') from error


def _read_pickle(path: Path, map_location: Any) -> Any:
    try:
        with torch.serialization.safe_globals(_safe_globals()):
            return torch.load(
                path, map_location=map_location, weights_only=True)
    except pickle.UnpicklingError as error:
        wanted = _foreign_globals(path)
        if wanted is None:
            raise CheckpointError(
                f'{str(path)!r} is no whole checkpoint ({_first(error)}). '
                'Copy or download it again.') from error
        names = ', '.join(wanted) or _first(error)
        raise UnsafeCheckpointError(
            f'{str(path)!r} is refused: its pickle asks for {names}, which '
            f'could run code. {CURE}') from error
    except (RuntimeError, EOFError, OSError, KeyError, ValueError, TypeError,
            AttributeError, IndexError, zipfile.BadZipFile) as error:
        raise CheckpointError(
            f'{str(path)!r} cannot be read as a checkpoint '
            f'({_first(error)}). Copy or download it again.') from error


def _foreign_globals(path: Path) -> list[str] | None:
    """Names outside the admitted ones; None if the file is not whole."""
    if not zipfile.is_zipfile(path):
        return _pickled_names(path)
    try:
        with torch.serialization.safe_globals(_safe_globals()):
            return sorted(
                torch.serialization.get_unsafe_globals_in_checkpoint(path))
    except Exception:  # the file is broken: whatever the parser says of it
        return None


def _pickled_names(path: Path) -> list[str] | None:
    """Read the names from the bytes of a pickle, executing nothing.

    For the formats that PyTorch cannot list: its own before version 1.6
    (several pickles in a row) and plain ones.
    """
    names, strings = set(), ['', '']
    try:
        with open(path, 'rb') as file:
            while file.peek(1):  # type: ignore[attr-defined]
                for code, value, _ in pickletools.genops(file):
                    if code.name == 'GLOBAL':
                        names.add(str(value).replace(' ', '.'))
                    elif code.name == 'STACK_GLOBAL':
                        names.add('.'.join(strings[-2:]))
                    elif isinstance(value, str):
                        strings.append(value)
    except (ValueError, EOFError, UnicodeError):
        pass  # behind the pickles follow the tensors' bytes
    foreign = {
        name for name in names
        if not name.startswith(('torch.', 'collections.OrderedDict'))
    }
    return sorted(foreign) or None


def _first(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__


def _load_for_mmengine(filename: str, map_location: Any = None,
                       *_: Any, **__: Any) -> Any:
    if re.match(r'[\w-]{2,}:/|s3:', filename):
        raise CheckpointError(
            f'{filename!r} is not on this machine. Download it yourself and '
            'give the path: what is fetched on its own cannot be checked '
            'before it is read.')
    return read_checkpoint(filename, map_location or 'cpu')


def use_safe_loading() -> None:
    """Let MMEngine read checkpoints through :func:`read_checkpoint`.

    The stock loader of one stack falls back to full unpickling, that of the
    other cannot read MMEngine's own files with today's PyTorch. Holds for
    this process, whoever asks: ``load_from``, ``resume``, ``init_cfg`` of
    any module, inferencers. Called by the tools and by every model of this
    package when it is built. Remote addresses are refused.
    """
    for prefix in ['', *CheckpointLoader._schemes]:
        CheckpointLoader.register_scheme(
            prefixes=prefix, loader=_load_for_mmengine, force=True)


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
        absent = [k for k in self.missing if not k.startswith(optional)]
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


def load_checkpoint(model: nn.Module, path: str | Path) -> LoadReport:
    """Load the weights of a file into a model and say what matched.

    Models that know other layouts (the authors' keys) adapt them on the
    way; see :func:`osar_plugin.models.reid.official.adapt_on_load`.

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


def save_weights(state_dict: Mapping[str, Tensor], path: str | Path) -> str:
    """Write weights as ``.safetensors``, or as ``.pth`` for other tools.

    Args:
        state_dict: Tensors by name.
        path: The suffix decides the format.

    Returns:
        SHA-256 of the file.

    Raises:
        CheckpointError: For another suffix.
    """
    path = Path(path)
    plain = {k: v.detach().cpu().contiguous() for k, v in state_dict.items()}
    if path.suffix == '.safetensors':
        from safetensors.torch import save
        with atomic_write(path, 'wb') as file:
            file.write(save({k: v.clone() for k, v in plain.items()}))
    elif path.suffix in ('.pth', '.pt'):
        with atomic_write(path, 'wb') as file:
            torch.save(plain, file)
    else:
        raise CheckpointError(
            f'{str(path)!r} ends in {path.suffix!r}, expected .safetensors, '
            '.pth or .pt.')
    return sha256_of(path)
