"""What a device computes in."""

from __future__ import annotations

import torch

from .errors import ConfigError


def has_bfloat16() -> bool:
    """Whether the CPU has instructions for bfloat16.

    Emulated, it is slower than float32: 30 to 130 times on a CPU with AVX2.
    """
    # Not in every version of torch.
    asks = [getattr(torch.cpu, name, None) for name in (
        '_is_avx512_bf16_supported', '_is_amx_tile_supported')]
    return any(ask() for ask in asks if ask is not None)


def half_precision(amp: bool | str,
                   device: torch.device) -> torch.dtype | None:
    """The type that networks run in; ``None`` for float32.

    Args:
        amp: ``True``: half precision. ``'auto'``: on a GPU; on a CPU if it
            has instructions for bfloat16. ``False``: float32.
        device: Where.

    Raises:
        ConfigError: If ``amp`` is something else.
    """
    if not isinstance(amp, bool) and amp != 'auto':
        raise ConfigError(
            f"amp={amp!r} is not known: use 'auto', True or False.")
    if amp is False:
        return None
    if device.type == 'cuda':
        bf16 = torch.cuda.is_bf16_supported(including_emulation=False)
        return torch.bfloat16 if bf16 else torch.float16
    if amp == 'auto' and not has_bfloat16():
        return None
    return torch.bfloat16
