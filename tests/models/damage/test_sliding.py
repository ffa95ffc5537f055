"""osar_plugin/models/damage/inference.py"""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from osar_plugin.models.damage.damageformer import reader
from osar_plugin.models.damage.inference import (
    SlideSettings,
    Tile,
    sliding_strips,
    window_side,
)
from osar_plugin.utils.errors import ConfigError

KERNEL = torch.randn(2, 3, 9, 9, generator=torch.Generator().manual_seed(0))


def local(x: torch.Tensor) -> torch.Tensor:
    """A model that looks 4 pixels far, and sees 0 beyond the border."""
    return F.conv2d(x, KERNEL.to(x), padding=4)


def slide(image: torch.Tensor, settings: SlideSettings,
          model=local) -> torch.Tensor:
    size = (image.shape[-2], image.shape[-1])
    strips = list(sliding_strips(
        size, 2, reader(image), lambda parts: model(torch.stack(parts)),
        settings))
    rows = [row for row, _ in strips]
    heights = [strip.shape[1] for _, strip in strips]
    assert rows == [sum(heights[:i]) for i in range(len(rows))]
    assert sum(heights) == size[0]
    return torch.cat([strip for _, strip in strips], 1)


@pytest.fixture
def image() -> torch.Tensor:
    return torch.randn(3, 200, 330, dtype=torch.float64,
                       generator=torch.Generator().manual_seed(1))


def official(image: torch.Tensor, window: int, stride: int) -> torch.Tensor:
    """Sums and counts of all windows, as the published code has them."""
    height, width = image.shape[1:]
    total = torch.zeros(2, height, width, dtype=image.dtype)
    count = torch.zeros(height, width)
    for i in range(-(-(height - window) // stride) + 1):
        for j in range(-(-(width - window) // stride) + 1):
            y = min(i * stride, height - window)
            x = min(j * stride, width - window)
            total[:, y:y + window, x:x + window] += local(
                image[None, :, y:y + window, x:x + window])[0]
            count[y:y + window, x:x + window] += 1
    return total / count


@pytest.mark.parametrize('batch_size', [1, 4, 100])
def test_mean_is_the_official_one(image, batch_size) -> None:
    settings = SlideSettings('slide', 96, 64, batch_size)
    torch.testing.assert_close(
        slide(image, settings), official(image, 96, 64).float(), rtol=0,
        atol=1e-4)


@pytest.mark.parametrize('blend', ['mean', 'ramp'])
@pytest.mark.parametrize('stride', [64, 80, 37])
def test_trimmed_windows_give_the_whole(image, blend, stride) -> None:
    """No seam: what the model sees of a pixel lies in the window."""
    settings = SlideSettings('slide', 96, stride, 3, blend, trim=4)
    torch.testing.assert_close(
        slide(image, settings), local(image[None])[0].float(), rtol=0,
        atol=1e-3, check_dtype=False)


def test_without_trim_there_are_seams(image) -> None:
    whole = local(image[None])[0]
    assert (slide(image, SlideSettings('slide', 96, 64))
            - whole).abs().max() > 1
    # In both cases the middles of windows agree.
    inner = slide(image, SlideSettings('slide', 96, 96))[:, 10:80, 10:80]
    torch.testing.assert_close(
        inner, whole[:, 10:80, 10:80].float(), rtol=0, atol=1e-3,
        check_dtype=False)


@pytest.mark.parametrize('size', [(20, 40), (96, 96), (97, 31)])
def test_small_images(size) -> None:
    """Continued by their rim, and cut again."""
    image = torch.randn(3, *size, dtype=torch.float64)
    result = slide(image, SlideSettings('slide', 96, 48))
    assert result.shape == (2, *size)
    assert result.isfinite().all()
    inside = (slice(None), slice(5, size[0] - 5), slice(5, min(
        size[1], 96) - 5))
    torch.testing.assert_close(
        slide(image, SlideSettings('slide', 96, 48, trim=4))[inside],
        local(image[None])[0].float()[inside], rtol=0, atol=1e-3,
        check_dtype=False)


@pytest.mark.parametrize('blend', ['mean', 'ramp'])
@pytest.mark.parametrize('length', [7, 96, 97, 500])
def test_weights_add_up(blend, length) -> None:
    side = window_side(length, SlideSettings('slide', 96, 40, 1, blend, 10))
    total = torch.zeros(length)
    for start, weight in zip(side.starts, side.weights, strict=True):
        end = min(start + side.size, length)
        total[start:end] += weight[:end - start]
        assert (weight >= 0).all()
    torch.testing.assert_close(total, torch.ones(length))


def test_ramp_fades_towards_the_border() -> None:
    """The first pixel of a window weighs next to nothing."""
    side = window_side(400, SlideSettings('slide', 96, 48, 1, 'ramp'))
    assert 0 < side.weights[1][0] < 0.05
    assert side.weights[0][0] == 1


def test_windows_without_data_are_not_predicted(image) -> None:
    seen = []

    def read(tile: Tile):
        return None if tile.x == 0 else reader(image)(tile)

    def predict(parts):
        seen.extend(parts)
        return local(torch.stack(parts))

    strips = torch.cat([s for _, s in sliding_strips(
        (200, 330), 2, read, predict, SlideSettings('slide', 96, 96))], 1)
    assert len(seen) == 3 * 3
    assert (strips[:, :, :96] == 0).all()
    assert (strips[:, :, 96:] != 0).any()


def test_memory_is_that_of_a_row_of_windows() -> None:
    """What is kept does not grow with the height."""
    kept = []

    def predict(parts):
        return torch.zeros(len(parts), 2, 96, 96)

    for _, strip in sliding_strips(
            (100000, 100), 2, lambda tile: torch.zeros(1), predict,
            SlideSettings('slide', 96, 96)):
        kept.append(strip.untyped_storage().nbytes())
    assert max(kept) <= 2 * 96 * 100 * 4


@pytest.mark.parametrize('changes, match', [
    (dict(mode='slid'), 'mode'), (dict(window=300), 'multiple of 32'),
    (dict(window=64, stride=65), 'stride'), (dict(blend='sum'), 'blend'),
    (dict(window=96, stride=96, trim=1), 'trim'),
    (dict(batch_size=0), 'batch_size')])
def test_bad_settings(changes, match) -> None:
    with pytest.raises(ConfigError, match=match):
        SlideSettings(**changes)
