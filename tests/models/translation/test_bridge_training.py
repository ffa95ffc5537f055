"""The recipe through the Runner: a killed run ends like a whole one."""

from __future__ import annotations

import contextlib
import uuid
from pathlib import Path
from typing import Any

import pytest
import torch
from bbdm import UNET_TINY
from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from mmengine.runner import Runner

from osar_plugin.models.translation.official import load_translator
from osar_plugin.registry import MODELS
from osar_plugin.utils.checkpoint import read_checkpoint
from osar_plugin.utils.config import load_config

REPO = Path(__file__).resolve().parents[3]


class Killed(Exception):
    """Stands for a process that is gone."""


@HOOKS.register_module(force=True)
class KillTranslatorHook(Hook):
    """Ends the run after an iteration, behind the checkpoint's save."""

    priority = 'LOWEST'

    def __init__(self, at: int) -> None:
        self.at = at

    def after_train_iter(self, runner: Any, **_: Any) -> None:
        if runner.iter + 1 == self.at:
            raise Killed


def config(root: Path, work_dir: Path, **more: Any) -> Any:
    """configs/bbdm_pixel_hoss.py in small: 3 epochs of 4 batches."""
    cfg = load_config(REPO / 'configs/bbdm_pixel_hoss.py')
    cfg.model.denoiser.update(UNET_TINY)
    loader = cfg.train_dataloader
    loader.update(batch_size=4, num_workers=0, persistent_workers=False)
    loader.dataset.data_root = str(root)
    pairs = loader.dataset.pipeline[0]
    pairs.transforms[-1].size = (16, 8)
    cfg.param_scheduler.update(patience=0, cooldown=0)
    cfg.custom_hooks[0].update(begin_iter=5, interval=2, momentum=0.25)
    cfg.default_hooks.checkpoint.interval = 1
    cfg.default_hooks.logger.interval = 100
    cfg.train_cfg.max_epochs = 3
    cfg.update(work_dir=str(work_dir), log_level='WARNING',
               experiment_name=uuid.uuid4().hex, visualizer=None,
               vis_backends=None, **more)
    return cfg


def train(cfg: Any) -> None:
    torch.seed()  # what the process did before must not matter
    with contextlib.suppress(Killed):
        Runner.from_cfg(cfg).train()


def test_a_killed_run_ends_like_a_whole_one(tiny_hoss: Path,
                                            tmp_path: Path) -> None:
    train(config(tiny_hoss, tmp_path / 'whole'))
    hooks = config(tiny_hoss, tmp_path / 'x').custom_hooks
    train(config(tiny_hoss, tmp_path / 'cut', custom_hooks=[
        *hooks, dict(type='KillTranslatorHook', at=7)]))
    assert not (tmp_path / 'cut/epoch_3.pth').exists()
    train(config(tiny_hoss, tmp_path / 'cut', resume=True))
    whole, cut = (
        read_checkpoint(tmp_path / name / 'epoch_3.pth')
        for name in ('whole', 'cut'))
    for part in ('state_dict', 'ema_state_dict'):
        assert whole[part].keys() == cut[part].keys()
        for key, value in whole[part].items():
            assert torch.equal(value, cut[part][key]), f'{part} {key}'
    rate = whole['optimizer']['param_groups'][0]['lr']
    assert cut['optimizer']['param_groups'][0]['lr'] == rate
    assert rate < 1e-4  # the loss of single batches has not kept falling
    # Files hold the average as the weights, and the weights beside it.
    key = 'denoiser.unet.conv_out.weight'
    assert not torch.equal(
        whole['state_dict'][key], whole['ema_state_dict'][f'module.{key}'])
    model = MODELS.build(config(tiny_hoss, tmp_path).model)
    load_translator(model, tmp_path / 'whole/epoch_3.pth')
    assert torch.equal(
        model.state_dict()[key], whole['state_dict'][key])


def test_the_loss_falls(tiny_hoss: Path) -> None:
    """A batch can be learnt by heart: network, loss and steps fit."""
    cfg = config(tiny_hoss, tiny_hoss)
    torch.manual_seed(0)
    model = MODELS.build(cfg.model).train()
    model.init_weights()
    optical, sar = torch.rand(2, 4, 3, 16, 8).mul(2).sub(1)
    optimizer = torch.optim.Adam(
        [p for p in model.parameters() if p.requires_grad], 2e-3)
    losses = []
    for _ in range(60):
        loss = model(dict(optical=optical, sar=sar), mode='loss')
        optimizer.zero_grad()
        loss['loss_bridge'].backward()
        optimizer.step()
        losses.append(float(loss['loss_bridge'].detach()))
    assert sum(losses[-10:]) / 10 < 0.6 * sum(losses[:5]) / 5


@pytest.mark.parametrize('name', ['bbdm_hoss', 'bbdm_qxs_saropt'])
def test_a_missing_start_is_said(name: str,
                                 monkeypatch: pytest.MonkeyPatch) -> None:
    """Without its files a config trains from random weights, aloud."""
    said: list[str] = []
    monkeypatch.setattr(
        'osar_plugin.models.translation.official.print_log',
        lambda text, **_: said.append(text))
    cfg = load_config(REPO / f'configs/{name}.py')
    cfg.model.denoiser.update(UNET_TINY, context_channels=0)
    cfg.model.codec.update(channels=32, channel_mult=(1, 2), codes=16)
    MODELS.build(cfg.model).init_weights()
    expected = ["model.codec: there is no 'weights/vq-f4.ckpt'"]
    if name == 'bbdm_hoss':
        expected.append("model: there is no 'weights/bbdm_qxs_saropt.pth'")
    assert len(said) == len(expected)
    for text, words in zip(said, expected, strict=True):
        assert f'NO PRE-TRAINED WEIGHTS for {words}' in text
