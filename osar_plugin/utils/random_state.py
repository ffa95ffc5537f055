"""The random generators of a process: read, set, derive.

Python's, NumPy's legacy one and PyTorch's, on the CPU and on the process's
own GPU, are what models, transforms and losses draw from.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch


class RandomState(NamedTuple):
    """States of all generators, as the libraries give them.

    Attributes:
        python: Of :mod:`random`.
        numpy: Of ``numpy.random``, the legacy global generator.
        torch: (bytes,) uint8, of the CPU.
        cuda: (bytes,) uint8, of this process's GPU; None where none is in
            use.
    """

    python: tuple[Any, ...]
    numpy: tuple[Any, ...]
    torch: torch.Tensor
    cuda: torch.Tensor | None


def random_state() -> RandomState:
    """Read all generators; about 40 microseconds."""
    cuda = None
    if torch.cuda.is_available() and torch.cuda.is_initialized():
        cuda = torch.cuda.get_rng_state()
    legacy: Any = np.random.get_state()
    return RandomState(
        random.getstate(), legacy, torch.get_rng_state(), cuda)


def set_random_state(state: RandomState) -> None:
    """Put the generators where :func:`random_state` found them.

    A GPU's state is passed over where the process has no GPU.
    """
    random.setstate(state.python)
    np.random.set_state(state.numpy)
    torch.set_rng_state(state.torch)
    if state.cuda is not None and torch.cuda.is_available():
        torch.cuda.set_rng_state(state.cuda)


def pack_random_state(state: RandomState) -> dict[str, Any]:
    """The state as plain values and tensors.

    What comes out passes ``torch.load(weights_only=True)`` and goes back
    through :func:`unpack_random_state`.
    """
    version, words, gauss = state.python
    name, key, *rest = state.numpy
    return dict(
        # The words are unsigned; tensors of PyTorch hold them as int64.
        python=(version, torch.tensor(words, dtype=torch.int64), gauss),
        numpy=(name, torch.from_numpy(key.astype(np.int64)),
               *(float(v) if isinstance(v, float) else int(v)
                 for v in rest)),
        torch=state.torch,
        cuda=state.cuda)


def unpack_random_state(packed: dict[str, Any]) -> RandomState:
    """The inverse of :func:`pack_random_state`."""
    version, words, gauss = packed['python']
    name, key, *rest = packed['numpy']
    cuda = packed.get('cuda')
    return RandomState(
        (version, tuple(words.tolist()), gauss),
        (name, key.cpu().numpy().astype(np.uint32), *rest),
        packed['torch'].cpu(), None if cuda is None else cuda.cpu())


def seed_sample(key: Sequence[int]) -> None:
    """Seed what transforms draw from, with a key of non-negative integers.

    Keys that differ in one number give independent streams. GPUs are left
    alone: samples are made on the CPU.
    """
    words = np.random.SeedSequence(key).generate_state(6, np.uint32)
    np.random.seed(words[:2])
    random.seed(int(words[2]) << 32 | int(words[3]))
    torch.default_generator.manual_seed(int(words[4]) << 32 | int(words[5]))
