"""From a source image to samples of the target.

Letters: B images, N items (images times views), C channels, H W height and
width.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from ...utils.errors import ConfigError, DataFormatError
from .bridge import posterior, predict_x0
from .schedule import BridgeSchedule, check_steps

Generators = torch.Generator | Sequence[torch.Generator]


def item_generators(seeds: Sequence[int]) -> list[torch.Generator]:
    """One CPU generator for each seed (0 to 2^63 - 1)."""
    return [torch.Generator().manual_seed(int(seed)) for seed in seeds]


def view_seeds(image: Tensor, views: int, salt: int = 0) -> list[int]:
    """Seeds of the views of an image, from what the image shows.

    The same pixels give the same seeds wherever and in whatever company
    they are translated; another image, view or salt gives others. The seed
    of a view does not depend on how many views there are.

    Args:
        image: (C, H, W) in -1..1, read at 8 bit.
        views: Their number.
        salt: A number that the user chooses to get other samples.
    """
    pixels = (image.detach().float() * 127.5 + 127.5).round().clamp(0, 255)
    content = hashlib.sha256(pixels.to('cpu', torch.uint8).contiguous()
                             .numpy().tobytes())
    content.update(repr((tuple(image.shape), int(salt))).encode())
    seeds = []
    for view in range(views):
        digest = content.copy()
        digest.update(f'view {view}'.encode())
        seeds.append(int.from_bytes(digest.digest()[:8], 'big') >> 1)
    return seeds


def draw_noise(shape: Sequence[int], generators: Generators) -> Tensor:
    """Standard normal noise on the CPU.

    Args:
        shape: (N, C, H, W).
        generators: One for each item; or one for the whole batch, as the
            released code draws, which ties an item's noise to its place.
    """
    if isinstance(generators, torch.Generator):
        return torch.randn(shape, generator=generators)
    return torch.stack([
        torch.randn(shape[1:], generator=generator)
        for generator in generators])


@torch.no_grad()
def sample(denoise: Callable[[Tensor, Tensor, Tensor], Tensor],
           y: Tensor,
           schedule: BridgeSchedule,
           steps: Sequence[int],
           generators: Generators,
           objective: str = 'grad',
           eta: float = 1.,
           clip: bool = False,
           rows: Tensor | None = None) -> Tensor:
    """Walk the bridge from the source back to the target.

    Starts at x = y, where all views of an image are still the same: the
    first prediction is made once for each image. Each step predicts the
    target and draws x at the next time step from :func:`~.bridge.posterior`;
    at t = 0 the predicted target is the result. ``eta`` scales the noise
    only and leaves the mean as it is for eta = 1 (released code): 0 is
    deterministic, but spreads too little.

    Noise is drawn on the CPU, for each item from its own generator, and then
    moved: a sample hangs on its seed, not on the device, the batch it is
    in or its place there. The network sees all items at once.

    Args:
        denoise: Takes x_t (N, C, H, W), t (N,) long and the row of ``y``
            that each item belongs to, (N,) long; gives the prediction
            (N, C, H, W).
        y: (B, C, H, W), the sources.
        schedule: The schedule.
        steps: Time steps to visit, see :func:`~.schedule.step_list`.
        generators: See :func:`draw_noise`; they move on.
        objective: What the network predicts.
        eta: Factor of the noise, 0 or more.
        clip: Keep predicted targets within -1..1 on the way. The released
            evaluation does not.
        rows: (N,) long, the source of each item; by default each has its
            own, N = B.

    Returns:
        (N, C, H, W) float32.

    Raises:
        ConfigError: If the steps or eta cannot be used.
        DataFormatError: If there is not one generator for each item.
    """
    check_steps(steps, schedule.num_timesteps)
    if not eta >= 0:
        raise ConfigError(f'eta={eta} scales the noise: 0 or more.')
    own = torch.arange(len(y), device=y.device)
    rows = own if rows is None else rows
    if not isinstance(generators, torch.Generator) and (
            len(generators) != len(rows)):
        raise DataFormatError(
            f'{len(generators)} generators for {len(rows)} items: give one '
            'for each (item_generators(seeds)).')
    y = y.float()
    x, here = y, own
    for t, n in zip(steps, [*steps[1:], None], strict=True):
        time = torch.full((len(x), ), t, dtype=torch.long, device=x.device)
        target = predict_x0(
            objective, denoise(x, time, here).float(), x, y,
            float(schedule.m_t[t]), float(schedule.variance_t[t]))
        if clip:
            target = target.clamp(-1, 1)
        if here is own:
            x, y, target, here = x[rows], y[rows], target[rows], rows
        if n is None:
            return target
        step = posterior(schedule, t, n)
        x = (step.x_t_weight * x + step.x0_weight * target
             + step.y_weight * y)
        if eta:
            noise = draw_noise(x.shape, generators)
            x = x + eta * step.std * noise.to(x.device, non_blocking=True)
    return x
