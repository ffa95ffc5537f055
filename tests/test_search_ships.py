"""tools/search_ships.py"""

from __future__ import annotations

import csv
import shutil

import numpy as np
import pytest
import torch
from PIL import Image
from search_case import (
    HOSS_MINI,
    Bomb,
    write_chip,
    write_config,
    write_gallery,
    write_weights,
)

from osar_plugin.apis import ShipReIDInferencer
from osar_plugin.visualization.reid import RIGHT, UNKNOWN, WRONG

TOOL = 'search_ships.py'


@pytest.fixture(scope='module')
def case(tmp_path_factory):
    folder = tmp_path_factory.mktemp('case')
    config = write_config(folder)
    return config, write_weights(folder, config)


@pytest.fixture
def search(run_tool, case, tmp_path, monkeypatch):
    """Run the tool in an empty folder."""
    monkeypatch.chdir(tmp_path)

    def run(query, gallery, *more, config=case[0], weights=case[1]):
        return run_tool(
            TOOL, '--query', query, '--gallery', gallery, '--config', config,
            '--weights', weights, '--device', 'cpu', *more)

    return run


@pytest.fixture
def gallery(tmp_path):
    return write_gallery(tmp_path / 'gallery')


def rows(path):
    with open(path, newline='', encoding='utf-8') as file:
        return list(csv.DictReader(file))


def colours(path):
    with Image.open(path) as image:
        pixels = np.asarray(image).reshape(-1, 3)
    return {
        colour: int((pixels == colour).all(1).sum())
        for colour in (RIGHT, WRONG, UNKNOWN)}


def check_csv(found, case, query, gallery, **options):
    """The file against the inferencer, line by line."""
    expected = ShipReIDInferencer(*case, 'cpu').search(
        str(query), str(gallery), **options)
    lines = [(r.query, hit) for r in expected for hit in r.hits]
    assert len(found) == len(lines)
    for row, (chip, hit) in zip(found, lines, strict=True):
        assert row['query'] == chip.path
        assert row['path'] == hit.chip.path
        assert int(row['rank']) == hit.rank
        assert float(row['distance']) == pytest.approx(hit.distance, abs=2e-6)
        assert row['modality'] == ('optical', 'sar')[hit.chip.modality]
        assert row['identity'] == str(hit.chip.pid)
        assert row['correct'] == ('yes' if hit.correct else 'no')


def test_search(search, gallery, tmp_path, case):
    query = write_chip(tmp_path / '0002_s02c1_RGB.tif', 5)
    ended = search(query, gallery, '--topk', '4', '--out', tmp_path / 'out')
    assert ended.code == 0, ended.err
    assert 'gallery: 10 described' in ended.out
    found = rows(tmp_path / 'out' / 'ranked_list.csv')
    check_csv(found, case, query, gallery, topk=4)
    for row in found[:4]:
        assert f'{float(row["distance"]):.4f}' in ended.out
    picture = tmp_path / 'out' / 'ranked_list.png'
    with Image.open(picture) as image:
        assert image.mode == 'RGB'
    assert colours(picture)[WRONG] > 1000
    assert sorted(p.name for p in (tmp_path / 'out').iterdir()) == [
        'ranked_list.csv', 'ranked_list.png']

    again = search(query, gallery, '--topk', '4', '--out', tmp_path / 'two')
    assert 'gallery: 0 described, 10 taken from the index' in again.out
    assert rows(tmp_path / 'two' / 'ranked_list.csv') == found
    assert (tmp_path / 'two' / 'ranked_list.png').read_bytes() \
        == picture.read_bytes()


def test_folder_of_queries_among_one_sensor(search, gallery, tmp_path, case):
    queries = tmp_path / 'queries'
    write_gallery(queries, 3)
    ended = search(queries, gallery, '--target', 'sar', '--max-rows', '2',
                   '--index', tmp_path / 'index')
    assert ended.code == 0, ended.err
    found = rows('work_dirs/search/ranked_list.csv')
    assert len({row['query'] for row in found}) == 6
    assert {row['modality'] for row in found} == {'sar'}
    check_csv(found, case, queries, gallery, topk=10, target='sar')
    assert (tmp_path / 'index' / 'index.json').is_file()
    assert '... and 1 queries more' in ended.out
    # The same pixels come first for SAR queries, in green.
    assert colours('work_dirs/search/ranked_list.png')[RIGHT] > 500


def test_unknown_identities(search, tmp_path):
    write_chip(tmp_path / 'g' / 'one_RGB.png', 1)
    write_chip(tmp_path / 'g' / 'two.tif', 2)
    query = write_chip(tmp_path / 'q_RGB.png', 1)
    ended = search(query, tmp_path / 'g')
    assert ended.code == 0, ended.err
    found = rows('work_dirs/search/ranked_list.csv')
    assert [row['correct'] for row in found] == ['unknown', 'unknown']
    assert [row['identity'] for row in found] == ['', '']
    shown = colours('work_dirs/search/ranked_list.png')
    assert shown[UNKNOWN] > max(shown[RIGHT], shown[WRONG])


