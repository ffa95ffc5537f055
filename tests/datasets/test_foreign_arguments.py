"""Arguments of the toolboxes' data sets are taken or refused, not ignored."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from osar_plugin.datasets import BRIGHTDataset, LoveDA
from osar_plugin.datasets.list_classification import FUSARShip
from osar_plugin.utils.errors import ConfigError


def build(kind: Any, root: Path, **settings: Any) -> Any:
    if kind is FUSARShip:
        settings['list_file'] = 'list.txt'
    return kind(data_root=str(root), lazy_init=True, **settings)


@pytest.mark.parametrize('kind, neutral', [
    (LoveDA, dict(
        ann_file='', data_prefix=None, filter_cfg=None, metainfo=None,
        img_suffix='.png', seg_map_suffix='.png', ignore_index=255,
        reduce_zero_label=True)),
    (BRIGHTDataset, dict(
        data_prefix={}, metainfo=None, img_suffix='.tif', ignore_index=255,
        reduce_zero_label=False)),
    (FUSARShip, dict(
        ann_file='', data_prefix='', metainfo=None, with_label=True))])
def test_what_asks_for_nothing_is_taken(kind: Any, neutral: dict,
                                        tmp_path: Path) -> None:
    for backend in (None, dict(backend='local')):
        build(kind, tmp_path, **neutral, backend_args=backend)


@pytest.mark.parametrize('kind, setting, cure', [
    (LoveDA, dict(ann_file='a.txt'), 'list_file'),
    (LoveDA, dict(data_prefix=dict(img_path='x')), 'found in data_root'),
    (LoveDA, dict(reduce_zero_label=False), 'always reduced'),
    (LoveDA, dict(metainfo=dict(classes=('a', ))), "LoveDA's"),
    (BRIGHTDataset, dict(filter_cfg=dict(a=1)), 'split and ann_file'),
    (BRIGHTDataset, dict(reduce_zero_label=True), 'background'),
    (FUSARShip, dict(ann_file='a.txt'), 'list_file'),
    (FUSARShip, dict(data_prefix='Train'), 'folder'),
    (FUSARShip, dict(metainfo=dict(classes=('a', ))), 'names as classes'),
    (FUSARShip, dict(extensions=('.bmp', )), 'suffixes'),
    (LoveDA, dict(backend_args=dict(backend='petrel')), 'mount'),
    (FUSARShip, dict(backend_args='http'), 'mount')])
def test_what_would_be_ignored_is_refused(kind: Any, setting: dict,
                                          cure: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=cure):
        build(kind, tmp_path, **setting)
