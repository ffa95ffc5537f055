"""Lists as they are published, with the paths of their authors."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from PIL import Image

from osar_plugin.datasets import AID, MSTAR, listed_paths
from osar_plugin.datasets.layout import missing_files
from osar_plugin.datasets.listed_paths import (
    below,
    split_line,
)
from osar_plugin.datasets.scene_list import SceneList
from osar_plugin.utils.errors import DataFormatError, DatasetNotFoundError

PUBLIC = '/public/home/someone/classification/AID'


def touch(*paths: Path) -> None:
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new('L', (4, 4)).save(path)


@pytest.fixture
def aid(tmp_path):
    root = tmp_path / 'AID'
    touch(*(root / name / f'{name.lower()}_{number}.jpg'
            for name in ('Airport', 'Beach') for number in range(4)))
    return root


@pytest.fixture
def mstar(tmp_path):
    root = tmp_path / 'MSTAR'
    touch(root / 'TRAIN/BMP2/SN 9563/a.jpeg', root / 'TRAIN/T72/b.jpeg')
    return root


def paths(dataset):
    return [os.path.relpath(row['img_path'], dataset.data_root)
            for row in dataset]


def read(kind, root, text, encoding='utf-8'):
    (root / 'list.txt').write_text(text, encoding=encoding)
    return kind(str(root), 'list.txt')


def test_absolute_folders(aid, monkeypatch):
    said = []
    monkeypatch.setattr(
        listed_paths, 'print_log', lambda text, **_: said.append(text))
    dataset = read(AID, aid, f'airport_0.jpg {PUBLIC}/Airport 14\n'
                   f'beach_1.jpg {PUBLIC}/Beach 0\n')
    assert paths(dataset) == ['Airport/airport_0.jpg', 'Beach/beach_1.jpg']
    assert [row['gt_label'] for row in dataset] == [14, 0]
    assert len(said) == 1 and f'{PUBLIC}/' in said[0]


@pytest.mark.parametrize('front', [
    'F:/TESTDATASETS/MSTAR/', 'F:/TEST DATA SETS/MSTAR/', '/data/MSTAR/',
    '//server/share/MSTAR/', 'MSTAR/', './', '', 'F:\\SETS\\MSTAR\\'])
def test_paths_of_few_shot_lists(mstar, front):
    """Spaces, drives, backslashes; the path ends with the file, or not."""
    for tail in ('/b.jpeg', ''):
        text = (f'a.jpeg {front}TRAIN/BMP2/SN 9563/a.jpeg 0\n'
                f'b.jpeg {front}TRAIN/T72{tail} 2\n')
        assert paths(read(MSTAR, mstar, text)) == [
            'TRAIN/BMP2/SN 9563/a.jpeg', 'TRAIN/T72/b.jpeg']
    text = text.replace('/', '\\')
    assert paths(read(MSTAR, mstar, text)) == [
        'TRAIN/BMP2/SN 9563/a.jpeg', 'TRAIN/T72/b.jpeg']


def test_a_byte_order_mark(mstar):
    dataset = read(MSTAR, mstar, 'b.jpeg TRAIN/T72 2\n', 'utf-8-sig')
    assert paths(dataset) == ['TRAIN/T72/b.jpeg']


def test_the_longest_tail_that_is_there(aid):
    touch(aid / 'AID/Airport/airport_0.jpg')
    dataset = read(AID, aid, f'airport_0.jpg {PUBLIC}/Airport 14\n')
    assert paths(dataset) == ['AID/Airport/airport_0.jpg']


def test_folders_that_ask_for_different_cuts(aid):
    touch(aid / 'AID/Airport/airport_0.jpg')
    with pytest.raises(DataFormatError, match='ambiguous.*airport_0') as e:
        read(AID, aid, f'airport_0.jpg {PUBLIC}/Airport 14\n'
             f'beach_0.jpg {PUBLIC}/Beach 0\n')
    assert f"'{PUBLIC}/'" in str(e.value) and 'beach_0' in str(e.value)


def test_no_tail_is_there(aid):
    with pytest.raises(DatasetNotFoundError, match='tried') as error:
        read(AID, aid, 'x.jpg F:/AID/Airport 14\n')
    for tail in ('AID/Airport/x.jpg', 'Airport/x.jpg', 'x.jpg'):
        assert f'{aid / tail}' in str(error.value)
    with pytest.raises(DatasetNotFoundError, match='1 of 1 images'):
        read(AID, aid, 'x.jpg AID/Airport 14\n')


def test_another_root_in_some_lines(aid):
    with pytest.raises(DatasetNotFoundError, match='/other/Beach/x.jpg'):
        read(AID, aid, f'airport_0.jpg {PUBLIC}/Airport 14\n'
             'x.jpg /other/Beach 0\n')


def test_a_few_may_be_missing_where_others_tell(aid):
    (aid / 'Airport/airport_0.jpg').unlink()
    text = ''.join(f'airport_{n}.jpg {PUBLIC}/Airport 14\n'
                   for n in range(3))
    with pytest.raises(DatasetNotFoundError, match='1 of 3.*airport_0'):
        read(AID, aid, text)
    with pytest.raises(DatasetNotFoundError, match='1 of 2.*River'):
        read(AID, aid, f'airport_1.jpg {PUBLIC}/Airport 14\n'
             f'r.jpg {PUBLIC}/River 1\n')


def test_classes_in_what_was_cut_off(aid):
    """A part of the authors' path is no folder of the data set."""
    dataset = read(AID, aid, 'airport_0.jpg /home/River/Airport 14\n')
    assert len(dataset) == 1
    with pytest.raises(DataFormatError, match="'River'.*'Airport'"):
        read(AID, aid, 'airport_0.jpg /home/River/Airport 1\n')