def test_own_file(search, gallery):
    query = gallery / '0002_s01c1_RGB.tif'
    search(query, gallery)
    assert str(query) not in [
        r['path'] for r in rows('work_dirs/search/ranked_list.csv')]
    search(query, gallery, '--keep-self')
    first = rows('work_dirs/search/ranked_list.csv')[0]
    assert first['path'] == str(query)
    assert float(first['distance']) == pytest.approx(0, abs=1e-5)


def test_flags_reach_the_model(search, gallery, tmp_path, case):
    query = write_chip(tmp_path / '0002_s02c1_RGB.tif', 5)
    for flags, options in (
            (['--gsd', '1.5', '3'], dict(gsd=(1.5, 3.0))),
            (['--modality', 'sar'], dict(modality='sar')),
            (['--gallery-modality', 'optical'],
             dict(gallery_modality='optical')),
            (['--method', 'faiss'], dict())):
        if 'faiss' in flags:
            pytest.importorskip('faiss')
        ended = search(query, gallery, *flags)
        assert ended.code == 0, ended.err
        check_csv(rows('work_dirs/search/ranked_list.csv'), case, query,
                  gallery, **options)


def test_real_chips(search, tmp_path):
    if not HOSS_MINI.is_dir():
        pytest.skip('real chips not there: ../shared/data/hoss_mini')
    ended = search(HOSS_MINI / 'query', HOSS_MINI / 'bounding_box_test',
                   '--topk', '3', '--index', tmp_path / 'index')
    assert ended.code == 0, ended.err
    found = rows('work_dirs/search/ranked_list.csv')
    assert len(found) == 33
    assert {row['modality'] for row in found} == {'sar'}
    assert {row['correct'] for row in found} <= {'yes', 'no'}


# ------------------------------------------------------------------ refusals


def refused(ended, *words):
    assert ended.code == 2
    # A logger of earlier tests may have spoken before.
    assert '\nerror: ' in ended.err
    assert 'Traceback' not in ended.err
    for word in words:
        assert str(word) in ended.err
    return True


def test_galleries_that_cannot_be_searched(search, gallery, tmp_path):
    query = gallery / '0002_s01c1_RGB.tif'
    (tmp_path / 'empty').mkdir()
    refused(search(query, tmp_path / 'empty'), 'empty', '.tif')
    refused(search(query, tmp_path / 'gone'), 'gone')
    refused(search(query, gallery, '--out', gallery / 'out'),
            'lies in the gallery')
    optical = tmp_path / 'optical'
    write_chip(optical / '0001_s01c1_RGB.tif', 1)
    refused(search(query, optical, '--target', 'sar'),
            'None of the 1 gallery chips is sar')
    assert not (tmp_path / 'work_dirs' / 'search').exists()


def test_broken_image(search, gallery, tmp_path):
    query = gallery / '0002_s01c1_RGB.tif'
    bad = gallery / '0009_s01c1_SAR.tif'
    bad.write_bytes(query.read_bytes()[:100])
    refused(search(query, gallery), bad.name, '--skip-broken')
    ended = search(query, gallery, '--skip-broken')
    assert ended.code == 0, ended.err
    assert '1 unreadable' in ended.out
    assert f'left out: {bad.name}' in ended.out
    refused(search(bad, gallery, '--skip-broken'), bad.name)


def test_query_whose_sensor_cannot_be_told(search, gallery, tmp_path):
    refused(search(tmp_path / 'gone.tif', gallery), 'gone.tif')


def test_weights_that_cannot_be_used(search, gallery, tmp_path):
    query = gallery / '0002_s01c1_RGB.tif'
    refused(search(query, gallery, weights='gone.pth'), 'gone.pth')
    torch.save(
        dict(state_dict={}, x=Bomb(tmp_path / 'made')), tmp_path / 'w.pth')
    refused(search(query, gallery, weights=tmp_path / 'w.pth'),
            'could run code')
    assert not (tmp_path / 'made').exists()


def test_wrong_arguments(search, gallery):
    query = gallery / '0002_s01c1_RGB.tif'
    refused(search(query, gallery, '--topk', '0'), '--topk 0')
    refused(search(query, gallery, '--gsd', '-1'), 'metres per pixel')
    refused(search(query, gallery, config='confgs/x.py'), 'confgs/x.py')
    assert search(query, gallery, '--target', 'radar').code == 2


def test_damaged_index_and_rebuild(search, gallery, tmp_path):
    query = gallery / '0002_s01c1_RGB.tif'
    index = tmp_path / 'index'
    search(query, gallery, '--index', index)
    good = rows('work_dirs/search/ranked_list.csv')
    file = next(index.glob('features-*'))
    file.write_bytes(file.read_bytes()[:-10])
    refused(search(query, gallery, '--index', index), file.name, '--rebuild')
    shutil.rmtree('work_dirs/search')
    ended = search(query, gallery, '--index', index, '--rebuild')
    assert ended.code == 0, ended.err
    assert '10 described' in ended.out
    assert rows('work_dirs/search/ranked_list.csv') == good
