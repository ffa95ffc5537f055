from __future__ import annotations

import pickle
import sys
from types import ModuleType

import numpy as np
import pytest
import torch
from mmengine.evaluator import Evaluator
from PIL import Image

from osar_plugin.apis.torchreid import (
    FeatureExtractor,
    evaluation_engine,
    register_torchreid,
)
from osar_plugin.compat import require
from osar_plugin.datasets import HOSS
from osar_plugin.evaluation import ReIDMetric
from osar_plugin.registry import MODELS
from osar_plugin.utils.errors import ConfigError, DataFormatError

HEIGHT, WIDTH = 32, 16


@pytest.fixture(scope='module')
def torchreid():
    require('torchvision', 'reid')
    pytest.importorskip('torchreid')
    return require('torchreid', 'reid')


@pytest.fixture(scope='module')
def root(tmp_path_factory):
    """16 ships, 32 queries and 64 gallery chips, optical 8-bit, SAR float."""
    root = tmp_path_factory.mktemp('data') / 'HOSS'
    rng = np.random.default_rng(0)
    for folder, first, copies in (
            ('bounding_box_train', 100, 1), ('query', 1, 1),
            ('bounding_box_test', 1, 2)):
        (root / folder).mkdir(parents=True)
        for pid in range(first, first + (4 if first > 1 else 16)):
            look = np.random.default_rng(pid).random((4, 3))
            for copy in range(copies):
                for name in ('RGB', 'SAR'):
                    image = np.kron(
                        look, np.ones((6 + pid % 3, 4))) + rng.random(
                            (4 * (6 + pid % 3), 12))
                    path = root / folder / (
                        f'{pid:04d}_s{copy + 1:02d}c1_{name}.tif')
                    if name == 'SAR':
                        Image.fromarray(
                            (900 * image).astype(np.float32)).save(path)
                    else:
                        Image.fromarray((np.stack([image] * 3, 2) * 127)
                                        .astype(np.uint8)).save(path)
    return str(root)


@pytest.fixture(scope='module')
def model():
    torch.manual_seed(0)
    return MODELS.build(dict(
        type='osar_plugin.SDFNet',
        backbone=dict(
            type='osar_plugin.VisionTransformer', img_size=(HEIGHT, WIDTH),
            patch_size=8, embed_dim=24, depth=1, num_heads=2,
            modality_token=True, size_token=True),
        neck=dict(type='osar_plugin.DisentangledNeck', embed_dim=24),
        head=dict(type='osar_plugin.IdentityHead', in_channels=24,
                  num_classes=4))).eval()


def manager(torchreid, root, name):
    return torchreid.data.ImageDataManager(
        root=root, sources=name, height=HEIGHT, width=WIDTH,
        batch_size_train=4, batch_size_test=10, workers=0, use_gpu=False)


@pytest.fixture(scope='module')
def figures(root, model):
    """The same network through our own data set and metric."""
    dataset = HOSS(data_root=root, split='test', pipeline=[
        dict(type='osar_plugin.LoadOpticalOrSAR'),
        dict(type='osar_plugin.ShipSize'),
        dict(type='osar_plugin.SARToUint8'),
        dict(type='osar_plugin.PillowResize', size=(HEIGHT, WIDTH)),
        dict(type='osar_plugin.PackReIDInputs')])
    evaluator = Evaluator([ReIDMetric()])
    evaluator.dataset_meta = dataset.metainfo
    items = [dataset[i] for i in range(len(dataset))]
    with torch.no_grad():
        evaluator.process(model.test_step(dict(
            inputs=[item['inputs'] for item in items],
            data_samples=[item['data_samples'] for item in items])))
    return evaluator.evaluate(len(dataset))


def torchreid_figures(torchreid, root, model, name):
    data = manager(torchreid, root, name)
    loaders = data.test_loader[name]
    rank1, mean_ap = evaluation_engine(data, model, False)._evaluate(
        name, loaders['query'], loaders['gallery'], normalize_feature=True)
    return 100 * rank1, 100 * mean_ap


@pytest.mark.parametrize('options,key', [
    (dict(), 'ALL'), (dict(protocol='O2S'), 'O2S'),
    (dict(protocol='S2O'), 'S2O'),
    (dict(exclude_same_camera=True), 'ALL-xcam')])
def test_torchreid_gives_our_figures(
        torchreid, root, model, figures, options, key):
    name = f'hoss_{key}'
    register_torchreid(name, **options)
    rank1, mean_ap = torchreid_figures(torchreid, root, model, name)
    assert rank1 == pytest.approx(figures[f'{key}/R1'], abs=1e-4)
    assert mean_ap == pytest.approx(figures[f'{key}/mAP'], abs=1e-6)
    assert 0 < mean_ap < 100


