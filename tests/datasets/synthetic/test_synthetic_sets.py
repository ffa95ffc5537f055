"""The sets on disk: layout, names, streams, and writing whole or not."""
from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from osar_plugin.datasets.synthetic import build
from osar_plugin.datasets.synthetic.build import WorldError, write_set
from osar_plugin.datasets.synthetic.hoss import (
    GALLERY,
    QUERY,
    TRAIN,
    HossSettings,
    plan_hoss,
    write_hoss,
)
from osar_plugin.datasets.synthetic.optisar_pair import (
    PairSettings,
    write_pairs,
)

ROOT = Path(__file__).resolve().parents[3]
TOOL = ROOT / 'tools' / 'make_demo_data.py'
NAME = re.compile(r'(\d{4})_s(\d\d)c(\d)_(RGB|SAR)\.tif')
TINY = HossSettings(seed=3, train_ids=4, test_ids=4, distractor_ids=2)


def digest(folder):
    total = hashlib.sha256()
    for path in sorted(folder.rglob('*')):
        if path.is_file():
            total.update(str(path.relative_to(folder)).encode())
            total.update(path.read_bytes())
    return total.hexdigest()


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def height(path):
    with Image.open(path) as image:
        return image.height


def pids(folder):
    return {int(name[:4]) for name in names(folder)}


@pytest.fixture(scope='module')
def world(tmp_path_factory):
    out = tmp_path_factory.mktemp('world')
    assert write_hoss(out, TINY)
    assert write_pairs(out, PairSettings(seed=3, pairs=6))
    return out


@pytest.fixture(scope='module')
def hoss(world):
    return world / 'HOSS'


def test_layout_and_names(hoss):
    assert names(hoss) == [GALLERY, TRAIN, QUERY, 'subset']
    assert names(hoss / 'subset') == ['O2S', 'S2O']
    for path in hoss.rglob('*'):
        if path.is_file():
            assert NAME.fullmatch(path.name), path
    assert len(pids(hoss / TRAIN)) == 4
    assert len(pids(hoss / QUERY)) == 4
    assert len(pids(hoss / GALLERY)) == 6
    sequences = {int(name[6:8]) for name in names(hoss / TRAIN)}
    assert sequences <= set(range(1, 14))


def test_no_ship_is_in_train_and_test(hoss):
    test = pids(hoss / QUERY) | pids(hoss / GALLERY)
    assert not pids(hoss / TRAIN) & test
    assert pids(hoss / QUERY) <= pids(hoss / GALLERY)
    assert not set(names(hoss / QUERY)) & set(names(hoss / GALLERY))


def test_subsets_are_the_filtered_main_folders(hoss):
    query, gallery = names(hoss / QUERY), names(hoss / GALLERY)
    for subset, asked, answer in (
            ('O2S', 'RGB', 'SAR'), ('S2O', 'SAR', 'RGB')):
        answers = [n for n in gallery if answer in n]
        known = {n[:4] for n in answers}
        asks = [n for n in query if asked in n and n[:4] in known]
        assert names(hoss / 'subset' / subset / GALLERY) == answers
        assert names(hoss / 'subset' / subset / QUERY) == asks
        for folder in (QUERY, GALLERY):
            for name in names(hoss / 'subset' / subset / folder):
                copy = hoss / 'subset' / subset / folder / name
                assert copy.read_bytes() == (
                    hoss / folder / name).read_bytes()


def test_images_decode_like_the_real_ones(hoss):
    headers = set()
    for path in sorted((hoss / TRAIN).iterdir()):
        with Image.open(path) as image:
            pixels = np.asarray(image)
            # Tags: no date, no software, no description.
            assert not set(image.tag_v2) & {270, 271, 272, 305, 306, 315}
        if path.name.endswith('SAR.tif'):
            assert image.mode == 'F'
            assert pixels.dtype == np.float32
            assert np.isfinite(pixels).all()
            assert pixels.min() >= 0
            assert pixels.max() > 255
            assert (pixels == pixels.max()).mean() > 0.002
        else:
            assert image.mode == 'RGB'
            assert pixels.std() > 3
        headers.add((path.name[-7:], path.stat().st_size - pixels.nbytes))
    # What is not pixels has one length per sensor: it tells nothing.
    assert len(headers) == 2


