"""Pseudo-SAR views in the evaluation: what is fused, and the cache."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from PIL import Image

from osar_plugin.datasets import HOSS
from osar_plugin.datasets.transforms.loading import ship_size
from osar_plugin.engine import PseudoSARHook
from osar_plugin.engine.pseudo_views import (
    FolderViews,
    OpticalImage,
    TranslatedViews,
    build_translator,
    optical_transforms,
    to_bytes,
)
from osar_plugin.evaluation import ReIDMetric
from osar_plugin.models.reid.alignment import fuse_views
from osar_plugin.models.translation.translator import to_uint8
from osar_plugin.registry import MODELS
from osar_plugin.utils.checkpoint import load_checkpoint, read_checkpoint
from osar_plugin.utils.config import load_config
from osar_plugin.utils.devices import half_precision
from osar_plugin.utils.errors import (
    CheckpointError,
    CheckpointMismatchError,
    ConfigError,
    CorruptImageError,
    DataFormatError,
    DatasetNotFoundError,
    UnsafeCheckpointError,
)

from .pseudo_sar_case import (
    REPO,
    SHRUNK,
    TRANSLATOR,
    evaluate,
    write_hoss,
    write_reid,
    write_translator,
)
from .test_two_processes import WRAPPER, free_port

CPU = torch.device('cpu')
HOSS_MINI = REPO.parent / 'shared' / 'data' / 'hoss_mini'


class Files(NamedTuple):
    """Weights and configs on disk."""

    config: Path
    weights: Path
    reid: Path

    @property
    def translator(self) -> dict[str, str]:
        """As the hook takes it."""
        return dict(config=str(self.config), checkpoint=str(self.weights))


@pytest.fixture(scope='module')
def files(tmp_path_factory: pytest.TempPathFactory) -> Files:
    folder = tmp_path_factory.mktemp('weights')
    return Files(*write_translator(folder), write_reid(folder))


@pytest.fixture(scope='module')
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """8 chips, 4 of them optical, 2 on each side."""
    return write_hoss(tmp_path_factory.mktemp('data'))


@pytest.fixture(scope='module')
def images(data: Path) -> list[OpticalImage]:
    """Optical images of the test split."""
    rows = HOSS(str(data), 'test').load_data_list()
    return [OpticalImage(r['img_path'], r['is_query'])
            for r in rows if r['modality'] == 0]


@pytest.fixture(scope='module')
def plain(files: Files, data: Path, tmp_path_factory: pytest.TempPathFactory
          ) -> dict[tuple[str, bool], torch.Tensor]:
    """Features without the hook."""
    folder = tmp_path_factory.mktemp('plain')
    return evaluate(folder, data, files.reid, None)[0]


@pytest.fixture
def logged(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What the two modules log."""
    lines: list[str] = []
    for module in ('pseudo_sar', 'pseudo_views'):
        monkeypatch.setattr(
            f'osar_plugin.engine.{module}.print_log',
            lambda text, *_, **__: lines.append(text))
    return lines


def source(files: Files, cache: Path, **options: Any) -> TranslatedViews:
    return TranslatedViews(
        files.config, files.weights, cache,
        **{'views': 2, 'amp': False, **options})


def pngs(cache: Path) -> dict[str, bytes]:
    return {f.name: f.read_bytes() for f in cache.glob('*/*.png')}


# ------------------------------------------------------------- the features


