"""BRIGHT: layouts, splits, transforms, the demo set, bad input."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from bright_case import TEST, TRAIN, write_bright, write_list, write_tile
from PIL import Image

from osar_plugin.datasets.bright import (
    EVENTS,
    BRIGHTDataset,
    disaster_of,
    event_of,
)
from osar_plugin.datasets.streams import SampleKey, SeededDataset
from osar_plugin.datasets.synthetic import BrightSettings
from osar_plugin.datasets.synthetic.build import WorldError
from osar_plugin.datasets.synthetic.land.bright import (
    after_event,
    draw_states,
    list_jobs,
)
from osar_plugin.datasets.synthetic.land.bright import (
    write_bright as write_demo,
)
from osar_plugin.datasets.transforms.damage import (
    DamageColorJitter,
    DamageRandomCrop,
    DamageRandomFlip,
    DamageRandomScale,
    DamageRotate90,
    LoadDamagePair,
    PackDamageInputs,
    largest_share,
)
from osar_plugin.utils.config import load_config
from osar_plugin.utils.errors import (
    ConfigError,
    CorruptImageError,
    DataFormatError,
    DatasetNotFoundError,
)

CONFIGS = Path(__file__).resolve().parents[2] / 'configs'


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return write_bright(tmp_path / 'bright')


def names(dataset: BRIGHTDataset) -> list[str]:
    return [dataset.get_data_info(i)['image_id']
            for i in range(len(dataset))]


# ------------------------------------------------------------------ layouts


@pytest.mark.parametrize('nested', [False, True])
def test_layouts_and_splits(tmp_path, nested) -> None:
    root = write_bright(tmp_path, nested)
    splits = dict(train=TRAIN[:3])
    splits.update(dict(holdout=TRAIN[3:], val=TEST) if nested else dict(
        val=TRAIN[3:], test=TEST))
    for split, expected in splits.items():
        dataset = BRIGHTDataset(str(root), split)
        assert names(dataset) == list(expected)
        for i in range(len(dataset)):
            row = dataset.get_data_info(i)
            for key in ('optical_path', 'sar_path', 'seg_map_path'):
                path = Path(row[key])
                assert path.is_file()
                assert path.name.startswith(row['image_id'])
    assert sorted(names(BRIGHTDataset(str(root), 'all'))) == sorted(
        TRAIN + TEST)
    both = BRIGHTDataset(str(root), ['train', 'val'])
    assert names(both) == [*splits['train'], *splits['val']]


def test_events_and_disasters(root) -> None:
    dataset = BRIGHTDataset(str(root), 'all')
    found = {row['image_id']: (row['event'], row['disaster'])
             for row in map(dataset.get_data_info, range(len(dataset)))}
    assert found['la_palma-volcano_00000004'] == (
        'la_palma-volcano', 'volcano')
    assert found['turkey-earthquake_00000006'] == (
        'turkey-earthquake', 'earthquake')
    assert dataset.metainfo['classes'] == (
        'background', 'intact', 'damaged', 'destroyed')
    assert {disaster_of(event) for event in EVENTS} == {
        'earthquake', 'wildfire', 'volcano', 'explosion', 'flood',
        'conflict', 'hurricane'}


def test_lists_of_every_kind(root) -> None:
    """Names of files, blank lines, another place, a list below."""
    write_list(root / 'mine.txt', (
        '', f'{TRAIN[0]}_pre_disaster.tif', f'{TRAIN[1]}.tif', ''))
    assert names(BRIGHTDataset(str(root), ann_file='mine.txt')) == list(
        TRAIN[:2])
    below = root / 'splitname' / 'standard_ML'
    below.mkdir(parents=True)
    shutil.move(root / 'val_set.txt', below)
    assert names(BRIGHTDataset(str(root), 'val')) == list(TRAIN[3:])
    write_list(below.parent / 'val_setlevel.txt', TRAIN)
    (below.parent / 'val_set.txt').write_text('x')
    with pytest.raises(ConfigError, match='ann_file'):
        BRIGHTDataset(str(root), 'val')


def test_lists_with_a_byte_order_mark(root) -> None:
    path = root / 'train_set.txt'
    path.write_text(path.read_text(), encoding='utf-8-sig')
    assert names(BRIGHTDataset(str(root), 'train')) == list(TRAIN[:3])


def test_folder_of_lists(root) -> None:
    """As in the release: both splits, under the same names of files."""
    for folder, chosen in (('standard_ML', TRAIN[:2]), ('dfc25', TRAIN[2:])):
        below = root / 'splitname' / folder
        below.mkdir(parents=True)
        write_list(below / 'train_set.txt', chosen)
        write_list(below / 'holdout_set.txt', TEST)
    (root / 'train_set.txt').unlink()
    with pytest.raises(ConfigError, match='list_dir'):
        BRIGHTDataset(str(root), 'train')
    for split, expected in (('train', TRAIN[2:]), ('holdout', TEST)):
        assert names(BRIGHTDataset(
            str(root), split, list_dir='splitname/dfc25')) == list(expected)
    with pytest.raises(DatasetNotFoundError, match='splitname/dfc25'):
        BRIGHTDataset(str(root), 'val', list_dir='splitname/dfc25')


def test_errors_name_the_line_of_the_list(root) -> None:
    write_list(root / 'train_set.txt', ['', TRAIN[0], 'somewhere_00000001'])
    with pytest.raises(DataFormatError, match=r'train_set\.txt, line 3: '):
        BRIGHTDataset(str(root), 'train')


def test_tiles_without_labels(tmp_path) -> None:
    write_tile(tmp_path, TEST[0], labels=False)
    with pytest.raises(DatasetNotFoundError, match='with_labels=False'):
        BRIGHTDataset(str(tmp_path), 'all')
    dataset = BRIGHTDataset(
        str(tmp_path), 'all', with_labels=False,
        pipeline=[dict(type='osar_plugin.LoadDamagePair'),
                  dict(type='osar_plugin.PackDamageInputs')])
    sample = dataset[0]['data_samples']
    assert sample.get('gt_damage') is None
    assert sample.event == 'libya-flood'
    # Labels that are there are left alone where they are not wanted.
    write_tile(tmp_path, TEST[0])
    assert BRIGHTDataset(
        str(tmp_path), 'all', with_labels=False).get_data_info(0).get(
            'seg_map_path') is None


def test_other_events(tmp_path) -> None:
    write_tile(tmp_path, 'lahaina-wildfire_00000001')
    with pytest.raises(DataFormatError) as caught:
        BRIGHTDataset(str(tmp_path), 'all')
    message = str(caught.value)
    assert "'lahaina-wildfire'" in message and 'hawaii-wildfire' in message
    assert 'extra_events' in message
    dataset = BRIGHTDataset(
        str(tmp_path), 'all', extra_events=['lahaina-wildfire'])
    assert dataset.get_data_info(0)['disaster'] == 'wildfire'
    with pytest.raises(DataFormatError, match='kind of disaster'):
        BRIGHTDataset(str(tmp_path), 'all', extra_events=['lahaina'])
    write_tile(tmp_path, 'lahaina_00000002')
    dataset = BRIGHTDataset(str(tmp_path), 'all', extra_events={
        'lahaina': 'wildfire', 'lahaina-wildfire': 'fire'})
    assert {dataset.get_data_info(i)['disaster']
            for i in range(2)} == {'wildfire', 'fire'}


@pytest.mark.parametrize('name, match', [
    ('turkey-earthquake', '8 digits'), ('turkey-earthquake_1', '8 digits'),
    ('turky-earthquake_00000001', "Did you mean 'turkey-earthquake'")])
def test_names_that_do_not_parse(root, name, match) -> None:
    with pytest.raises(DataFormatError, match=match):
        event_of(name, EVENTS)
    write_list(root / 'train_set.txt', [name])
    with pytest.raises(DataFormatError, match=match):
        BRIGHTDataset(str(root), 'train')


def test_listed_but_missing(root) -> None:
    (root / f'post-event/{TRAIN[1]}_post_disaster.tif').unlink()
    (root / f'target/{TRAIN[0]}_building_damage.tif').unlink()
    with pytest.raises(DatasetNotFoundError) as caught:
        BRIGHTDataset(str(root), 'train')
    message = str(caught.value)
    assert '2 files' in message
    assert f'post-event/{TRAIN[1]}_post_disaster.tif' in message
    assert 'with_labels' not in message


@pytest.mark.parametrize('harm, kind, match', [
    (lambda root: shutil.rmtree(root), DatasetNotFoundError, 'no such folder'),
    (lambda root: shutil.rmtree(root / 'pre-event'), DatasetNotFoundError,
     'make_demo_data'),
    (lambda root: (root / 'train_set.txt').unlink(), DatasetNotFoundError,
     'train_setlevel.txt'),
    (lambda root: (root / 'train_set.txt').write_text('\n'),
     DatasetNotFoundError, 'empty'),
    (lambda root: (root / 'train_set.txt').write_bytes(b'\xff\xfe\x00'),
     DataFormatError, 'list of names'),
    (lambda root: write_list(root / 'train_set.txt', TRAIN[:1] * 2),
     DataFormatError, 'listed twice'),
    (lambda root: write_tile(root / 'more', TRAIN[0]), DataFormatError,
     'one tile')])
def test_bad_folders(root, harm, kind, match) -> None:
    harm(root)
    with pytest.raises(kind, match=match):
        BRIGHTDataset(str(root), 'train')


@pytest.mark.parametrize('arguments', [
    dict(split='training'), dict(split=()), dict(split=['all', 'val']),
    dict(extra_events='turkey-earthquake'),
    dict(extra_events={'lahaina': None})])
def test_bad_arguments(root, arguments) -> None:
    with pytest.raises(ConfigError):
        BRIGHTDataset(str(root), **arguments)


# --------------------------------------------------------------- transforms


def results(root: Path, name: str = TRAIN[0]) -> dict:
    return dict(
        optical_path=str(root / f'pre-event/{name}_pre_disaster.tif'),
        sar_path=str(root / f'post-event/{name}_post_disaster.tif'),
        seg_map_path=str(root / f'target/{name}_building_damage.tif'))


def rewrite(root: Path, key: str, pixels: np.ndarray) -> dict:
    out = results(root)
    Image.fromarray(pixels).save(out[key])
    return out


def test_loading(root) -> None:
    out = LoadDamagePair()(results(root))
    assert out['pre'].shape == (40, 48, 3) and out['post'].shape == (40, 48)
    np.testing.assert_array_equal(
        out['gt_damage'], np.array(Image.open(out['seg_map_path'])))
    # Three equal channels are one.
    pixels = np.repeat(out['post'][..., None], 3, 2)
    again = LoadDamagePair()(rewrite(root, 'sar_path', pixels))
    np.testing.assert_array_equal(again['post'], out['post'])


def test_first_three_bands(root) -> None:
    """A fourth one, be it alpha or of unstated meaning, is left out."""
    expected = LoadDamagePair()(results(root))['pre']
    four = np.concatenate([expected, expected[..., :1]], 2)
    for mode in ('RGBA', 'RGBX'):
        out = results(root)
        Image.fromarray(four, mode).save(out['optical_path'])
        with Image.open(out['optical_path']) as image:
            assert image.tag_v2[277] == 4  # samples of a pixel
        np.testing.assert_array_equal(LoadDamagePair()(out)['pre'], expected)


GREY = np.zeros((40, 48), np.uint8)
COLOURS = np.arange(40 * 48 * 3, dtype=np.uint8).reshape(40, 48, 3)


@pytest.mark.parametrize('key, pixels, match', [
    ('optical_path', GREY, 'Is it the SAR image'),
    ('sar_path', COLOURS, 'Is it the optical image'),
    ('seg_map_path', COLOURS, 'has 1'),
    ('seg_map_path', GREY + 4, r'values \[4\]'),
    ('seg_map_path', GREY + 254, r'values \[254\]'),
    ('optical_path', COLOURS[:20], r'\(40, 48\)'),
    ('sar_path', GREY[:, :40], r'\(40, 40\)'),
    ('seg_map_path', GREY[:39], r'\(39, 48\)'),
    ('sar_path', GREY.astype(np.float32), 'float32')])
def test_bad_files(root, key, pixels, match) -> None:
    bad = rewrite(root, key, pixels)
    with pytest.raises(DataFormatError, match=match) as caught:
        LoadDamagePair()(bad)
    assert str(root) in str(caught.value)


def test_files_that_are_damaged_or_gone(root) -> None:
    bad = results(root)
    path = Path(bad['sar_path'])
    path.write_bytes(path.read_bytes()[:900])
    with pytest.raises(CorruptImageError, match='post_disaster'):
        LoadDamagePair()(bad)
    path.unlink()
    with pytest.raises(DatasetNotFoundError, match='post_disaster'):
        LoadDamagePair()(bad)


def coded(height: int = 30, width: int = 40) -> dict:
    """A sample whose three images say the same of each pixel."""
    labels = np.random.default_rng(0).integers(
        0, 4, (height, width), np.uint8)
    return dict(pre=np.repeat(60 * labels[..., None], 3, 2),
                post=60 * labels, gt_damage=labels)


def joint(sample: dict) -> bool:
    known = sample['gt_damage'] != 255
    values = 60 * (sample['gt_damage'] * known)
    return bool((sample['post'] == values).all() and (
        sample['pre'] == values[..., None]).all())


@pytest.mark.parametrize('transform', [
    DamageRandomCrop(16), DamageRandomCrop(36), DamageRandomCrop(64),
    DamageRandomFlip(1, 0), DamageRandomFlip(0, 1), DamageRandomFlip(1, 1),
    DamageRotate90()])
def test_images_stay_on_each_other(transform) -> None:
    np.random.seed(0)
    before = coded()
    out = transform(coded())
    assert joint(out)
    assert out['pre'].shape[:2] == out.get('img_shape', (30, 40))
    assert not np.array_equal(out['post'], before['post'])
    for key in ('pre', 'post', 'gt_damage'):
        assert out[key].flags['C_CONTIGUOUS'] and out[key].dtype == np.uint8


def test_scaling() -> None:
    np.random.seed(3)
    sizes = []
    for _ in range(50):
        sample = coded()
        sample['pre'][:], sample['post'][:] = 7, 9
        out = DamageRandomScale((0.5, 2.0))(sample)
        assert out['pre'].shape[:2] == out['post'].shape == out[
            'gt_damage'].shape == out['img_shape']
        assert (out['pre'] == 7).all() and (out['post'] == 9).all()
        assert set(np.unique(out['gt_damage'])) <= {0, 1, 2, 3}
        sizes.append(out['img_shape'][1] / 40)
    assert 0.5 <= min(sizes) < 0.7 and 1.7 < max(sizes) <= 2


def test_scaled_labels_are_the_nearest() -> None:
    """No label between two others appears."""
    labels = 3 * np.random.default_rng(0).integers(
        0, 2, (30, 40), np.uint8)
    out = DamageRandomScale((1.7, 1.7))(dict(
        pre=np.repeat(labels[..., None], 3, 2), post=labels,
        gt_damage=labels))['gt_damage']
    assert out.shape == (51, 68)
    assert set(np.unique(out)) == {0, 3}
    rows, columns = (
        np.floor(np.arange(side) / 1.7).astype(int) for side in out.shape)
    np.testing.assert_array_equal(out, labels[rows][:, columns])


def test_scaling_keeps_the_place() -> None:
    """Images and labels are scaled about the same centre."""
    labels = np.zeros((32, 32), np.uint8)
    labels[8:16, 16:24] = 1
    out = DamageRandomScale((2.0, 2.0))(dict(
        pre=np.repeat(200 * labels[..., None], 3, 2), post=200 * labels,
        gt_damage=labels))
    assert out['gt_damage'][16:32, 32:48].all()
    assert out['gt_damage'].sum() == 16 * 16
    np.testing.assert_array_equal(out['post'] > 100, out['gt_damage'] > 0)


def test_crops_avoid_a_single_class() -> None:
    """Until one has less than three quarters of one class; ten tries."""
    labels = np.zeros((100, 100), np.uint8)
    labels[:, 50:] = 1
    sample = dict(pre=np.zeros((100, 100, 3), np.uint8),
                  post=np.zeros((100, 100), np.uint8), gt_damage=labels)
    shares = []
    for seed in range(60):
        np.random.seed(seed)
        shares.append(largest_share(
            DamageRandomCrop(40)(dict(sample))['gt_damage']))
    # A third of the squares are mixed enough: one of ten nearly always.
    assert np.mean(np.array(shares) < 0.75) > 0.9
    plain = []
    for seed in range(60):
        np.random.seed(seed)
        plain.append(largest_share(
            DamageRandomCrop(40, max_share=1)(dict(sample))['gt_damage']))
    assert np.mean(np.array(plain) < 0.75) < 0.6
    assert largest_share(np.full((3, 3), 255, np.uint8)) == 1
    assert largest_share(np.array([[0, 255, 255, 1]], np.uint8)) == 0.5


def test_padding_counts_nowhere() -> None:
    np.random.seed(0)
    out = DamageRandomCrop(64)(coded())
    added = out['gt_damage'] == 255
    assert added.sum() == 64 * 64 - 30 * 40
    assert (out['pre'][added] == 0).all() and (out['post'][added] == 0).all()
    np.testing.assert_array_equal(
        out['gt_damage'][~added].reshape(30, 40), coded()['gt_damage'])


def test_turns() -> None:
    """Never upright, unless it is said so."""
    for turns, expected in (((1, 2, 3), {1, 2, 3}), ((0, 2), {0, 2})):
        found = set()
        for seed in range(40):
            np.random.seed(seed)
            out = DamageRotate90(turns)(coded())['gt_damage']
            found |= {k for k in range(4) if np.array_equal(
                out, np.rot90(coded()['gt_damage'], k))}
        assert found == expected


def test_colours_of_both_images_change_apart() -> None:
    np.random.seed(0)
    sample = coded()
    sample['pre'] = np.random.randint(0, 256, (30, 40, 3)).astype(np.uint8)
    ratios = []
    for _ in range(30):
        out = DamageColorJitter(0.5, 0, 0, 0, prob=1)(dict(sample))
        assert out['pre'].shape == (30, 40, 3)
        assert out['post'].shape == (30, 40) and out['post'].dtype == np.uint8
        ratios.append((out['pre'].mean() / sample['pre'].mean(),
                       out['post'].mean() / sample['post'].mean()))
    first, second = np.array(ratios).T
    assert first.std() > 0.1 and second.std() > 0.1
    assert abs(np.corrcoef(first, second)[0, 1]) < 0.6
    kept = DamageColorJitter(prob=0)(dict(sample))
    np.testing.assert_array_equal(kept['pre'], sample['pre'])


def test_grey_jitter_is_that_of_equal_channels() -> None:
    """One channel gives what the published three would."""
    from osar_plugin.datasets.transforms.augmentation import jitter
    post = coded()['post']
    order, factors = [2, 0, 3, 1], [1.15, 0.83, 1.2, 0.07]
    three = np.array(jitter(Image.fromarray(
        np.repeat(post[..., None], 3, 2)), order, factors))
    one = np.array(jitter(
        Image.fromarray(post), order, [*factors[:2], None, None]))
    # Through HSV and back, a grey value may be off by one.
    assert np.abs(three.astype(int) - one[..., None]).max() <= 1


def test_packing(root) -> None:
    out = PackDamageInputs()(LoadDamagePair()({
        **results(root), 'image_id': TRAIN[0], 'event': 'turkey-earthquake',
        'disaster': 'earthquake'}))
    assert out['inputs']['pre'].shape == (3, 40, 48)
    assert out['inputs']['post'].shape == (1, 40, 48)
    sample = out['data_samples']
    assert sample.gt_damage.data.shape == (1, 40, 48)
    assert sample.gt_damage.data.dtype == torch.uint8
    assert sample.event == 'turkey-earthquake'
    assert sample.ori_shape == (40, 48)
    # Under the names of MMSegmentation, and not twice in memory.
    assert sample.gt_sem_seg is sample.gt_damage
    assert sample.img_path == sample.optical_path == results(root)[
        'optical_path']
    assert sample.seg_map_path == results(root)['seg_map_path']
    assert sample.reduce_zero_label is False


def test_samples_hang_on_their_key(root) -> None:
    """Through the pipeline of the recipe."""
    pipeline = load_config(
        CONFIGS / 'codemae_bright.py').train_dataloader.dataset.pipeline
    dataset = SeededDataset(
        BRIGHTDataset(str(root), 'train', pipeline=pipeline))
    one, two, three = (dataset[SampleKey(0, key)] for key in (
        (7, 0, 0, 0), (7, 0, 0, 0), (7, 0, 0, 1)))
    assert one['inputs']['pre'].shape == (3, 512, 512)
    for side in ('pre', 'post'):
        assert torch.equal(one['inputs'][side], two['inputs'][side])
        assert not torch.equal(one['inputs'][side], three['inputs'][side])


@pytest.mark.parametrize('kind, arguments', [
    (DamageRandomScale, dict(scale=(2., .5))),
    (DamageRandomScale, dict(scale=(0., 1.))),
    (DamageRandomCrop, dict(size=0)), (DamageRandomCrop, dict(max_share=2.)),
    (DamageRandomFlip, dict(vertical=-1.)), (DamageRotate90, dict(turns=())),
    (DamageRotate90, dict(turns=(4, ))), (DamageColorJitter, dict(prob=3.))])
def test_bad_transforms(kind, arguments) -> None:
    with pytest.raises(ConfigError):
        kind(**arguments)


def test_transforms_say_what_they_miss() -> None:
    with pytest.raises(DataFormatError, match="'post'"):
        DamageRotate90()(dict(pre=COLOURS))


# ----------------------------------------------------------------- demo set


def test_demo_set(tmp_path) -> None:
    settings = BrightSettings(tiles=8, size=64, val=0.25, test=0.25)
    assert write_demo(tmp_path, settings)
    assert not write_demo(tmp_path, settings)
    found = []
    for split in ('train', 'val', 'test'):
        dataset = BRIGHTDataset(
            str(tmp_path / 'BRIGHT'), split,
            pipeline=[dict(type='osar_plugin.LoadDamagePair')])
        rows = [dataset[i] for i in range(len(dataset))]
        found += [row['image_id'] for row in rows]
        assert len(rows) == (16 if split == 'train' else 8)
        assert len({row['event'] for row in rows}) == 4
    assert len(set(found)) == 32
    labels = {value for row in rows for value in np.unique(
        row['gt_damage'])}
    assert labels <= {0, 1, 2, 3}


def test_demo_bytes_do_not_depend_on_the_number_of_tiles() -> None:
    one = list_jobs(BrightSettings(tiles=8))
    again = list_jobs(BrightSettings(tiles=8))
    assert one == again
    numbers = [job.number for jobs in one.values() for job in jobs]
    assert sorted(numbers) == sorted(list(range(8)) * 4)


def test_damage_is_seen_by_the_radar_alone() -> None:
    """Before the event nothing tells; afterwards corners are gone."""
    from osar_plugin.datasets.synthetic.land import compose
    from osar_plugin.datasets.synthetic.land.cover import DESTROYED, INTACT
    seeds = np.random.SeedSequence(1).spawn(2)
    land = compose('residential', 120., 0.5, *seeds)
    count = len(land.instances)
    assert count > 10
    states = np.full(count, INTACT, np.int8)
    states[::2] = DESTROYED
    after = after_event(land, states, np.random.default_rng(0))
    assert 0 < len(after.scene.scatterers) < len(land.scene.scatterers)
    same = after_event(land, np.full(count, INTACT, np.int8),
                       np.random.default_rng(0))
    assert len(same.scene.scatterers) == len(land.scene.scatterers)
    np.testing.assert_array_equal(same.scene.height, land.scene.height)
    on = np.isin(after.owner, 1 + np.flatnonzero(states == DESTROYED))
    assert after.scene.height[on].mean() < land.scene.height[on].mean() - 1


def test_states_follow_the_event() -> None:
    from osar_plugin.datasets.synthetic.land import compose
    seeds = np.random.SeedSequence(1).spawn(2)
    land = compose('residential', 120., 0.5, *seeds)
    shares = []
    for seed in range(40):
        states = draw_states(
            land, 'hawaii-wildfire', np.random.default_rng(seed))
        shares.append(np.bincount(states, minlength=4) / len(states))
    hit = [share for share in shares if share[1] < 1]
    assert 20 < len(hit) < 40
    np.testing.assert_allclose(
        np.mean(hit, 0), (0, 0.25, 0.15, 0.6), atol=0.05)


@pytest.mark.parametrize('changes', [
    dict(tiles=3), dict(val=0.), dict(val=0.6, test=0.5), dict(size=8),
    dict(seed=-1)])
def test_bad_demo_settings(changes) -> None:
    with pytest.raises(WorldError):
        BrightSettings(**changes)
