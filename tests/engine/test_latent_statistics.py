"""Statistics of latents, measured before the first iteration."""

from __future__ import annotations

import uuid
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from mmengine.hooks import Hook
from mmengine.registry import DATASETS, HOOKS
from mmengine.runner import Runner
from torch.nn.functional import pixel_unshuffle

from osar_plugin.engine import LatentStatisticsHook
from osar_plugin.utils.checkpoint import read_checkpoint
from osar_plugin.utils.config import load_config
from osar_plugin.utils.errors import ConfigError, DataFormatError
from osar_plugin.utils.random_state import random_state

REPO = Path(__file__).resolve().parents[2]
SIDES = ('optical', 'sar')


@HOOKS.register_module(force=True)
class DrawnBeforeHook(Hook):
    """Notes what the next draw would be."""

    drawn: list[float] = []

    def before_train(self, runner: Any) -> None:
        words = random_state()
        self.drawn.append(float(words.torch.double().sum()
                                + words.numpy[1].astype(float).sum()))


def config(root: Path, work_dir: Path, **hook: Any) -> Any:
    cfg = load_config(REPO / 'configs/bbdm_pixel_hoss.py')
    cfg.model.codec = dict(type='osar_plugin.SpaceToDepthCodec')
    cfg.model.normalize_latent = True
    cfg.model.denoiser.update(
        in_channels=12, context_channels=12, model_channels=32,
        channel_mult=(1, ), num_res_blocks=1, attention_factors=(),
        head_channels=32)
    loader = cfg.train_dataloader
    loader.update(batch_size=4, num_workers=0, persistent_workers=False)
    loader.dataset.data_root = str(root)
    loader.dataset.pipeline[0].transforms[-1].size = (16, 8)
    cfg.custom_hooks = [
        dict(type='DrawnBeforeHook', priority='VERY_HIGH'),
        dict(type='osar_plugin.LatentStatisticsHook', **hook),
        dict(type='DrawnBeforeHook', priority='LOWEST')]
    cfg.default_hooks.checkpoint.interval = 1
    cfg.train_cfg.max_epochs = 1
    cfg.update(work_dir=str(work_dir), log_level='WARNING',
               experiment_name=uuid.uuid4().hex, visualizer=None,
               vis_backends=None)
    return cfg


def statistics(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {f'{side}_{name}': state[f'{side}_latent_{name}'].flatten()
            for side in SIDES for name in ('mean', 'std')}


def test_measured_once_and_kept(tiny_hoss: Path, tmp_path: Path) -> None:
    cfg = config(tiny_hoss, tmp_path / 'run')
    # Without flips a sample is what the data set says.
    cfg.train_dataloader.dataset.pipeline = [
        t for t in cfg.train_dataloader.dataset.pipeline
        if t.type != 'osar_plugin.PairFlip']
    DrawnBeforeHook.drawn.clear()
    runner = Runner.from_cfg(cfg)
    runner.train()
    before, after = DrawnBeforeHook.drawn
    assert before == after
    dataset = runner.train_dataloader.dataset
    samples = [dataset[i]['inputs'] for i in range(len(dataset))]
    found = statistics(
        read_checkpoint(tmp_path / 'run/epoch_1.pth')['state_dict'])
    for side in SIDES:
        pixels = torch.stack([s[side] for s in samples]).float()
        latents = pixel_unshuffle(pixels / 127.5 - 1, 2).transpose(0, 1)
        latents = latents.flatten(1).double()
        torch.testing.assert_close(
            found[f'{side}_mean'].double(), latents.mean(1),
            rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(
            found[f'{side}_std'].double(), latents.std(1, correction=0),
            rtol=1e-4, atol=1e-5)
    # A model that has them keeps them: other samples would change them.
    again = config(tiny_hoss, tmp_path / 'again', max_samples=1)
    again.load_from = str(tmp_path / 'run/epoch_1.pth')
    Runner.from_cfg(again).train()
    kept = statistics(
        read_checkpoint(tmp_path / 'again/epoch_1.pth')['state_dict'])
    for key, value in found.items():
        assert torch.equal(kept[key], value)


@DATASETS.register_module(force=True)
class ConstantPairs(torch.utils.data.Dataset):

    def __len__(self) -> int:
        return 8

    def __getitem__(self, index: int) -> dict[str, Any]:
        image = torch.from_numpy(np.full((3, 16, 8), 7, np.uint8))
        return dict(inputs=dict(optical=image, sar=image))


def test_constant_latents(tiny_hoss: Path, tmp_path: Path) -> None:
    cfg = config(tiny_hoss, tmp_path)
    cfg.train_dataloader.dataset = dict(type='ConstantPairs')
    cfg.train_dataloader.sampler = dict(
        type='mmengine.DefaultSampler', shuffle=True)
    with pytest.raises(DataFormatError, match='deviations .* no 0'):
        Runner.from_cfg(cfg).train()


def test_arguments() -> None:
    for wrong in (dict(batch_size=0), dict(max_samples=0)):
        with pytest.raises(ConfigError, match='=0'):
            LatentStatisticsHook(**wrong)
