"""How a large model is split over processes."""

from __future__ import annotations

from torch import nn

from ..models.backbones.hierarchical import MLPBlock
from ..models.backbones.vit import Block
from ..registry import FUNCTIONS


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
    return recurse or isinstance(module, (Block, MLPBlock))