def test_optical_chips_are_finer_than_radar_chips(hoss):
    ratio = []
    for pid in pids(hoss / TRAIN):
        sizes = {kind: [height(path) for path in (
            hoss / TRAIN).glob(f'{pid:04d}_*_{kind}.tif')]
            for kind in ('RGB', 'SAR')}
        if sizes['RGB'] and sizes['SAR']:
            ratio.append(np.mean(sizes['RGB']) / np.mean(sizes['SAR']))
    assert 1.05 < np.mean(ratio) < 1.4


def test_bytes_do_not_depend_on_workers(world, tmp_path):
    write_hoss(tmp_path, TINY, workers=2)
    write_pairs(tmp_path, PairSettings(seed=3, pairs=6), workers=2)
    assert digest(tmp_path) == digest(world)


def test_another_seed_gives_other_bytes_and_other_numbers():
    jobs = {seed: plan_hoss(HossSettings(seed=seed)) for seed in (0, 1)}
    assert [j.pid for j in jobs[0]] != [j.pid for j in jobs[1]]
    assert jobs[0][0].shots != jobs[1][0].shots


def test_default_plan_has_the_promised_shape():
    settings = HossSettings()
    jobs = plan_hoss(settings)
    assert sorted(j.pid for j in jobs) == list(range(1, len(jobs) + 1))
    train = jobs[:settings.train_ids]
    test = jobs[settings.train_ids:][:settings.test_ids]
    asked = [{s.sensor for s in j.shots if QUERY in s.folders}
             for j in test]
    assert sum(a == {'RGB', 'SAR'} for a in asked) >= 60
    assert sum(len(a) == 1 for a in asked) >= 2
    for job in test:
        assert any(GALLERY in s.folders for s in job.shots)
    o2s = sum(any('subset/O2S/query' in s.folders for s in j.shots)
              for j in test)
    assert 0.6 * len(test) < o2s < len(test)
    full = [j for j in train
            if min(sum(s.sensor == kind for s in j.shots)
                   for kind in ('RGB', 'SAR')) >= 2]
    assert len(full) > 0.6 * len(train)
    counts = [sum(s.sensor == kind for s in j.shots)
              for j in train for kind in ('RGB', 'SAR')]
    assert set(counts) == {0, 1, 2, 3, 4, 5}
    for job in jobs:
        keys = [(s.sensor, s.sequence) for s in job.shots]
        assert len(keys) == len(set(keys))


def test_families_never_cross_train_and_test():
    settings = HossSettings(sisters=0.8)
    jobs = plan_hoss(settings)
    train = {j.family for j in jobs[:settings.train_ids]}
    test = {j.family for j in jobs[settings.train_ids:]}
    assert not train & test
    assert len(train) < 0.5 * settings.train_ids


def test_numbers_say_nothing_about_role_or_family():
    settings = HossSettings()
    jobs = plan_hoss(settings)
    train = np.array([j.pid for j in jobs[:settings.train_ids]])
    middle = (len(jobs) + 1) / 2
    assert abs(train.mean() - middle) < 0.1 * len(jobs)
    near = [abs(a.pid - b.pid) for a in jobs for b in jobs
            if a.pid < b.pid and a.family == b.family]
    assert np.mean(near) > 0.2 * len(jobs)


def test_pairs_are_aligned_and_named(world):
    root = world / 'OptiSar_Pair'
    files = sorted(root.glob('*/*'))
    assert len(files) == 12
    seen = {}
    for path in files:
        assert re.fullmatch(r'\d{4}', path.parent.name)
        parts = path.stem.split('_')
        with Image.open(path) as image:
            pixels = np.asarray(image)
        assert pixels.dtype == np.uint8
        assert pixels.ndim == (3 if parts[-1] == 'RGB' else 2)
        seen.setdefault(int(parts[1]), {})[parts[-1]] = pixels
    assert len(seen) == 6
    for pair in seen.values():
        assert pair['RGB'].shape[:2] == pair['SAR'].shape


def test_a_finished_set_is_used_again(world, monkeypatch):
    monkeypatch.setattr(
        'osar_plugin.datasets.synthetic.hoss.render_hoss', pytest.fail)
    before = digest(world)
    assert not write_hoss(world, TINY)
    assert digest(world) == before


def test_stamp_tells_seed_and_no_path(world):
    text = (world / build.STAMP).read_text()
    known = json.loads(text)['sets']
    assert known['HOSS']['settings']['seed'] == 3
    assert known['HOSS']['settings']['version'] == build.WORLD_VERSION
    assert str(world) not in text
    assert '/' not in text
    assert not (world / 'HOSS' / build.STAMP).exists()