def test_the_engine_runs_as_users_run_it(torchreid, root, model, capsys):
    register_torchreid('hoss')
    evaluation_engine(manager(torchreid, root, 'hoss'), model, False).run(
        test_only=True, normalize_feature=True)
    assert 'mAP:' in capsys.readouterr().out


def test_items(torchreid, root):
    data = manager(torchreid, root, register_torchreid('hoss') and 'hoss')
    assert data.num_train_pids == 4
    assert data.num_train_cams == 2
    batch = next(iter(data.train_loader))
    assert batch['img'].shape == (4, 3, HEIGHT, WIDTH)
    assert batch['size'].shape == (4, 3)
    assert torch.equal(batch['modality'], batch['camid'])
    query, gallery = data.fetch_test_loaders('hoss')
    assert (len(query), len(gallery)) == (32, 64)
    assert {row[2] for row in query} == {0, 1}
    assert {row[2] for row in gallery} == {2, 3}


def test_workers_can_have_a_copy(torchreid, root):
    dataset = register_torchreid('hoss')(
        root=root, mode='query', verbose=False)
    copy = pickle.loads(pickle.dumps(dataset))
    assert len(copy) == 32
    assert copy[3]['impath'] == dataset[3]['impath']
    assert torch.equal(copy[3]['size'], dataset[3]['size'])


def test_a_mixture_keeps_our_reader(torchreid, root):
    dataset = register_torchreid('hoss')(root=root, verbose=False)
    other = torchreid.data.ImageDataset(
        [(row[0] + '?', *row[1:]) for row in dataset.train], dataset.query,
        dataset.gallery, verbose=False)
    both = dataset + other
    assert len(both) == 16
    assert both.num_train_pids == 8
    assert both[1]['modality'] == 1


def test_registering_twice(torchreid):
    first = register_torchreid('hoss')
    assert register_torchreid('hoss') is first
    with pytest.raises(ConfigError, match='registered already'):
        register_torchreid('hoss', protocol='O2S')
    with pytest.raises(ConfigError, match='market1501'):
        register_torchreid('market1501')
    with pytest.raises(ConfigError, match='O2X'):
        register_torchreid('x', protocol='O2X')


def test_layout_of_the_github_distribution(torchreid, root, monkeypatch):
    """There the submodules are real; attribute access is common to both."""
    github = ModuleType('torchreid')
    names = []

    class Data:
        ImageDataset = torchreid.data.ImageDataset

        @staticmethod
        def register_image_dataset(name, dataset):
            names.append(name)

    github.data = Data
    monkeypatch.setitem(sys.modules, 'torchreid', github)
    register_torchreid('hoss_github')
    assert names == ['hoss_github']


def test_importing_the_module_does_not_import_torchreid():
    import subprocess

    code = ('import sys, osar_plugin.apis.torchreid as module; '
            'sys.exit("torchreid" in sys.modules)')
    subprocess.run([sys.executable, '-c', code], check=True)


def test_extractor_takes_what_torchreids_takes(root, model):
    extractor = FeatureExtractor(
        model, image_size=(HEIGHT, WIDTH), batch_size=2)
    paths = [f'{root}/query/0001_s01c1_{m}.tif' for m in ('RGB', 'SAR')]
    paths.append(f'{root}/query/0002_s01c1_SAR.tif')
    features = extractor(paths)
    assert features.shape == (3, 24)
    for path, feature in zip(paths, features, strict=True):
        torch.testing.assert_close(extractor(path)[0], feature)
    arrays = [np.array(Image.open(path)) for path in paths]
    torch.testing.assert_close(extractor(arrays), features)
    torch.testing.assert_close(extractor(arrays[1])[0], features[1])
    torch.testing.assert_close(
        extractor(arrays[1], modality=1)[0], features[1])
    images, sizes = extractor._read(paths, [0, 1, 1])
    torch.testing.assert_close(
        extractor(images, [0, 1, 1], sizes), features)
    torch.testing.assert_close(
        extractor(images[2], 1, sizes[2].tolist())[0], features[2])


@pytest.mark.parametrize('args,error,message', [
    ((torch.zeros(3, HEIGHT, WIDTH),), ConfigError, 'modality'),
    ((torch.zeros(3, HEIGHT, WIDTH), 2, [0, 0, 0]), ConfigError,
     'must be 0'),
    ((torch.zeros(3, HEIGHT, WIDTH), 1, [0, 0]), ConfigError, 'size'),
    ((torch.zeros(HEIGHT, WIDTH), 1, [0, 0, 0]), DataFormatError, 'shape'),
    ((np.zeros((4, 4, 3), np.float32),), ConfigError, 'either'),
    (('ship.tif',), ConfigError, 'ship.tif'),
    ((7,), DataFormatError, 'int'),
    (([],), DataFormatError, 'empty'),
])
def test_extractor_errors(model, args, error, message):
    with pytest.raises(error, match=message):
        FeatureExtractor(model, (HEIGHT, WIDTH))(*args)