def test_an_absolute_path_that_is_there(aid, tmp_path):
    touch(tmp_path / 'elsewhere/Airport/x.jpg')
    dataset = read(
        AID, aid, f'x.jpg {tmp_path / "elsewhere/Airport"} 14\n')
    assert dataset[0]['img_path'] == str(
        tmp_path / 'elsewhere/Airport/x.jpg')
    dataset = read(AID, aid, f'airport_0.jpg {aid / "Airport"} 14\n')
    assert paths(dataset) == ['Airport/airport_0.jpg']


def test_few_files_are_looked_for(tmp_path, monkeypatch):
    names = [f'{PUBLIC}/Airport/{number}.jpg' for number in range(500)]
    touch(*(tmp_path / f'Airport/{number}.jpg' for number in range(3)))
    looked = []
    original = Path.is_file

    def counted(path):
        looked.append(path)
        return original(path)

    monkeypatch.setattr(Path, 'is_file', counted)
    found = below(names, tmp_path, 'list')
    assert found == [f'Airport/{number}.jpg' for number in range(500)]
    assert len(looked) < 20
    looked.clear()
    assert missing_files([f'{tmp_path}/{name}' for name in found]) == [
        f'{tmp_path}/Airport/{number}.jpg' for number in range(3, 500)]
    assert not looked


def test_missing_files(tmp_path):
    touch(tmp_path / 'a.jpg')
    (tmp_path / 'b.jpg').mkdir()
    (tmp_path / 'c.jpg').symlink_to('nowhere')
    (tmp_path / 'd.jpg').symlink_to('a.jpg')
    names = [f'{tmp_path}/{x}.jpg' for x in 'abcd']
    assert missing_files([*names, f'{tmp_path}/a.jpg/e.jpg']) == [
        names[1], names[2], f'{tmp_path}/a.jpg/e.jpg']


def test_pairs_of_other_machines(tmp_path):
    touch(tmp_path / 'o/1.png', tmp_path / 's/1.png')
    (tmp_path / 'list.txt').write_text('D:\\x\\o\\1.png D:\\x\\s\\1.png 0\n')
    dataset = SceneList(str(tmp_path), 'list.txt', ['a'], 'sar')
    assert paths(dataset) == ['s/1.png']


@pytest.mark.parametrize('line, words', [
    ('a b c 1', ['a', 'b c', '1']), (' a  b  c\t1 ', ['a', 'b  c', '1']),
    ('a b 1', ['a', 'b', '1']), ('a 1', None), ('1', None)])
def test_words_of_a_line(line, words):
    assert split_line(line, ('file', 'folder', 'label')) == words
    assert split_line(line, ('file', 'label')) == (
        ['a', '1'] if line == 'a 1' else None)
