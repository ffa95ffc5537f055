"""Joint batches across processes, gradients included."""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor


class _Gather(torch.autograd.Function):
    """Concatenate equally shaped tensors of all ranks along dimension 0.

    Backward: each rank holds the gradient of *its* loss with respect to the
    joint batch. The sum over ranks is what the local rows contributed to
    all losses; DDP's average over ranks then turns W equal losses back into
    one. A loss taken of the joint batch thus has the gradients of a single
    process with that batch.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        parts = [torch.empty_like(x) for _ in range(dist.get_world_size())]
        dist.all_gather(parts, x.contiguous())
        return torch.cat(parts)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        grad = grads[0].contiguous().clone()
        dist.all_reduce(grad)
        return grad.chunk(dist.get_world_size())[dist.get_rank()]


def world_size() -> int:
    """Number of processes, 1 where none were launched."""
    if dist.is_available() and dist.is_initialized():
        return dist.get_world_size()
    return 1


def gather_rows(x: Tensor) -> Tensor:
    """(B, ...) of every rank to (W * B, ...), differentiable.

    All ranks must hold the same number of rows. With one process it is the
    identity.
    """
    if world_size() == 1:
        return x
    return _Gather.apply(x)
