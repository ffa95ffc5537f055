"""BBDM and latent-diffusion files, and files that must be refused."""

from __future__ import annotations

import sys
import types
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from bbdm import (
    draws,
    golden,
    official_weights,
    translator_cfg,
)

from osar_plugin.models.translation.official import (
    load_translator,
    translator_to_official,
)
from osar_plugin.registry import MODELS
from osar_plugin.utils.checkpoint import load_checkpoint, save_weights
from osar_plugin.utils.errors import (
    CheckpointError,
    CheckpointMismatchError,
    UnsafeCheckpointError,
)


def build(seed: int = 0, **kwargs: Any) -> Any:
    torch.manual_seed(seed)
    return MODELS.build(translator_cfg(**kwargs)).eval()


def bbdm_file(tmp_path: Path, model: Any, **extra: Any) -> Path:
    """What the authors' training saves of a model."""
    content = dict(
        step=7, epoch=3, model=translator_to_official(model), **extra)
    torch.save(content, tmp_path / 'top_model_epoch_3.pth')
    return tmp_path / 'top_model_epoch_3.pth'


def same(a: Any, b: Any) -> bool:
    return all(torch.equal(v, b.state_dict()[k])
               for k, v in a.state_dict().items())


def test_golden_through_a_checkpoint(tmp_path: Path) -> None:
    """The authors' weights in their file give the authors' numbers."""
    source = {**official_weights('unet_tiny', 'denoise_fn.'),
              **build().schedule.tensors()}
    path = tmp_path / 'last_model.pth'
    torch.save(dict(step=1, epoch=1, model=source), path)
    model = build()
    report = load_translator(model, path)
    assert not report.missing and not report.unexpected
    x, context = draws(61, 2, 2, 3, 16, 16)
    with torch.no_grad():
        out = model.denoiser(x, torch.tensor([3, 700]), context)
    assert np.abs(out.numpy() - golden()['unet_tiny_out']).max() < 1e-4


@pytest.mark.parametrize('latent', [False, True])
@pytest.mark.parametrize('way', ['own', 'shared', 'mmengine', 'init_cfg'])
def test_every_loader_reads_bbdm_files(latent: bool, way: str,
                                       tmp_path: Path) -> None:
    source = build(1, latent=latent)
    path = bbdm_file(tmp_path, source)
    model = build(2, latent=latent)
    if way == 'own':
        load_translator(model, path)
    elif way == 'shared':
        load_checkpoint(model, path)
    elif way == 'mmengine':
        from mmengine.runner.checkpoint import load_checkpoint as load
        load(model, str(path), map_location='cpu')
    else:
        model = build(2, latent=latent, init_cfg=dict(
            type='Pretrained', checkpoint=str(path)))
        model.init_weights()
    assert same(source, model)
    assert model.load_report.coverage == 1.


@pytest.mark.parametrize('prefix', ['', 'module.'])
def test_averaged_weights_are_preferred(prefix: str,
                                        tmp_path: Path) -> None:
    source, average = build(1, latent=True), build(3, latent=True)
    # Only what is trained is averaged.
    ema = {
        prefix + k: v for k, v in translator_to_official(average).items()
        if k.startswith('denoise_fn.')}
    path = bbdm_file(tmp_path, source, ema=ema)
    model = build(2, latent=True)
    load_translator(model, path)
    assert same(average.denoiser, model.denoiser)
    assert same(source.codec, model.codec)
    load_translator(model, path, ema=False)
    assert same(source, model)


def test_statistics_of_the_latents(tmp_path: Path) -> None:
    source = build(1, latent=True)
    stats = {name: torch.full((1, 3, 1, 1), float(i)) for i, name in
             enumerate(('ori_latent_mean', 'ori_latent_std',
                        'cond_latent_mean', 'cond_latent_std'))}
    path = bbdm_file(tmp_path, source, **stats)
    model = build(2, latent=True, normalize_latent=True)
    report = load_translator(model, path)
    assert not report.missing
    assert model.sar_latent_mean.flatten().tolist() == [0.] * 3
    assert model.sar_latent_std.flatten().tolist() == [1.] * 3
    assert model.optical_latent_mean.flatten().tolist() == [2.] * 3
    assert model.optical_latent_std.flatten().tolist() == [3.] * 3
    back = translator_to_official(model)
    assert torch.equal(back['cond_latent_std'], stats['cond_latent_std'])


def test_condition_network_goes_along(tmp_path: Path) -> None:
    cfg = translator_cfg(latent=True, condition='rescaled')
    cfg['denoiser']['context_channels'] = 3
    source, model = MODELS.build(cfg), MODELS.build(cfg)
    path = bbdm_file(tmp_path, source)
    load_translator(model, path)
    assert same(source, model)
    key = 'cond_stage_model.channel_mapper.weight'
    assert translator_to_official(model)[key].shape == (3, 3, 1, 1)


