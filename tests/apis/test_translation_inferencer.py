"""OpticalToSARInferencer: views, settings, sizes, windows and errors."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image
from search_case import Bomb
from translation_case import (
    CONFIG,
    HOSS_MINI,
    SIZE,
    write_config,
    write_optical,
    write_sar,
    write_weights,
)

from osar_plugin.apis import OpticalToSARInferencer, translation
from osar_plugin.apis.translation import (
    PRESETS,
    image_transforms,
    list_inputs,
    sampler_settings,
    windows,
)
from osar_plugin.io import read_optical
from osar_plugin.models.translation import SamplerSettings
from osar_plugin.models.translation.official import load_translator
from osar_plugin.models.translation.translator import to_uint8
from osar_plugin.registry import INFERENCERS, MODELS
from osar_plugin.utils.config import load_config
from osar_plugin.utils.errors import (
    ConfigError,
    CorruptImageError,
    DataFormatError,
    DatasetNotFoundError,
    UnsafeCheckpointError,
)

SCENE = np.random.default_rng(3).integers(0, 256, (60, 35, 3), np.uint8)


@pytest.fixture(scope='module')
def case(tmp_path_factory):
    folder = tmp_path_factory.mktemp('case')
    config = write_config(folder)
    return config, write_weights(folder, config)


@pytest.fixture(scope='module')
def inferencer(case):
    return INFERENCERS.build(dict(
        type='osar_plugin.OpticalToSARInferencer', config=case[0],
        checkpoint=case[1], device='cpu', amp=False))


def test_views_are_the_models(inferencer, case, tmp_path) -> None:
    """The same as the pipeline, the model and its own seeds give."""
    path = write_optical(tmp_path / 'a.png')
    result, = inferencer(path, keep_size=False)
    model = MODELS.build(load_config(case[0]).model)
    load_translator(model, case[1])
    image = Image.open(path).resize(SIZE[::-1], Image.Resampling.BILINEAR)
    tensor = torch.tensor(np.asarray(image)).permute(2, 0, 1)
    expected = to_uint8(model.eval().translate(
        tensor[None] / 127.5 - 1)[0].mean(1))
    assert result.views.shape == (3, *SIZE)
    assert np.abs(result.views - expected.numpy().astype(int)).max() <= 1
    assert (result.path, result.optical.shape) == (str(path), (40, 12, 3))


def test_a_view_keeps_to_itself(inferencer, tmp_path) -> None:
    paths = [write_optical(tmp_path / f'{i}.png', i) for i in range(3)]
    whole = inferencer(paths)
    for batch_size, order in ((1, slice(None)), (2, slice(None, None, -1))):
        again = inferencer(paths[order], batch_size=batch_size)[order]
        for one, two in zip(whole, again, strict=True):
            assert one.path == two.path
            assert np.abs(one.views - two.views.astype(int)).max() <= 1
    assert np.abs(whole[0].views - whole[1].views.astype(int)).mean() > 5


def test_mean_and_spread(inferencer) -> None:
    result, = inferencer([SCENE[:24, :16]])
    views = result.views.astype(np.float64)
    np.testing.assert_allclose(result.mean, views.mean(0), rtol=1e-6)
    np.testing.assert_allclose(result.spread, views.std(0), atol=1e-4)
    assert result.mean.dtype == result.spread.dtype == np.float32
    assert result.spread.mean() > 1


def test_any_size_comes_back_in_its_size(inferencer) -> None:
    wide = np.random.default_rng(0).integers(0, 256, (7, 50, 3), np.uint8)
    for image in (wide, SCENE[:24, :16], SCENE):
        result, = inferencer([image])
        assert result.views.shape == (3, *image.shape[:2])


def test_large_images_are_warned_of(inferencer, monkeypatch) -> None:
    said = []
    monkeypatch.setattr(
        translation, 'print_log', lambda text, *_: said.append(text))
    inferencer([SCENE])
    assert not said
    large = np.tile(SCENE, (2, 1, 1))  # 120 rows to 24
    inferencer([large])
    assert len(said) == 1
    assert '120 x 35' in said[0] and 'tile=True' in said[0]
    inferencer([large], tile=True)
    assert len(said) == 1


# ------------------------------------------------------------------- windows


@pytest.mark.parametrize('length, size', [
    (16, 16), (17, 16), (28, 16), (29, 16), (100, 16), (1000, 256), (5, 1)])
def test_windows_cover_and_add_up(length: int, size: int) -> None:
    starts, weights = windows(length, size)
    total = torch.zeros(length)
    for start, weight in zip(starts, weights, strict=True):
        assert (weight > 0).all()
        total[start:start + size] += weight
    torch.testing.assert_close(total, torch.ones(length))
    assert starts[0] == 0 and starts[-1] == length - size
    gaps = np.diff(starts)
    assert (gaps <= size - round(size / 4) + 1).all() and (gaps > 0).all()


def test_tiles_are_blended(inferencer, monkeypatch) -> None:
    """With an identity for a network, windows give the image back."""
    seen = []

    def identity(images, salts):
        seen.extend(salts)
        stack = torch.from_numpy(np.stack(images)).float().mean(-1)
        return (stack / 127.5 - 1)[:, None].expand(-1, 3, -1, -1)

    monkeypatch.setattr(inferencer, 'translate', identity)
    for size in ((60, 35), (60, 9), (10, 35)):
        image = SCENE[:size[0], :size[1]]
        result, = inferencer([image], tile=True, batch_size=4)
        assert result.views.shape == (3, *size)
        gap = result.views - image.astype(float).mean(-1)
        assert np.abs(gap).max() <= 0.51
    # Every window has noise of its own.
    rows, columns = (len(windows(a, b)[0]) for a, b in zip(
        (60, 35), SIZE, strict=True))
    assert len(set(seen[:rows * columns])) == rows * columns


def test_tiles_of_equal_ground_differ(inferencer) -> None:
    flat = np.full((48, 16, 3), 90, np.uint8)
    result, = inferencer([flat], tile=True, modality='optical')
    first, last = result.views[0, :12], result.views[0, -12:]
    assert np.abs(first - last.astype(int)).mean() > 2
    again, = inferencer([flat], 1, tile=True, modality='optical')
    assert np.abs(result.views - again.views.astype(int)).max() <= 1


def test_small_images_are_not_tiled(inferencer) -> None:
    image = SCENE[:20, :10]
    one, two = (inferencer([image], tile=t)[0] for t in (True, False))
    np.testing.assert_array_equal(one.views, two.views)


# ------------------------------------------------------------------ settings


def test_presets_and_changes(case) -> None:
    base = SamplerSettings(views=7, steps=50, eta=0.5, salt=3)
    assert sampler_settings(base) == base
    official = sampler_settings(base, 'official')
    assert (official.steps, official.eta, official.spacing) == (
        200, 1., 'linear')
    # What a preset does not name stays.
    assert (official.views, official.salt) == (7, 3)
    assert sampler_settings(base, 'fast', steps=11).steps == 11
    assert official.steps / PRESETS['fast']['steps'] >= 8
    with pytest.raises(ConfigError, match='fastest.*official, fast'):
        sampler_settings(base, 'fastest')
    with pytest.raises(ConfigError, match="'stps'.*Did you mean 'steps'"):
        sampler_settings(base, stps=3)
    made = OpticalToSARInferencer(
        *case, 'cpu', False, 'fast', views=2, steps=3)
    assert (made.settings.views, made.settings.steps) == (2, 3)
    assert made([SCENE])[0].views.shape == (2, 60, 35)
    with pytest.raises(ConfigError, match='steps=2000'):
        OpticalToSARInferencer(*case, 'cpu', steps=2000)


def test_fingerprint(case, inferencer, tmp_path) -> None:
    def name(config=case[0], weights=case[1], tile=False, **settings):
        return OpticalToSARInferencer(
            config, weights, 'cpu', False, **settings).fingerprint(tile)

    own = inferencer.fingerprint()
    assert len(own) == 64 and own == name()
    # Neither changes the first views.
    assert own == name(views=9) == name(max_items=2)
    other = write_weights(tmp_path, case[0], seed=1)
    larger = write_config(tmp_path, CONFIG.replace('(24, 16)', '(24, 24)'))
    names = {own, name(steps=5), name(eta=0.), name(salt=1), name(tile=True),
             name(weights=other), name(config=larger)}
    assert len(names) == 7


# ------------------------------------------------------------------ precision


def test_half_precision_is_close(case) -> None:
    full = OpticalToSARInferencer(*case, 'cpu', False)
    half = OpticalToSARInferencer(*case, 'cpu', True)
    assert half.dtype == torch.bfloat16
    unet = half.model.denoiser.unet
    assert unet.conv_in.weight.dtype == torch.bfloat16
    assert unet.conv_norm_out.weight.dtype == torch.float32
    assert unet.conv_in.weight.is_contiguous(
        memory_format=torch.channels_last)
    one, two = (x([SCENE[:24, :16]])[0].views.astype(int)
                for x in (full, half))
    # The documented tolerance; views of an image differ by far more.
    assert 0 < np.abs(one - two).mean() < 3
    assert np.abs(one[0] - one[1]).mean() > 10


def test_latent_translators_in_half_precision(tmp_path) -> None:
    text = CONFIG.replace('bbdm_pixel_hoss.py', 'bbdm_hoss.py').replace(
        'model = dict(', """model = dict(
    codec=dict(channels=32, channel_mult=(1, 2), num_res_blocks=1,
               codes=64, init_cfg=None),""")
    config = write_config(tmp_path, text)
    weights = write_weights(tmp_path, config)
    for amp in (False, True):
        made = OpticalToSARInferencer(config, weights, 'cpu', amp)
        assert made([SCENE])[0].views.shape == (3, 60, 35)


# --------------------------------------------------------------------- input


def test_sar_is_refused(inferencer, tmp_path) -> None:
    by_name = write_optical(tmp_path / '0001_s01c1_SAR.tif')
    by_channel = write_sar(tmp_path / 'patch.tif')
    for item, why in ((by_name, 'by its name'),
                      (by_channel, 'by its one channel'),
                      (SCENE[:, :, 0], 'by its one channel')):
        with pytest.raises(DataFormatError, match=why) as caught:
            inferencer([item])
        assert "modality='optical'" in str(caught.value)
        assert len(inferencer([item], modality='optical')) == 1
    # The name says what a grey image is.
    grey = write_sar(tmp_path / '0001_s01c1_RGB.tif')
    assert len(inferencer(grey)) == 1


def test_folders(inferencer, tmp_path) -> None:
    write_optical(tmp_path / 'b' / '0002_s01c1_RGB.tif')
    write_optical(tmp_path / 'a.png', 1)
    write_sar(tmp_path / '0002_s01c1_SAR.tif')
    (tmp_path / 'notes.txt').write_text('no image')
    found = list_inputs([tmp_path, SCENE])
    assert [getattr(x, 'name', None) for x in found] == [
        'a.png', '0002_s01c1_RGB.tif', None]
    assert len(inferencer(tmp_path)) == 2
    only = tmp_path / 'only'
    write_sar(only / '0002_s01c1_SAR.tif')
    with pytest.raises(DataFormatError, match='all names end in _SAR'):
        inferencer(only)
    with pytest.raises(DatasetNotFoundError):
        inferencer(tmp_path / 'none.png')


def test_bad_images_do_not_stop_a_stream(inferencer, tmp_path) -> None:
    paths = [write_optical(tmp_path / f'{i}.png', i) for i in range(4)]
    paths[1].write_bytes(paths[1].read_bytes()[:200])
    errors = {}
    done = dict(inferencer.stream(
        paths, 2, on_error=lambda row, error: errors.update({row: error})))
    assert sorted(done) == [0, 2, 3]
    assert isinstance(errors[1], CorruptImageError)
    assert str(paths[1]) in str(errors[1])
    with pytest.raises(CorruptImageError):
        inferencer(paths)


@pytest.mark.parametrize('item, words', [
    (np.zeros((4, 4, 3), np.float32), 'float32'),
    (np.zeros((4, 4, 2), np.uint8), r'\(4, 4, 2\)'),
    (np.zeros((0, 4, 3), np.uint8), r'\(0, 4, 3\)'),
    (7, 'int'), ([], 'empty')])
def test_what_is_no_image(inferencer, item, words) -> None:
    with pytest.raises(DataFormatError, match=words):
        inferencer(item)


@pytest.mark.parametrize('options, words', [
    (dict(batch_size=0), 'batch_size=0'),
    (dict(modality='sar'), "modality='sar'")])
def test_bad_arguments(inferencer, options, words) -> None:
    with pytest.raises(ConfigError, match=words):
        inferencer([SCENE], **options)


def test_bad_configs_and_weights(case, tmp_path) -> None:
    with pytest.raises(ConfigError, match='checkpoint is None'):
        OpticalToSARInferencer(case[0], None)
    with pytest.raises(ConfigError, match="translator's config"):
        OpticalToSARInferencer(dict(a=1), case[1])
    with pytest.raises(ConfigError, match='translates nothing'):
        OpticalToSARInferencer(
            dict(model=dict(
                type='osar_plugin.VQCodec', channels=32, channel_mult=(1, ),
                codes=8),
                train_dataloader=load_config(case[0]).train_dataloader),
            case[1])
    mark = tmp_path / 'ran'
    torch.save(dict(state_dict=dict(a=Bomb(mark))), tmp_path / 'bomb.pth')
    with pytest.raises(UnsafeCheckpointError):
        OpticalToSARInferencer(case[0], tmp_path / 'bomb.pth')
    assert not mark.exists()
    cfg = load_config(case[0])
    cfg.train_dataloader.dataset.pipeline = []
    with pytest.raises(ConfigError, match='PillowResize'):
        image_transforms(cfg)


def test_real_chips(inferencer) -> None:
    folder = HOSS_MINI / 'HOSS' / 'query'
    if not folder.is_dir():
        pytest.skip(f'{folder} is not there')
    results = inferencer(folder)
    assert len(results) == 11
    for result in results:
        expected = read_optical(result.path)
        np.testing.assert_array_equal(result.optical, expected)
        assert result.views.shape == (3, *expected.shape[:2])
