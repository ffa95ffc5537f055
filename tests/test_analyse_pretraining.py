"""tools/analysis/analyse_pretraining.py."""

from __future__ import annotations

import csv
import importlib.util
import json

import numpy as np
import pytest
import torch
from pair_case import write_source
from PIL import Image
from pretrain_tool_case import build_model, write_config

from osar_plugin.utils.checkpoint import read_checkpoint
from osar_plugin.utils.errors import DataFormatError
from osar_plugin.visualization.pretraining import (
    draw_panels,
    hide_patches,
    stretch,
)

TOOL = 'analysis/analyse_pretraining.py'


@pytest.fixture(scope='module')
def case(tmp_path_factory):
    folder = tmp_path_factory.mktemp('analyse')
    write_source(folder / 'data', 'DFC25', 5)
    write_source(folder / 'data', 'SpaceNet6', 3, 1)
    write_source(folder / 'data', 'Unpaired', 4, 2)
    config = write_config(folder)
    torch.save(dict(state_dict=build_model(config).state_dict()),
               folder / 'net.pth')
    return folder


def rows(path):
    with open(path, encoding='utf-8', newline='') as file:
        return list(csv.DictReader(file))


def test_all_figures(case, tmp_path, run_tool):
    ended = run_tool(
        TOOL, case / 'tiny.py', case / 'net.pth', '--out', tmp_path,
        '--device', 'cpu', '--panels', '2', '--gsd', '2', 'DFC25=0.5',
        '--batch-size', '3')
    assert ended.code == 0, ended.err
    names = ['spectrum', 'alignment', 'scales', 'gap', 'reconstruction']
    if importlib.util.find_spec('umap') is not None:
        names.insert(4, 'umap')
    assert f'8 pairs: {", ".join(names)}' in ended.out
    for name in names:
        with Image.open(tmp_path / f'{name}.png') as picture:
            assert min(picture.size) > 200
    # Pairs only, and each of both sources.
    found = rows(tmp_path / 'gap.csv')
    assert len(found) == 8
    assert not any('Unpaired' in row['optical_file'] for row in found)
    assert sum(int(row['patches']) for row in rows(
        tmp_path / 'alignment.csv')) == 8 * 16
    # 20 x 24 pixels: no second scale.
    assert [(row['source'], float(row['pixel']), row['pairs'])
            for row in rows(tmp_path / 'scales.csv')] == [
        ('DFC25', 0.5, '5'), ('SpaceNet6', 2., '3')]
    panels = rows(tmp_path / 'reconstruction.csv')
    assert [row['seen'] for row in panels] == ['rgb', 'rgb', 'sar', 'sar']
    assert all(0 < float(row[key]) < 100 for row in panels
               for key in ('self', 'cross'))
    summary = json.loads((tmp_path / 'summary.json').read_text())
    assert 1 < summary['effective_rank']['both'] <= 16


@pytest.mark.parametrize('extra, text', [
    (('--limit', '2'), 'limit=2'), (('--gsd', 'x'), "--gsd 'x'"),
    (('--gsd', 'Mars=2', '--figures', 'scales'), 'Mars'),
    (('--figures', 'reconstruction', '--cfg-options',
      'train_dataloader.dataset.include=["Unpaired"]'), 'no pair'),
    (('--data-root', 'nowhere'), 'no such folder')])
def test_what_cannot_be_drawn(case, tmp_path, run_tool, extra, text):
    ended = run_tool(
        TOOL, case / 'tiny.py', case / 'net.pth', '--out', tmp_path / 'x',
        '--device', 'cpu', *extra)
    assert ended.code == 2 and text in ended.err, ended.err
    assert not (tmp_path / 'x').exists()


def test_reconstruction_needs_decoders(case, tmp_path, run_tool):
    state = read_checkpoint(case / 'net.pth')['state_dict']
    torch.save({k: v for k, v in state.items() if 'degraded' not in k},
               tmp_path / 'part.pth')
    ended = run_tool(
        TOOL, case / 'tiny.py', tmp_path / 'part.pth', '--out',
        tmp_path / 'x', '--device', 'cpu')
    assert ended.code == 2 and 'degraded' in ended.err


def test_pictures():
    image = np.full((32, 32, 3), 7, np.uint8)
    hidden = np.array([[True, False], [False, False]])
    shown = hide_patches(image, hidden)
    assert (shown[:16, :16] == 128).all() and (shown[16:] == 7).all()
    assert (shown[:, 16:] == 7).all()
    values = stretch(np.array([[0., 1.], [2., 9.]]), 0, 2)
    assert values[..., 1].tolist() == [[0, 128], [255, 255]]
    with pytest.raises(DataFormatError, match='2 titles'):
        draw_panels([[image]], ['a', 'b'], ['x'])
