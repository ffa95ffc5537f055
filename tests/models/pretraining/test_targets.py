"""What the decoders are asked to predict."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from codemae import golden, seeded
from scipy import ndimage

from osar_plugin.models.pretraining.targets import (
    HOG_CELL,
    block_mean,
    describe,
    grey,
    hog,
    median_filter,
    mgf,
    normalize_patches,
    patchify,
    reduce_image,
    sobel,
    target_channels,
    unpatchify,
)
from osar_plugin.utils.errors import ConfigError, DataFormatError


def images(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(*shape, generator=seeded(seed))


def test_patches_run_row_column_channel() -> None:
    x = torch.arange(2 * 3 * 32 * 48.).view(2, 3, 32, 48)
    patches = patchify(x)
    assert patches.shape == (2, 6, 768)
    # Patch (1, 2), pixel (3, 5), channel 1.
    assert patches[1, 5, (3 * 16 + 5) * 3 + 1] == x[1, 1, 16 + 3, 32 + 5]
    assert torch.equal(unpatchify(patches, (2, 3)), x)


def test_patches_do_not_divide() -> None:
    with pytest.raises(DataFormatError, match='40 x 32.*multiples of 16'):
        patchify(images(1, 3, 40, 32))


def test_patches_are_normalised_with_unbiased_variance() -> None:
    patches = images(2, 4, 256)
    out = normalize_patches(patches)
    expected = (patches - patches.mean(-1, keepdim=True)) / (
        patches.var(-1, unbiased=True, keepdim=True) + 1e-6).sqrt()
    torch.testing.assert_close(out, expected)
    assert normalize_patches(patches.bfloat16()).dtype == torch.float32


def test_grey() -> None:
    x = images(2, 3, 8, 8)
    expected = .299 * x[:, 0] + .587 * x[:, 1] + .114 * x[:, 2]
    torch.testing.assert_close(grey(x, 'rgb')[:, 0], expected)
    torch.testing.assert_close(grey(x, 'sar')[:, 0], x.mean(1))
    one = images(2, 1, 8, 8)
    assert grey(one, 'sar') is one


def test_median_equals_scipy() -> None:
    x = images(2, 3, 24, 20)
    out = median_filter(x)
    for i, j in np.ndindex(2, 3):
        # SciPy's mirror is PyTorch's reflect.
        expected = ndimage.median_filter(x[i, j].numpy(), 5, mode='mirror')
        np.testing.assert_array_equal(out[i, j], expected)


def test_block_mean_is_constant_in_a_patch() -> None:
    x = images(1, 2, 32, 48)
    patches = patchify(block_mean(x)).view(1, 6, 256, 2)
    mean = patchify(x).view(1, 6, 256, 2).mean(2, keepdim=True)
    torch.testing.assert_close(patches, mean.expand_as(patches))


@pytest.mark.parametrize(('reduction', 'channels'), [
    ('none', 3), ('channel', 1), ('spatial', 3), ('median', 3), ('dual', 1)])
@pytest.mark.parametrize('kind', ['pixel', 'hog'])
def test_channels_of_targets(kind: str, reduction: str,
                             channels: int) -> None:
    out = describe(kind, reduction, images(1, 3, 32, 32), None, 'rgb')
    expected = channels * (9 if kind == 'hog' else 1)
    assert out.shape == (1, expected, 32, 32)
    assert target_channels(kind, reduction) == expected


def test_dual_is_channel_then_spatial() -> None:
    x = images(2, 3, 32, 32)
    torch.testing.assert_close(
        reduce_image(x, 'dual', 'rgb'), block_mean(grey(x, 'rgb')))


def test_mgf_golden() -> None:
    x = torch.rand(1, 1, 64, 64, generator=seeded(5))
    expected = golden('mgf')
    np.testing.assert_allclose(x.flatten()[:8], expected['x_first8'])
    np.testing.assert_allclose(
        mgf(x)[0, :, ::4, ::4], expected['mgf_s4'], atol=2e-5)


def test_mgf_is_blind_to_gain() -> None:
    """Up to the small offset: what makes it fit for SAR."""
    x = images(1, 1, 40, 40) + 100
    torch.testing.assert_close(mgf(x), mgf(3 * x), atol=2e-5, rtol=0)


def test_mgf_needs_images_on_the_scale_0_to_1() -> None:
    out = describe('mgf', 'none', images(1, 3, 32, 32),
                   images(1, 1, 32, 32), 'sar')
    assert out.shape == (1, 3, 32, 32)
    with pytest.raises(DataFormatError, match='sar01'):
        describe('mgf', 'none', images(1, 3, 32, 32), None, 'sar')
    with pytest.raises(DataFormatError, match='too small for MGF'):
        mgf(images(1, 1, 16, 16))


def test_sobel_equals_scipy() -> None:
    x = images(2, 16, 24)
    right, down = sobel(x)
    for i in range(2):
        for out, axis in ((right, 1), (down, 0)):
            np.testing.assert_allclose(
                out[i], ndimage.sobel(x[i].numpy(), axis, mode='mirror'),
                atol=1e-5)


@pytest.mark.parametrize('degrees', [0, 30, 45, 90, 150])
def test_hog_of_a_ramp_fills_the_bin_of_its_slope(degrees: int) -> None:
    angle = math.radians(degrees + 5)
    rows, columns = torch.meshgrid(
        torch.arange(48.), torch.arange(48.), indexing='ij')
    ramp = columns * math.cos(angle) + rows * math.sin(angle)
    out = hog(ramp[None, None])
    assert out.shape == (1, 9, 48, 48)
    # Away from the reflected border.
    inner = out[0, :, 20:28, 20:28]
    assert inner.argmax(0).unique().tolist() == [(degrees + 5) // 20]
    torch.testing.assert_close(
        inner.square().sum(0), torch.ones(8, 8), atol=1e-5, rtol=0)


def test_hog_counts_every_pixel_once() -> None:
    """The same from a plain histogram, at the centre of a cell."""
    x = images(1, 1, 16, 16)
    gx, gy = (g[0, :8, :8].numpy() for g in sobel(x[0]))
    bins = (np.floor(np.arctan2(gy, gx) / np.pi * 9).astype(int)) % 9
    votes = np.bincount(
        bins.ravel(), np.hypot(gx, gy).ravel(), 9) / HOG_CELL**2
    out = hog(x)[0, :, 0, 0]  # the corner is not interpolated
    np.testing.assert_allclose(
        out, votes / np.linalg.norm(votes), rtol=1e-4)


def test_unknown_names() -> None:
    x = images(1, 3, 16, 16)
    for kind, reduction, modality, word in (
            ('depth', 'none', 'rgb', 'target'),
            ('pixel', 'mean', 'rgb', 'reduction'),
            ('pixel', 'channel', 'ir', 'modality')):
        with pytest.raises(ConfigError, match=word):
            describe(kind, reduction, x, None, modality)


def test_all_targets_are_differentiable_free_and_finite() -> None:
    """A black image, a white one: no NaN from logarithms or norms."""
    for value in (0., 1.):
        x = torch.full((1, 3, 32, 32), value)
        for kind in ('pixel', 'hog', 'mgf'):
            out = normalize_patches(patchify(
                describe(kind, 'none', x, x, 'rgb')))
            assert torch.isfinite(out).all()
