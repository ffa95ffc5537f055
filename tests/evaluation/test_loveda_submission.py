"""The zip file for the LoveDA server."""

from __future__ import annotations

import zipfile
from io import BytesIO

import numpy as np
import pytest
import torch
from PIL import Image

from osar_plugin.evaluation import LoveDASubmission
from osar_plugin.utils.errors import ConfigError, DataFormatError


def sample(name, labels, shape=None, **extra):
    return dict(
        img_path=f'data/Test/Urban/images_png/{name}.png',
        ori_shape=shape or tuple(labels.shape[-2:]),
        pred_sem_seg=dict(data=labels), reduce_zero_label=True, **extra)


def prediction(seed=0):
    return torch.from_numpy(np.random.default_rng(seed).integers(
        0, 7, (1, 16, 12)))


def test_what_the_server_gets(tmp_path):
    metric = LoveDASubmission(str(tmp_path / 'out/loveda.zip'))
    labels = {name: prediction(i)
              for i, name in enumerate(('4193', '4191', '4192'))}
    for name, one in labels.items():
        metric.process(None, [sample(name, one)])
    assert metric.evaluate(3) == {'loveda/tiles': 3.0}
    with zipfile.ZipFile(tmp_path / 'out/loveda.zip') as archive:
        assert archive.testzip() is None
        # Files at the root: no folder is zipped.
        assert archive.namelist() == ['4191.png', '4192.png', '4193.png']
        for name, one in labels.items():
            image = Image.open(BytesIO(archive.read(f'{name}.png')))
            assert image.mode == 'L'
            # As predicted: not one more, whatever reduce_zero_label says.
            assert (np.asarray(image) == one[0].numpy()).all()
    assert [p.name for p in (tmp_path / 'out').iterdir()] == ['loveda.zip']


def test_the_same_predictions_give_the_same_bytes(tmp_path):
    for name, order in (('a', '12'), ('b', '21')):
        metric = LoveDASubmission(str(tmp_path / f'{name}.zip'))
        for number in order:
            metric.process(None, [sample(number, prediction(int(number)))])
        metric.evaluate(2)
    assert (tmp_path / 'a.zip').read_bytes() == (
        tmp_path / 'b.zip').read_bytes()


@pytest.mark.parametrize('value', [7, 255, -1])
def test_labels_that_are_no_class(tmp_path, value):
    labels = prediction()
    labels[0, 3, 4] = value
    metric = LoveDASubmission(str(tmp_path / 'out.zip'))
    with pytest.raises(DataFormatError, match=f'4191.*{value}'):
        metric.process(None, [sample('4191', labels)])


@pytest.mark.parametrize('broken, text', [
    (sample('1', prediction(), shape=(1024, 1024)), '1024'),
    (sample('1', prediction().float()), 'float32'),
    (sample('1', prediction().repeat(2, 1, 1)), r'\(2, 16, 12\)'),
    (dict(img_path='1.png'), 'no pred_sem_seg'),
    (dict(pred_sem_seg=dict(data=prediction())), 'img_path')])
def test_what_is_no_prediction(tmp_path, broken, text):
    metric = LoveDASubmission(str(tmp_path / 'out.zip'))
    with pytest.raises(DataFormatError, match=text):
        metric.process(None, [broken])


def test_two_tiles_of_one_name(tmp_path):
    metric = LoveDASubmission(str(tmp_path / 'out.zip'))
    (tmp_path / 'out.zip').write_bytes(b'earlier')
    for _ in range(2):
        metric.process(None, [sample('1', prediction())])
    with pytest.raises(DataFormatError, match='1.png'):
        metric.evaluate(2)
    assert (tmp_path / 'out.zip').read_bytes() == b'earlier'


def test_bad_arguments():
    with pytest.raises(ConfigError, match='zip'):
        LoveDASubmission('predictions')
    with pytest.raises(ConfigError, match='num_classes'):
        LoveDASubmission('a.zip', num_classes=0)
