"""Missing files of weights, explained before anything is built."""

from __future__ import annotations

from pathlib import Path

import pytest
from downstream import needs

from osar_plugin.models.backbones import DenseViT
from osar_plugin.utils.config import load_config
from osar_plugin.utils.errors import CheckpointError
from osar_plugin.utils.published import (
    PUBLISHED,
    explain_missing,
    require_start_weights,
)

CONFIGS = Path(__file__).resolve().parents[2] / 'configs'


@pytest.mark.parametrize('name,what', [
    ('codemae_dior', 'CoDe-MAE.*scenarri/CoDeMAE'),
    ('saratrx_sardet100k', 'SARATR-X.*waterdisappear/SARATR-X'),
    ('vit_dior', "MAE's ViT-B.*facebookresearch/mae"),
    ('hivit_dior', 'HiViT-B.*hivit')])
def test_start_of_the_detectors(name, what, tmp_path, monkeypatch):
    needs('mmdet')
    monkeypatch.chdir(tmp_path)
    cfg = load_config(CONFIGS / f'{name}.py')
    with pytest.raises(CheckpointError, match=(
            f'{what}.*init_cfg.checkpoint=FILE.*model.backbone.init_cfg='
            'None')):
        require_start_weights(cfg.model)
    (tmp_path / 'weights').mkdir()
    (tmp_path / cfg.model.backbone.init_cfg.checkpoint).touch()
    require_start_weights(cfg.model)
    cfg.model.backbone.init_cfg = None
    require_start_weights(cfg.model)


def test_where_in_the_config():
    start = dict(type='Pretrained', checkpoint='none.pth')
    with pytest.raises(CheckpointError, match=(
            r"'none\.pth'\. Nothing.*model\.parts\.1\.init_cfg=None")):
        require_start_weights(dict(parts=[{}, dict(init_cfg=start)]))
    # What is downloaded, and what is no file of weights.
    require_start_weights(dict(
        a=dict(type='Pretrained', checkpoint='torchvision://resnet50'),
        b=dict(type='Pretrained', checkpoint=''),
        c=dict(type='Constant', checkpoint='none.pth'), d=None,
        e=dict(start, optional=True)))
    require_start_weights(None)


def test_backbone_says_the_same(tmp_path):
    path = str(tmp_path / 'checkpoint-800.pth')
    model = DenseViT(
        dict(embed_dim=32, depth=1, num_heads=2), out='map',
        init_cfg=dict(type='Pretrained', checkpoint=path))
    with pytest.raises(CheckpointError) as error:
        model.init_weights()
    assert str(error.value) == explain_missing(path)


def test_table_and_readme_agree():
    text = (CONFIGS / 'README.md').read_text()
    assert all(f'`{name}`' in text for name in PUBLISHED)
