"""What differs between the supported software stacks, and nothing else."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from pathlib import Path
from types import ModuleType

from .utils.errors import MissingDependencyError

# Keeps the operator schemas alive: they vanish with the Library object.
_TORCHVISION_STUBS: list[object] = []


def require(module: str, extra: str) -> ModuleType:
    """Import an optional package.

    Args:
        module: Importable name, e.g. ``'faiss'``.
        extra: The extra of this package that installs it.

    Raises:
        MissingDependencyError: If it is not installed; the message names the
            command that installs it.
    """
    if module.split('.')[0] in (
            'torchvision', 'torchreid', 'timm', 'diffusers'):
        prepare_torchvision()
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise MissingDependencyError(
            f'This needs the package {module!r}, which cannot be imported '
            f'({error}). Install it with: pip install "osar_plugin[{extra}]"'
        ) from error


def prepare_torchvision() -> None:
    """Let a torchvision built for CUDA import on a CPU build of torch.

    Its Python part asks for the schemas of two operators that its compiled
    part would have brought; where torch has no CUDA that part cannot load
    and the import dies with "operator torchvision::nms does not exist".
    Declaring the schemas is enough for the transforms; the operators
    themselves stay missing. Done only where torch has no CUDA and the
    compiled part is found not to load.
    """
    import torch

    if _TORCHVISION_STUBS or torch.version.cuda is not None:
        return
    spec = importlib.util.find_spec('torchvision')
    if spec is None or spec.origin is None or 'torchvision' in sys.modules:
        return
    for library in Path(spec.origin).parent.glob('_C*.*'):
        try:
            torch.ops.load_library(str(library))
        except OSError:
            continue
        return
    stub = torch.library.Library('torchvision', 'DEF')
    for name in ('nms', 'qnms'):
        stub.define(f'{name}(Tensor dets, Tensor scores, '
                    'float iou_threshold) -> Tensor')
    _TORCHVISION_STUBS.append(stub)