def small(root):
    (root / 'a.txt').write_text('new')


def test_other_settings_do_not_overwrite(tmp_path):
    write_set(tmp_path, 'X', {'seed': 1}, small)
    with pytest.raises(WorldError, match='--force'):
        write_set(tmp_path, 'X', {'seed': 2}, small)
    assert write_set(tmp_path, 'X', {'seed': 2}, small, force=True)
    assert build.read_stamp(tmp_path)['X']['settings']['seed'] == 2
    assert names(tmp_path) == ['X', build.STAMP]


def test_a_set_with_a_lost_file_is_not_taken_for_finished(tmp_path):
    write_set(tmp_path, 'X', {'seed': 1}, small)
    (tmp_path / 'X' / 'b.txt').write_text('stranger')
    with pytest.raises(WorldError, match='not empty'):
        write_set(tmp_path, 'X', {'seed': 1}, small)


@pytest.mark.parametrize('old', [False, True])
def test_a_failed_render_changes_nothing(tmp_path, old):
    if old:
        write_set(tmp_path, 'X', {'seed': 1}, small)
    before = digest(tmp_path)

    def broken(root):
        small(root)
        raise RuntimeError('disk on fire')

    with pytest.raises(RuntimeError, match='disk on fire'):
        write_set(tmp_path, 'X', {'seed': 2}, broken, force=True)
    assert names(tmp_path) == (['X', build.STAMP] if old else [])
    assert digest(tmp_path) == before


def _die(job):
    if job == 3:
        os.kill(os.getpid(), signal.SIGKILL)


def test_a_killed_worker_is_reported_and_nothing_is_kept(tmp_path):
    def render(root):
        small(root)
        build.run_jobs(_die, list(range(8)), 2, 'X')

    with pytest.raises(WorldError, match='worker process died'):
        write_set(tmp_path, 'X', {}, render)
    assert names(tmp_path) == []


@pytest.mark.skipif(os.name == 'nt', reason='no SIGTERM')
def test_a_terminated_tool_leaves_no_half_set(tmp_path):
    run = subprocess.Popen(
        [sys.executable, str(TOOL), str(tmp_path), '--sets', 'hoss',
         '--workers', '1'], stderr=subprocess.DEVNULL, cwd=tmp_path)
    until = time.monotonic() + 60
    while time.monotonic() < until and run.poll() is None:
        if any(tmp_path.glob(f'.HOSS.partial-*/{TRAIN}/*.tif')):
            break
        time.sleep(0.05)
    run.terminate()
    assert run.wait(60) == 128 + signal.SIGTERM
    assert names(tmp_path) == []


@pytest.fixture(scope='module')
def tool():
    spec = importlib.util.spec_from_file_location('make_demo_data', TOOL)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(('option', 'word'), [
    (['--train-ids', '0'], 'train_ids must be at least 1'),
    (['--test-ids', '-4'], 'test_ids must be at least 1'),
    (['--train-ids', '9999'], 'four digits'),
    (['--pairs', '0'], 'pairs must be in'),
    (['--seed', '-1'], 'seed must be at least 0'),
    (['--sequences', '2'], 'sequences must be at least 6'),
    (['--workers', '0'], '--workers must be at least 1')])
def test_bad_numbers_are_named(tool, tmp_path, capsys, option, word):
    assert tool.main([str(tmp_path / 'out'), *option]) == 2
    assert word in capsys.readouterr().err
    assert not (tmp_path / 'out').exists()


def test_a_file_in_the_way_is_named(tool, tmp_path, capsys):
    (tmp_path / 'file').write_text('')
    for out in ('file', 'file/below'):
        assert tool.main([str(tmp_path / out), '--sets', 'hoss']) == 2
        error = capsys.readouterr().err
        assert 'file' in error
        assert 'Traceback' not in error


def test_a_strange_stamp_is_named(tmp_path):
    (tmp_path / build.STAMP).write_text('[]')
    with pytest.raises(WorldError, match='is not a stamp'):
        write_hoss(tmp_path, TINY)


def test_tool_writes_the_chosen_set(tool, tmp_path, capsys):
    options = ['--sets', 'optisar_pair', '--pairs', '1', '--workers', '1']
    assert tool.main([str(tmp_path), *options]) == 0
    assert names(tmp_path) == ['OptiSar_Pair', build.STAMP]
    assert 'rendered' in capsys.readouterr().out
    assert tool.main([str(tmp_path), *options]) == 0
    assert 'there already' in capsys.readouterr().out