def by_hand(files: Files, path: str, tau: float, view_size: bool
            ) -> torch.Tensor:
    """The fused feature of an image, without hook or pipeline."""
    cfg = load_config(REPO / 'configs' / 'mos_hoss.py', SHRUNK)
    model = MODELS.build(cfg.model).eval()
    load_checkpoint(model, files.reid)
    translator = MODELS.build(load_config(files.config).model).eval()
    load_checkpoint(translator, files.weights)
    with Image.open(path) as file:
        optical = file.convert('RGB')
    small = optical.resize((8, 16), Image.Resampling.BILINEAR)
    y = torch.from_numpy(np.array(small)).permute(2, 0, 1) / 127.5 - 1
    settings = type(translator.sampler)(views=3, steps=4)
    views = to_uint8(translator.translate(y[None], settings=settings))[0]

    def describe(image: Image.Image, modality: int, width: int,
                 height: int) -> torch.Tensor:
        image = image.resize((16, 32), Image.Resampling.BILINEAR)
        x = torch.from_numpy(np.array(image)).permute(2, 0, 1) / 255
        mean = torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1)
        std = torch.tensor([0.229, 0.224, 0.225]).view(3, 1, 1)
        # 0.75 m per pixel: views are those of an optical image.
        size = torch.from_numpy(ship_size(width, height, 0.75))
        return model.extract_feat(
            ((x - mean) / std)[None], torch.tensor([modality]), size[None])

    size = (8, 16) if view_size else optical.size
    features = torch.cat([
        describe(Image.fromarray(view.permute(1, 2, 0).numpy()), 1, *size)
        for view in views])
    return fuse_views(
        describe(optical, 0, *optical.size), features[None], tau)[0]


@pytest.mark.parametrize('size_from', ['optical', 'view'])
@torch.no_grad()
def test_fused_features_are_those_by_hand(
        size_from: str, files: Files, data: Path, plain: dict,
        tmp_path: Path) -> None:
    """The whole path; of optical queries and gallery, and of nothing else."""
    hook = dict(translator=files.translator, views=3, tau=0.4, amp=False,
                size_from=size_from)
    fused, runner = evaluate(tmp_path / 'run', data, files.reid, hook)
    assert fused.keys() == plain.keys()
    checked = set()
    for (path, is_query), feature in fused.items():
        if path.endswith('SAR.tif'):
            assert torch.equal(feature, plain[path, is_query])
        elif is_query not in checked:
            expected = by_hand(files, path, 0.4, size_from == 'view')
            torch.testing.assert_close(
                feature, expected, rtol=1e-4, atol=1e-5)
            assert (feature - plain[path, is_query] / plain[
                path, is_query].norm()).abs().max() > 1e-2
            checked.add(is_query)
    assert checked == {True, False}
    # The default cache is beside the work dir; the model is as it was.
    assert len(pngs(tmp_path / 'pseudo_sar')) == 4
    assert not runner.model._forward_hooks


def test_no_share_for_the_views(files: Files, data: Path, plain: dict,
                                tmp_path: Path) -> None:
    same, _ = evaluate(tmp_path / 'run', data, files.reid, dict(
        translator=files.translator, views=2, tau=0.))
    for key, feature in plain.items():
        length = feature.norm() if key[0].endswith('RGB.tif') else 1.
        torch.testing.assert_close(same[key], feature / length)


@pytest.mark.parametrize('translator', [
    None, dict(config='configs/bbdm_hoss.py', checkpoint=None)])
def test_without_a_translator(
        translator: dict | None, files: Files, data: Path, plain: dict,
        tmp_path: Path, logged: list[str]) -> None:
    same, _ = evaluate(
        tmp_path, data, files.reid, dict(translator=translator))
    assert all(torch.equal(same[key], plain[key]) for key in plain)
    line, = logged
    assert 'NO TRANSLATOR CONFIGURED' in line and 'checkpoint=FILE' in line


def test_validation_only_where_asked(files: Files, data: Path,
                                     tmp_path: Path,
                                     logged: list[str]) -> None:
    """Views once for two of them; a training's generator is left alone."""
    hook = PseudoSARHook(files.translator, views=2, tau=1., val=True,
                         cache_dir=str(tmp_path / 'cache'))
    _, runner = evaluate(tmp_path / 'w', data, files.reid, None)
    stand_in = type('R', (), dict(
        model=runner.model, val_loop=runner.test_loop,
        test_loop=runner.test_loop, work_dir=str(tmp_path)))()
    before = torch.get_rng_state()
    for _ in range(2):
        hook.before_val_epoch(stand_in)
        assert len(runner.model._forward_hooks) == 1
        hook.after_val_epoch(stand_in)
        assert not runner.model._forward_hooks
    assert torch.equal(torch.get_rng_state(), before)
    assert len([x for x in logged if 'to generate' in x]) == 1
    quiet = PseudoSARHook(files.translator)
    quiet.before_val_epoch(stand_in)
    assert not runner.model._forward_hooks


