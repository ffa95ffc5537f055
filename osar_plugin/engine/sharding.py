"""How a large model is split over processes."""

from __future__ import annotations

from torch import nn

from ..registry import FUNCTIONS

# By name: the engine knows no models. Subclasses count.
BLOCKS = {'Block', 'MLPBlock'}


@FUNCTIONS.register_module()
def wrap_blocks(module: nn.Module, recurse: bool,
                nonwrapped_numel: int) -> bool:
    """Split block by block: the ``auto_wrap_policy`` of FSDP.

    Only what is called as a whole may be split on its own; embeddings, norms
    and heads, whose methods the models call, belong to the model.

    Args:
        module: A part of the model.
        recurse: Whether the question is to look inside.
        nonwrapped_numel: Not used; the names are PyTorch's.

    Returns:
        Whether to look inside, or to split the part on its own.
    """
    names = {base.__name__ for base in type(module).__mro__}
    return recurse or bool(names & BLOCKS)