def test_our_own_files(tmp_path: Path) -> None:
    source = build(1, latent=True)
    save_weights(source.state_dict(), tmp_path / 'ours.safetensors')
    model = build(2, latent=True)
    report = load_checkpoint(model, tmp_path / 'ours.safetensors')
    assert same(source, model) and not report.missing
    # What mmengine's EMA hook keeps beside the weights changes nothing.
    torch.save(dict(state_dict=source.state_dict(), ema_state_dict={}),
               tmp_path / 'epoch_1.pth')
    model = build(3, latent=True)
    load_translator(model, tmp_path / 'epoch_1.pth')
    assert same(source, model)


def codec_cfg(path: Path, **kwargs: Any) -> dict[str, Any]:
    cfg = translator_cfg(latent=True)
    cfg['codec']['init_cfg'] = dict(
        type='Pretrained', checkpoint=str(path), **kwargs)
    return cfg


def test_codec_of_latent_diffusion(tmp_path: Path) -> None:
    weights = official_weights('vq_tiny')
    weights['loss.discriminator.main.0.weight'] = torch.zeros(3)
    torch.save({'state_dict': weights, 'epoch': 4}, tmp_path / 'model.ckpt')
    model = MODELS.build(codec_cfg(tmp_path / 'model.ckpt'))
    model.init_weights()
    assert not model.codec.load_report.unexpected
    (images, ) = draws(62, 1, 2, 3, 32, 32)
    out = model.decode(model.encode(images, 'sar'))
    assert np.abs(out.numpy() - golden()['vq_tiny_dec']).max() < 1e-4


def test_a_trainer_that_names_its_callback(tmp_path: Path) -> None:
    """Latent diffusion's files key a dict by a class of its trainer."""
    name = 'pytorch_lightning.callbacks.model_checkpoint'
    modules = {part: types.ModuleType(part) for part in (
        'pytorch_lightning', 'pytorch_lightning.callbacks', name)}
    callback = type('ModelCheckpoint', (), {'__module__': name})
    modules[name].ModelCheckpoint = callback  # type: ignore[attr-defined]
    path = tmp_path / 'model.ckpt'
    sys.modules.update(modules)
    try:
        torch.save({'state_dict': official_weights('vq_tiny'),
                    'callbacks': {callback: {'best': 1.}}}, path)
    finally:
        for part in modules:
            del sys.modules[part]
    model = MODELS.build(codec_cfg(path))
    model.init_weights()
    assert model.codec.load_report.coverage == 1.


def test_a_missing_codec(tmp_path: Path) -> None:
    model = MODELS.build(codec_cfg(tmp_path / 'no.ckpt'))
    with pytest.raises(CheckpointError, match=r'no\.ckpt'):
        model.init_weights()
    MODELS.build(codec_cfg(tmp_path / 'no.ckpt', optional=True)
                 ).init_weights()
    cfg = codec_cfg(tmp_path / 'no.ckpt')
    cfg['codec']['init_cfg'] = dict(type='Kaiming')
    with pytest.raises(CheckpointError, match=r'model\.codec\.init_cfg'):
        MODELS.build(cfg).init_weights()
    torch.save(dict(list(official_weights('vq_tiny').items())[:-9]),
               tmp_path / 'part.ckpt')
    with pytest.raises(CheckpointMismatchError, match='are not in the'):
        MODELS.build(codec_cfg(tmp_path / 'part.ckpt')).init_weights()


@pytest.mark.parametrize('own, theirs, words', [
    (dict(), dict(schedule=dict(kind='sin')), r'another schedule.*m_t'),
    (dict(schedule=dict(num_timesteps=500)), dict(), '1000 steps.*500'),
    (dict(), dict(schedule=dict(max_var=0.5)), 'another schedule.*variance'),
    (dict(), dict(latent=True), 'latent-space model'),
    (dict(latent=True), dict(), r'other shapes|fills only'),
])
def test_files_of_other_models(own: dict, theirs: dict, words: str,
                               tmp_path: Path) -> None:
    path = bbdm_file(tmp_path, build(1, **theirs))
    model = build(2, **own)
    before = {k: v.clone() for k, v in model.state_dict().items()}
    with pytest.raises(CheckpointMismatchError, match=words):
        load_translator(model, path)
    for key, value in model.state_dict().items():
        assert torch.equal(value, before[key])


class Crafted:
    """Unpickling it with the full unpickler makes a folder."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple:
        import os
        return os.mkdir, (str(self.target), )


def test_a_file_that_carries_code_is_refused(tmp_path: Path) -> None:
    target = tmp_path / 'made'
    path = bbdm_file(tmp_path, build(), callback=Crafted(target))
    with pytest.raises(UnsafeCheckpointError, match='mkdir'):
        load_translator(build(), path)
    with pytest.raises(UnsafeCheckpointError, match='mkdir'):
        MODELS.build(codec_cfg(path)).init_weights()
    assert not target.exists()