# ---------------------------------------------------------------- the cache


def test_a_view_does_not_hang_on_its_company(
        files: Files, images: list[OpticalImage], tmp_path: Path) -> None:
    """Order, subset and the batch it falls into: the same bytes."""
    source(files, tmp_path / 'all', batch_size=3).prepare(images, CPU)
    whole = pngs(tmp_path / 'all')
    assert len(whole) == 4
    part = source(files, tmp_path / 'part', batch_size=3)
    part.prepare(images[2:0:-1], CPU)
    part.prepare(images[::-1], CPU)
    assert pngs(tmp_path / 'part') == whole
    source(files, tmp_path / 'one', batch_size=1).prepare(images, CPU)
    for name, data in pngs(tmp_path / 'one').items():
        (tmp_path / name).write_bytes(data)
        with Image.open(tmp_path / name) as a, Image.open(
                next((tmp_path / 'all').glob(f'*/{name}'))) as b:
            gap = np.array(a).astype(int) - np.array(b)
        assert np.abs(gap).max() <= 1  # rounding, at most


def test_what_is_whole_is_kept_and_damage_is_mended(
        files: Files, images: list[OpticalImage], tmp_path: Path,
        logged: list[str]) -> None:
    first = source(files, tmp_path)
    first.prepare(images, CPU)
    assert '0 of 4' in logged[0]
    before = pngs(tmp_path)
    paths = sorted(tmp_path.glob('*/*.png'))
    times = {path: path.stat().st_mtime_ns for path in paths}
    content = before[paths[0].name]
    for harm in ('truncated', 'flipped', 'gone', 'another'):
        if harm == 'truncated':
            paths[0].write_bytes(content[:len(content) // 2])
        elif harm == 'flipped':
            turned = bytearray(content)
            turned[len(turned) // 2] ^= 4
            paths[0].write_bytes(turned)
        elif harm == 'gone':
            paths[0].unlink()
        else:  # whole, but not two views
            Image.new('RGB', (3, 5)).save(paths[0], 'PNG')
        logged.clear()
        source(files, tmp_path).prepare(images, CPU)
        warned = [x for x in logged if x.startswith('Damaged')]
        assert len(warned) == (harm != 'gone')
        assert all(paths[0].name in line for line in warned)
        assert any('3 of 4 optical images have theirs' in x for x in logged)
        assert pngs(tmp_path) == before
        assert all(p.stat().st_mtime_ns == times[p] for p in paths[1:])
    old, new = (first.folder / f'.{n}.png.{n * 8}.tmp' for n in 'ab')
    for path in (old, new):
        path.write_bytes(b'half')
    os.utime(old, (0, 0))
    source(files, tmp_path).prepare(images, CPU)
    assert new.exists() and not old.exists()
    for view in first.read(images[0].path):
        assert view.shape == (16, 8, 3) and view.dtype == np.uint8


def test_files_are_keyed_by_what_decides_a_view(
        files: Files, images: list[OpticalImage], tmp_path: Path) -> None:
    """A folder for each; content, not name, within it."""
    cache = tmp_path / 'cache'
    folders: set[str] = set()

    def count(new: TranslatedViews) -> int:
        new.prepare(images[:1], CPU)
        folders.add(new.folder.name)
        return len(folders)

    assert count(source(files, cache)) == 1
    assert count(source(files, cache, sampler=dict(max_items=1))) == 1
    assert count(source(files, cache, sampler=dict(steps=3))) == 2
    assert count(source(files, cache, sampler=dict(salt=1))) == 3
    assert count(source(files, cache, views=1)) == 4
    other = Files(*write_translator(tmp_path, seed=5), files.reid)
    assert count(source(other, cache)) == 5
    blurred = TRANSLATOR.replace('size=(16, 8)', 'size=(8, 8)')
    turned = Files(*write_translator(tmp_path, text=blurred), files.reid)
    assert count(source(turned, cache)) == 6
    if half_precision('auto', CPU) is not None:
        assert count(source(files, cache, amp=True)) == 7
    renamed = tmp_path / 'other_RGB.tif'
    shutil.copy(images[0].path, renamed)
    again = source(files, cache)
    again.prepare([OpticalImage(str(renamed), True)], CPU)
    assert len(list(again.folder.glob('*.png'))) == 1
    assert (again.folder / 'made_with.json').is_file()


def test_a_whole_cache_needs_no_translator(
        files: Files, images: list[OpticalImage], tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch) -> None:
    source(files, tmp_path).prepare(images, CPU)
    monkeypatch.setattr(
        'osar_plugin.engine.pseudo_views.build_translator', None)
    source(files, tmp_path).prepare(images, CPU)


def worker(rank: int, port: int, folder: str, files: Files,
           data: str) -> None:
    """One rank of an evaluation."""
    torch.set_num_threads(1)
    os.environ.update(RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE='2')
    dist.init_process_group(
        'gloo', f'tcp://127.0.0.1:{port}', rank=rank, world_size=2)
    features, _ = evaluate(
        Path(folder) / 'w', Path(data), files.reid,
        dict(translator=files.translator, views=2, tau=0.5),
        launcher='pytorch', model_wrapper_cfg=WRAPPER)
    torch.save(features, Path(folder) / f'{rank}.pth')
    dist.destroy_process_group()


def test_two_processes_equal_one(files: Files, data: Path,
                                 tmp_path: Path) -> None:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    mp.start_processes(
        worker, (free_port(), str(tmp_path), files, str(data)),
        nprocs=2, start_method='fork')
    one, _ = evaluate(
        tmp_path / 'one' / 'w', data, files.reid,
        dict(translator=files.translator, views=2, tau=0.5))
    torch.set_num_threads(threads)
    parts = [read_checkpoint(tmp_path / f'{rank}.pth') for rank in (0, 1)]
    assert all(len(part) < len(one) for part in parts)
    two = {**parts[0], **parts[1]}
    assert two.keys() == one.keys()
    for key, feature in one.items():
        torch.testing.assert_close(two[key], feature)
    assert pngs(tmp_path / 'pseudo_sar') == pngs(tmp_path / 'one/pseudo_sar')
    assert len(pngs(tmp_path / 'pseudo_sar')) == 4


def test_killed_in_the_middle(
        files: Files, tmp_path: Path, run_tool: Callable[..., Any],
        monkeypatch: pytest.MonkeyPatch) -> None:
    """SIGKILL while views are made: the rest is made, the end is the same."""
    if not HOSS_MINI.is_dir():
        pytest.skip('real chips not there: ../shared/data/hoss_mini')
    seen: list[torch.Tensor] = []
    process = ReIDMetric.process

    def spy(self: ReIDMetric, data_batch: Any, samples: Any) -> None:
        seen.extend(s['feature'] for s in samples)
        process(self, data_batch, samples)

    def command(cache: Path) -> list[str]:
        values = {
            **SHRUNK, 'custom_hooks.0.translator.config': files.config,
            'custom_hooks.0.translator.checkpoint': files.weights,
            'custom_hooks.0.cache_dir': cache,
            'custom_hooks.0.sampler.steps': 10, 'custom_hooks.0.tau': 0.5,
            'custom_hooks.0.batch_size': 1}
        words = [
            f'{key}={",".join(map(str, v)) if isinstance(v, tuple) else v}'
            for key, v in values.items()]
        return ['configs/mos_hoss.py', str(files.reid), '--data-root',
                str(HOSS_MINI), '--work-dir', str(tmp_path / 'w'), '--out',
                str(cache / 'out'), '--cfg-options', *words]

    monkeypatch.chdir(REPO)
    broken, whole = tmp_path / 'broken', tmp_path / 'whole'
    with subprocess.Popen(
            [sys.executable, 'tools/test.py', *command(broken)], cwd=REPO,
            stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
            env={**os.environ, 'OMP_NUM_THREADS': '1'}) as child:
        ends = time.monotonic() + 120
        while len(pngs(broken)) < 3 and time.monotonic() < ends:
            assert child.poll() is None, child.stderr.read()
            time.sleep(0.01)
        child.send_signal(signal.SIGKILL)
    left = sorted(broken.glob('*/*.png'))
    assert 3 <= len(left) < 11
    times = [path.stat().st_mtime_ns for path in left]
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    monkeypatch.setattr(ReIDMetric, 'process', spy)
    ended = run_tool('test.py', *command(broken))
    assert ended.code == 0, ended.err
    resumed = torch.stack(seen)
    seen.clear()
    assert run_tool('test.py', *command(whole)).code == 0
    torch.set_num_threads(threads)
    assert f'{len(left)} of 11 optical images have theirs' in (
        ended.out + ended.err)
    assert [path.stat().st_mtime_ns for path in left] == times
    assert pngs(broken) == pngs(whole)
    assert torch.equal(resumed, torch.stack(seen))
    table = 'out/per_query.csv'
    assert (broken / table).read_text() == (whole / table).read_text()


# ------------------------------------------------------------ views in folders


def write_views(folder: Path, names: list[str], start: int = 0) -> Path:
    """Grey images whose value is their number."""
    for number, name in enumerate(names, start):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new('RGB', (4, 6), (number, ) * 3).save(path)
    return folder


IMAGES = [OpticalImage(f'data/query/{n}_s01c1_RGB.tif', True)
          for n in ('0002', '0001', '0010')]
STEMS = ['0001_s01c1_RGB', '0002_s01c1_RGB', '0010_s01c1_RGB']


def values(views: FolderViews, path: str) -> list[int]:
    return [int(view[0, 0, 0]) for view in views.read(path)]


@pytest.mark.parametrize('form', [
    'v{1:02d}.png', '{0}_{2}.png', '{0}/output_{2}.png',
    'deep/er/{0}/{2}.png'])
def test_folder_by_order_and_by_name(form: str, tmp_path: Path) -> None:
    names = [form.format(stem, 2 * i + k, k)
             for i, stem in enumerate(STEMS) for k in range(2)]
    views = FolderViews(write_views(tmp_path, names), 2)
    (tmp_path / 'notes.txt').write_text('no image')
    (tmp_path / '.hidden.png').write_text('no image')
    views.prepare(IMAGES, CPU)
    assert values(views, IMAGES[0].path) == [2, 3]
    assert values(views, IMAGES[1].path) == [0, 1]
    assert values(views, IMAGES[2].path) == [4, 5]


def test_names_end_at_a_word_and_strangers_may_be_there(
        tmp_path: Path) -> None:
    names = ['ship_1_0.png', 'ship_10_0.png', 'ship_100_0.png']
    views = FolderViews(write_views(tmp_path, names), 1)
    views.prepare([OpticalImage('ship_10.tif', True),
                   OpticalImage('ship_1.tif', False)], CPU)
    assert values(views, 'ship_1.tif') == [0]
    assert values(views, 'ship_10.tif') == [1]


def test_folder_with_two_sides(tmp_path: Path) -> None:
    both = [*IMAGES, OpticalImage(
        'data/bounding_box_test/0001_s01c1_RGB.tif', False)]
    write_views(tmp_path / 'query', [f'{i}.png' for i in range(6)])
    write_views(tmp_path / 'bounding_box_test', ['a.png', 'b.png'], 6)
    views = FolderViews(tmp_path, 2)
    views.prepare(both, CPU)
    assert values(views, IMAGES[1].path) == [0, 1]
    assert values(views, both[3].path) == [6, 7]


def test_folder_in_an_evaluation(files: Files, data: Path,
                                 images: list[OpticalImage],
                                 tmp_path: Path) -> None:
    """Written by hand from a cache, it gives the same features."""
    cached = source(files, tmp_path / 'cache')
    cached.prepare(images, CPU)
    for image in images:
        for k, view in enumerate(cached.read(image.path)):
            folder = tmp_path / 'views' / Path(image.path).stem
            folder.mkdir(parents=True, exist_ok=True)
            Image.fromarray(view).save(folder / f'output_{k}.png')
    common = dict(views=2, tau=0.5)
    one, _ = evaluate(tmp_path / 'w', data, files.reid, dict(
        folder=str(tmp_path / 'views'), **common,
        translator=dict(config='configs/bbdm_hoss.py', checkpoint=None)))
    two, _ = evaluate(tmp_path / 'w', data, files.reid, dict(
        translator=files.translator, amp=False, **common,
        cache_dir=str(tmp_path / 'cache')))
    assert all(torch.equal(one[key], two[key]) for key in two)


def test_counts_that_do_not_match(tmp_path: Path) -> None:
    by_order = write_views(tmp_path / 'a', [f'{i}.png' for i in range(14)])
    with pytest.raises(DataFormatError, match=r'14 images, but 3 .*views=5.*'
                       r'15, in the order.*0001_s01c1_RGB_0\.png'):
        FolderViews(by_order, 5).prepare(IMAGES, CPU)
    named = write_views(tmp_path / 'b', [
        f'{stem}_{k}.png' for stem in STEMS[:2] for k in range(2 - (
            stem == STEMS[1]))])
    with pytest.raises(DataFormatError, match='2 of 3 optical.*0002_s01c1_RGB'
                       ' has 1, 0010_s01c1_RGB has 0'):
        FolderViews(named, 2).prepare(IMAGES, CPU)
    with pytest.raises(DatasetNotFoundError, match='no such folder'):
        FolderViews(tmp_path / 'c', 2).prepare(IMAGES, CPU)
    (tmp_path / 'd').mkdir()
    with pytest.raises(DatasetNotFoundError, match='no image in it'):
        FolderViews(tmp_path / 'd', 2).prepare(IMAGES, CPU)


# ------------------------------------------------------------------ bad input


class Bomb:
    """A pickle that makes a file when it is read."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple:
        return os.mknod, (str(self.path), )


@pytest.mark.parametrize('arguments, words', [
    (dict(tau=1.5), r'tau=1\.5'), (dict(tau=-0.1), r'tau=-0\.1'),
    (dict(views=0), 'views=0'), (dict(batch_size=0), 'batch_size=0'),
    (dict(size_from='sar'), "size_from='sar'.*optical, view"),
    (dict(translator=dict(checkpoint='x.pth')), 'config=FILE'),
    (dict(translator=dict(config='a', weights='b')), 'checkpoint=FILE'),
    (dict(translator=dict(config='a', checkpoint='b'), folder='c'),
     "folder='c'")])
def test_bad_arguments(arguments: dict, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        PseudoSARHook(**arguments)


def test_tau_is_checked_in_the_tool(run_tool: Callable[..., Any],
                                    files: Files, data: Path,
                                    tmp_path: Path) -> None:
    words = [f'{k}={",".join(map(str, v)) if isinstance(v, tuple) else v}'
             for k, v in {**SHRUNK, 'custom_hooks.0.tau': 2}.items()]
    ended = run_tool(
        'test.py', REPO / 'configs/mos_hoss.py', files.reid, '--data-root',
        data, '--work-dir', tmp_path, '--cfg-options', *words)
    assert ended.code == 2
    assert 'tau=2' in ended.err and 'Traceback' not in ended.err


def test_checkpoints_that_cannot_be_used(
        files: Files, images: list[OpticalImage], tmp_path: Path) -> None:
    def prepare(config: Path, weights: Path) -> None:
        TranslatedViews(config, weights, tmp_path / 'cache', 2).prepare(
            images, CPU)

    with pytest.raises(CheckpointError, match=r'no\.pth'):
        prepare(files.config, tmp_path / 'no.pth')
    with pytest.raises(CheckpointError, match='No checkpoint in the folder'):
        (tmp_path / 'empty').mkdir()
        prepare(files.config, tmp_path / 'empty')
    wide = tmp_path / 'wide'
    wide.mkdir()
    other, _ = write_translator(wide, text=TRANSLATOR.replace(
        'model_channels=32', 'model_channels=64'))
    with pytest.raises(CheckpointMismatchError, match='other shapes'):
        prepare(other, files.weights)
    with pytest.raises(CheckpointMismatchError):
        prepare(files.config, files.reid)
    bomb = tmp_path / 'bomb.pth'
    torch.save(dict(state_dict=Bomb(tmp_path / 'went_off')), bomb)
    with pytest.raises(UnsafeCheckpointError, match='mknod'):
        prepare(files.config, bomb)
    assert not (tmp_path / 'went_off').exists()
    broken = {key: torch.full_like(value, float('nan')) for key, value in
              read_checkpoint(files.weights).items()}
    torch.save(broken, tmp_path / 'nan.pth')
    with pytest.raises(DataFormatError, match='NaN or infinite'):
        prepare(files.config, tmp_path / 'nan.pth')
    assert pngs(tmp_path / 'cache') == {}


def test_configs_of_something_else(files: Files, images: list[OpticalImage],
                                   tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match='PairPipeline'):
        TranslatedViews(
            REPO / 'configs/mos_hoss.py', files.weights, tmp_path).prepare(
                images, CPU)
    model = load_config(REPO / 'configs/mos_hoss.py', SHRUNK).model
    with pytest.raises(ConfigError, match='TransOSS translates nothing'):
        build_translator(model, files.reid, CPU)
    assert optical_transforms(load_config(
        REPO / 'configs/bbdm_hoss.py'))[-1]['size'] == (256, 256)


def test_sar_on_the_optical_side(files: Files, data: Path,
                                 tmp_path: Path) -> None:
    pipeline = [dict(type='osar_plugin.LoadOpticalOrSAR')]

    class Mislabelled(HOSS):
        """SAR chips as optical ones."""

        def load_data_list(self) -> list[dict[str, Any]]:
            return [dict(row, modality=0) for row in super().load_data_list()]

    from osar_plugin.engine.pseudo_sar import optical_images
    with pytest.raises(DataFormatError, match='SAR.tif.*its name ends in'):
        optical_images(Mislabelled(str(data), 'test', pipeline=pipeline))
    radar = tmp_path / 'chip.tif'
    Image.fromarray(np.ones((9, 5), np.float32)).save(radar)
    with pytest.raises(DataFormatError, match='one band of float32'):
        source(files, tmp_path / 'cache').prepare(
            [OpticalImage(str(radar), True)], CPU)


def test_cache_that_cannot_be_used(files: Files, images: list[OpticalImage],
                                   tmp_path: Path) -> None:
    views = source(files, tmp_path / 'cache')
    views.prepare(images, CPU)
    file = next(views.folder.glob('*.png'))
    file.unlink()
    file.mkdir()
    with pytest.raises(CorruptImageError, match='cannot be read.*cache_dir'):
        source(files, tmp_path / 'cache').prepare(images, CPU)
    file.rmdir()
    with pytest.raises(CorruptImageError, match='Start it again'):
        for image in images:
            views.read(image.path)
    (tmp_path / 'file').write_text('')
    with pytest.raises((ConfigError, CorruptImageError), match='cache_dir'):
        source(files, tmp_path / 'file').prepare(images, CPU)


def test_evaluations_it_does_not_suit(files: Files, data: Path,
                                      tmp_path: Path) -> None:
    hook = dict(translator=files.translator, views=1)
    with pytest.raises(ConfigError, match='normalize=False'):
        evaluate(tmp_path, data, files.reid, hook,
                 options={'test_evaluator.normalize': False})
    from osar_plugin.engine import pseudo_sar
    with pytest.raises(ConfigError, match='Linear has no method fuse'):
        pseudo_sar._check_evaluation(torch.nn.Linear(1, 1), [])
    with pytest.raises(ConfigError, match='no LoadOpticalOrSAR'):
        pseudo_sar.loaded_to_packed(HOSS(str(data), 'test'))


def test_bytes_are_those_of_the_translator() -> None:
    values = torch.linspace(-1.2, 1.2, 5001)
    assert torch.equal(to_bytes(values), to_uint8(values))
