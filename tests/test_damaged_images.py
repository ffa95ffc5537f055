"""The benchmark of damaged images, in small."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

DATA = Path(__file__).resolve().parents[2] / 'shared' / 'data'
REAL = [DATA / 'hoss_mini', DATA / 'dior', DATA / 'loveda' / 'img_dir']


@pytest.fixture
def folders(tiny_hoss):
    """Real images where they are, else noise."""
    return REAL if DATA.is_dir() else [tiny_hoss]


def test_sixty_damaged_images(run_tool, folders):
    ended = run_tool(
        'benchmark/damaged_images.py', '--count', '10', '--size', '96',
        '--json', '--images', *folders)
    assert ended.code == 0, ended.err
    rows = json.loads(ended.out)
    assert len(rows) == 6
    for row in rows:
        assert row['images'] == row['manifest'] == 10
        assert row['osar_plugin'] >= row['pillow']
        # What a format can tell of itself is seen.
        if row['damage'] == 'truncated' or row['format'] == 'PNG':
            assert row['osar_plugin'] == 10, row


def test_the_table_is_the_same_for_the_same_seed(run_tool, tiny_hoss):
    tables = {
        run_tool(
            'benchmark/damaged_images.py', '--count', '4', '--seed', seed,
            '--images', tiny_hoss).out for seed in ('1', '1')}
    assert len(tables) == 1
    table = tables.pop()
    assert table.startswith('| format | damage | images | manifest |')
    assert '| all |  | 24 | 24 | ' in table
