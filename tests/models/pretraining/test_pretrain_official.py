"""The authors' files, into and out of the models."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import pytest
import torch
from codemae import TINY_ARCH, build, golden, tiny_cfg, tiny_inputs, total
from torch import Tensor

from osar_plugin.models.pretraining.official import (
    CODEMAE,
    from_official,
    to_official,
)
from osar_plugin.registry import MODELS
from osar_plugin.utils.checkpoint import load_checkpoint
from osar_plugin.utils.errors import (
    CheckpointError,
    CheckpointMismatchError,
)


def published(model: Any) -> dict[str, Any]:
    """A file as the authors' training writes it."""
    return dict(
        model=to_official(model.state_dict(), CODEMAE),
        epoch=799,
        args=argparse.Namespace(model='itpn_base_dec512d8b'))


def itpn_file(model: Any) -> dict[str, Tensor]:
    """A flat file as iTPN's own pre-training publishes it."""
    out = {'decoder_pred.weight': torch.zeros(3, 3),
           'mask_token': torch.zeros(1, 1, 7),
           'block_16to8.1.norm2.weight': torch.zeros(16)}
    for key, value in model.backbone.state_dict().items():
        if not key.startswith('patch_embed_sar'):
            out[key.replace('patch_embed_rgb', 'patch_embed')] = value
    return out


def test_published_file(tmp_path: Path) -> None:
    source, target = build(tiny_cfg()), build(tiny_cfg(), seed=1)
    path = tmp_path / 'checkpoint-800.pth'
    torch.save(published(source), path)
    report = load_checkpoint(target, path)
    assert not report.missing
    assert not report.unexpected
    first, second = (total(m(tiny_inputs(), mode='loss'))
                     for m in (source, target))
    torch.testing.assert_close(first, second)


@pytest.mark.parametrize('share', [True, False])
def test_keys_go_both_ways(share: bool) -> None:
    state = build(tiny_cfg(share_decoders=share)).state_dict()
    official = to_official(state, CODEMAE)
    back = from_official(official, CODEMAE)
    assert back.keys() == state.keys()
    assert all(torch.equal(back[k], v) for k, v in state.items())
    names = {k.split('.')[0] for k in official}
    assert ('decoder_blocks_cross_sar' in names) != share
    assert ('decoder_embed' in names) == share


def test_official_names_are_those_of_the_published_file() -> None:
    """Up to the numbers of blocks."""
    tiny = {k.split('.')[0] for k in to_official(
        build(tiny_cfg()).state_dict(), CODEMAE)}
    listed = {entry.split('|')[0].split('.')[0]
              for entry in golden()['keys'].tolist()}
    assert tiny == listed


def test_start_from_itpn(tmp_path: Path) -> None:
    source = build(tiny_cfg())
    path = tmp_path / 'itpn_base_fpn256.pth'
    torch.save(itpn_file(source), path)
    model = build(tiny_cfg(
        init_cfg=dict(type='Pretrained', checkpoint=str(path))), seed=1)
    fresh = build(tiny_cfg(), seed=1)
    for key, value in model.state_dict().items():
        if key.startswith('backbone.'):
            name = key.replace('patch_embed_sar', 'patch_embed_rgb')
            assert torch.equal(value, source.state_dict()[name]), key
        else:
            assert torch.equal(value, fresh.state_dict()[key]), key
    assert any('decoder' in key for key in model.load_report.missing)
    assert set(model.load_report.resized) == {
        key for key in model.state_dict() if 'patch_embed' in key}


def test_a_missing_optional_file_is_said_aloud(
        tmp_path: Path, caplog: pytest.LogCaptureFixture,
        capfd: pytest.CaptureFixture[str]) -> None:
    path = str(tmp_path / 'absent.pth')
    cfg = dict(type='Pretrained', checkpoint=path)
    with pytest.raises(CheckpointError, match='absent.pth'):
        build(tiny_cfg(init_cfg=cfg))
    model = build(tiny_cfg(init_cfg=dict(cfg, optional=True)))
    assert model.load_report is None


def test_ours_resumes_and_loads() -> None:
    source, target = build(tiny_cfg()), build(tiny_cfg(), seed=1)
    target.load_state_dict(source.state_dict())
    for key, value in target.state_dict().items():
        assert torch.equal(value, source.state_dict()[key])


def other_arch() -> dict[str, Any]:
    return dict(tiny_cfg()['backbone'], arch=dict(TINY_ARCH, depth=40))


@pytest.mark.parametrize('form', ['published', 'itpn'])
def test_files_of_another_backbone(form: str) -> None:
    """A deeper model is not filled in part and in silence."""
    source = build(tiny_cfg())
    content = published(source) if form == 'published' else itpn_file(source)
    model = MODELS.build(tiny_cfg(backbone=other_arch()))
    with pytest.raises(CheckpointMismatchError, match='of the backbone'):
        model.load_state_dict(content)


def test_shapes_that_do_not_fit() -> None:
    source = build(tiny_cfg())
    content = published(source)
    content['model']['absolute_pos_embed'] = torch.zeros(1, 4, 32)
    with pytest.raises(CheckpointMismatchError, match='absolute_pos_embed'):
        source.load_state_dict(content)


def test_parts_that_the_authors_do_not_have() -> None:
    with pytest.raises(CheckpointError, match='no place'):
        to_official({'head.weight': torch.zeros(1)}, CODEMAE)
