"""Classification from list files and folders; drawing the lists."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from osar_plugin.datasets import AID, MSTAR, RESISC45, SARACD, FUSARShip
from osar_plugin.datasets.list_classification import (
    ListClassification,
    scan_classes,
    stratified,
)
from osar_plugin.utils.errors import (
    ConfigError,
    DataFormatError,
    DatasetNotFoundError,
)

TOOL = 'prepare_data/few_shot_lists.py'


def image(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.zeros((4, 4), np.uint8)).save(path)
    return path


@pytest.fixture
def aid(tmp_path):
    for number, name in enumerate(('Airport', 'Beach', 'River')):
        image(tmp_path / name / f'{name.lower()}_{number}.jpg')
    (tmp_path / 'train_labels_20.txt').write_text(
        'airport_0.jpg Airport 14\nbeach_1.jpg Beach 0\n'
        'river_2.jpg River 1\n')
    return tmp_path


@pytest.fixture
def mstar(tmp_path):
    for name in MSTAR.METAINFO['classes']:
        for number in range(6):
            image(tmp_path / 'TRAIN' / name / f'{name}_{number}.jpeg')
        # Some classes have folders of their own.
        inner = 'SN_132' if name == 'T72' else '.'
        image(tmp_path / 'TEST' / name / inner / f'{name}_t.jpeg')
    return tmp_path


@pytest.mark.parametrize('kind, count, known', [
    (AID, 30, {0: 'Beach', 14: 'Airport', 29: 'Port'}),
    (RESISC45, 45, {0: 'medium_residential', 5: 'airport', 44: 'stadium'}),
    (FUSARShip, 10, {1: 'Cargo', 9: 'Tanker'}),
    (MSTAR, 10, {0: 'BMP2', 4: '2S1', 9: 'ZSU234'}),
    (SARACD, 5, {0: 'A220', 4: 'Boeing787'})])
def test_orders_of_the_published_lists(kind, count, known):
    classes = kind.METAINFO['classes']
    assert len(set(classes)) == len(classes) == count
    assert {index: classes[index] for index in known} == known
    assert classes != tuple(sorted(classes)) or kind in (FUSARShip, SARACD)


def test_a_list(aid):
    dataset = AID(str(aid), 'train_labels_20.txt')
    assert [row['gt_label'] for row in dataset] == [14, 0, 1]
    assert [row['modality'] for row in dataset] == [0, 0, 0]
    assert dataset[0]['img_path'] == str(aid / 'Airport/airport_0.jpg')
    assert dataset.metainfo['classes'][14] == 'Airport'


def test_a_list_in_another_order_is_refused(aid):
    """As it is written by whoever sorts the folders."""
    (aid / 'sorted.txt').write_text('airport_0.jpg Airport 0\n')
    with pytest.raises(DataFormatError, match="'Beach'.*'Airport'"):
        AID(str(aid), 'sorted.txt')
    dataset = AID(str(aid), 'sorted.txt', classes=['Airport', 'Beach'])
    assert dataset[0]['gt_label'] == 0


def test_lists_with_whole_paths(mstar):
    (mstar / 'shot.txt').write_text(
        'T72_0.jpeg TRAIN/T72/T72_0.jpeg 2\n2S1_1.jpeg TRAIN/2S1 4\n')
    dataset = MSTAR(str(mstar), 'shot.txt')
    assert [row['img_path'] for row in dataset] == [
        str(mstar / 'TRAIN/T72/T72_0.jpeg'),
        str(mstar / 'TRAIN/2S1/2S1_1.jpeg')]
    assert [row['gt_label'] for row in dataset] == [2, 4]
    assert dataset[0]['modality'] == 1


def test_folders_of_classes(mstar):
    dataset = MSTAR(str(mstar), folder='TEST')
    assert [row['gt_label'] for row in dataset] == list(range(10))
    assert dataset[2]['img_path'] == str(
        mstar / 'TEST/T72/SN_132/T72_t.jpeg')
    few = MSTAR(str(mstar), folder='TRAIN', shots=3, seed=1)
    assert [row['gt_label'] for row in few] == np.repeat(
        range(10), 3).tolist()
    other = MSTAR(str(mstar), folder='TRAIN', shots=3, seed=2)
    assert {row['img_path'] for row in few} != {
        row['img_path'] for row in other}


@pytest.mark.parametrize('arguments, error, text', [
    (dict(), ConfigError, 'one of the two'),
    (dict(list_file='a', folder='b'), ConfigError, 'one of the two'),
    (dict(list_file='none.txt'), DatasetNotFoundError, 'no such list'),
    (dict(folder='none'), DatasetNotFoundError, 'no such folder'),
    (dict(list_file='train_labels_20.txt', classes=['a']), DataFormatError,
     'class index'),
    (dict(list_file='train_labels_20.txt', columns=('file', 'label')),
     DataFormatError, '3 words'),
    (dict(folder='.'), DatasetNotFoundError, 'no image of'),
    (dict(folder='.', classes=['Beach', 'River']), DataFormatError,
     'Airport'),
    (dict(folder='.', modality='radar'), ConfigError, 'radar')])
def test_what_cannot_be_read(aid, arguments, error, text):
    with pytest.raises(error, match=text):
        AID(str(aid), **arguments)


def test_listed_but_missing(aid):
    (aid / 'River/river_2.jpg').unlink()
    with pytest.raises(DatasetNotFoundError, match='1 of 3 images.*river_2'):
        AID(str(aid), 'train_labels_20.txt')


def test_names_of_few_shot_lists(aid):
    for shots, seed, line in ((10, 0, 'airport_0.jpg Airport 14'),
                              (40, 3, 'beach_1.jpg Beach 0')):
        (aid / f'shot_{shots}-seed_{seed}.txt').write_text(f'{line}\n')
        dataset = AID(str(aid), 'shot_{shots}-seed_{seed}.txt',
                      list_shots=shots, list_seed=seed)
        assert dataset.list_file == f'shot_{shots}-seed_{seed}.txt'
        assert dataset[0]['gt_label'] == int(line.split()[2])


@pytest.mark.parametrize('name, arguments, text', [
    ('a_{shots}-{seed}.txt', dict(list_shots=1), r'\{seed\}.*None'),
    ('a_{shots}-{seed}.txt', dict(list_seed=1), r'\{shots\}.*None'),
    ('a_{seed}.txt', dict(list_seed=1, list_shots=1), 'list_shots=1 has no'),
    ('train_labels_20.txt', dict(list_seed=0), 'list_seed=0 has no effect'),
    (None, dict(list_seed=0, folder='.'), 'list_seed=0 has no effect'),
    ('a_{seed}.txt', dict(list_seed=-1), 'list_seed'),
    ('a_{shots}.txt', dict(list_shots=0), 'list_shots')])
def test_places_and_values_belong_together(aid, name, arguments, text):
    with pytest.raises(ConfigError, match=text):
        AID(str(aid), name, **arguments)


def test_classes_must_be_given_where_none_are_published(aid):
    with pytest.raises(ConfigError, match='classes'):
        ListClassification(str(aid), 'train_labels_20.txt')


def test_hidden_files_are_no_images(mstar):
    (mstar / 'TEST/BMP2/._x.jpeg').write_bytes(b'mac')
    found = scan_classes(mstar, 'TEST', MSTAR.METAINFO['classes'])
    assert len(found) == 10


def test_stratified_shares():
    labels = np.repeat([0, 1, 2], [10, 20, 3])
    chosen = stratified(labels, 3, 0.2, seed=0)
    assert np.bincount(labels[chosen]).tolist() == [2, 4, 1]
    assert (chosen == stratified(labels, 3, 0.2, seed=0)).all()
    assert (chosen != stratified(labels, 3, 0.2, seed=1)).any()
    for share in (0, 1, 0.9):
        with pytest.raises(ConfigError, match='share'):
            stratified(labels, 3, share, seed=0)


def test_the_tool_draws_shots(mstar, run_tool):
    arguments = (TOOL, mstar, '--dataset', 'MSTAR', '--folder', 'TRAIN',
                 '--shots', '2', '4', '--seeds', '0', '1')
    ended = run_tool(*arguments)
    assert ended.code == 0, ended.err
    lists = {path.name: path.read_text()
             for path in (mstar / 'split_fewshot').iterdir()}
    assert set(lists) == {
        f'shot_{k}-seed_{s}.txt' for k in (2, 4) for s in (0, 1)}
    assert lists['shot_2-seed_0.txt'] != lists['shot_2-seed_1.txt']
    dataset = MSTAR(str(mstar), 'split_fewshot/shot_4-seed_1.txt')
    assert np.bincount([r['gt_label'] for r in dataset]).tolist() == [4] * 10
    again = run_tool(*arguments)
    assert again.code == 2 and '--force' in again.err
    assert run_tool(*arguments, '--force').code == 0
    assert lists == {path.name: path.read_text()
                     for path in (mstar / 'split_fewshot').iterdir()}


def test_the_tool_draws_shares_and_the_rest(mstar, run_tool):
    ended = run_tool(TOOL, mstar, '--dataset', 'MSTAR', '--folder', 'TRAIN',
                     '--share', '0.5', '--shots', '2', '--rest')
    assert ended.code == 0, ended.err
    for names in (('train_labels_50.txt', 'val_labels_50.txt'),
                  ('split_fewshot/shot_2-seed_0_train.txt',
                   'split_fewshot/shot_2-seed_0_test.txt')):
        parts = [{row['img_path'] for row in MSTAR(str(mstar), name)}
                 for name in names]
        assert not parts[0] & parts[1]
        assert len(parts[0] | parts[1]) == 60


def test_the_tool_lists_folders_with_spaces(mstar, run_tool):
    (mstar / 'TRAIN/T72/SN 132').mkdir()
    for path in sorted((mstar / 'TRAIN/T72').glob('*.jpeg')):
        path.rename(mstar / 'TRAIN/T72/SN 132' / path.name)
    arguments = (TOOL, mstar, '--dataset', 'MSTAR', '--folder', 'TRAIN',
                 '--shots', '2')
    ended = run_tool(*arguments)
    assert ended.code == 0, ended.err
    dataset = MSTAR(str(mstar), 'split_fewshot/shot_2-seed_0.txt')
    assert sum('SN 132' in row['img_path'] for row in dataset) == 2
    image(mstar / 'TRAIN/T72/SN 132/a b.jpeg')
    ended = run_tool(*arguments, '--force')
    assert ended.code != 0 and 'spaces' in ended.err


@pytest.mark.parametrize('extra, text', [
    ((), '--share'), (('--share', '1.5'), 'share=1.5'),
    (('--shots', '7'), 'shots=7'), (('--shots', '0'), 'shots=[0]'),
    (('--shots', '1', '--seeds', '-1'), 'seeds')])
def test_what_the_tool_refuses(mstar, run_tool, extra, text):
    ended = run_tool(TOOL, mstar, '--dataset', 'MSTAR', '--folder', 'TRAIN',
                     *extra)
    assert ended.code == 2 and text in ended.err, ended.err
