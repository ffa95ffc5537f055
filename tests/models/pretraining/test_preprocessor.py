"""From bytes to normalised tensors."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from codemae import seeded
from mmengine.structures import BaseDataElement

from osar_plugin.registry import MODELS
from osar_plugin.utils.errors import ConfigError, DataFormatError

STATS = (
    dict(rgb_mean=(.3712, .3928, .3576), rgb_std=(.1871, .1627, .1723),
         sar_mean=(.3552, ), sar_std=(.2093, )),
    dict(rgb_mean=(.1639, .1527, .1260), rgb_std=(.0723, .0740, .0703),
         sar_mean=(.2119, ), sar_std=(.1911, )))
# Of float32 against double.
NEAR = dict(rtol=2e-6, atol=1e-6)


def make(**kwargs: Any) -> Any:
    return MODELS.build(
        dict(type='osar_plugin.PairPretrainPreprocessor', **kwargs))


def batch() -> dict[str, Any]:
    generator = seeded(0)
    return dict(
        inputs=dict(
            rgb=torch.randint(0, 256, (2, 3, 32, 32), dtype=torch.uint8,
                              generator=generator),
            sar=torch.randint(0, 256, (2, 1, 32, 32), dtype=torch.uint8,
                              generator=generator)),
        data_samples=[BaseDataElement(metainfo=s) for s in STATS])


def test_each_image_with_the_statistics_of_its_source() -> None:
    data = batch()
    out = make()(data)
    inputs = out['inputs']
    for row, stats in enumerate(STATS):
        raw = data['inputs']['rgb'][row].double() / 255
        mean, std = (torch.tensor(stats[k]).view(3, 1, 1)
                     for k in ('rgb_mean', 'rgb_std'))
        torch.testing.assert_close(
            inputs['rgb'][row].double(), (raw - mean) / std, **NEAR)
        torch.testing.assert_close(inputs['rgb01'][row].double(), raw, **NEAR)
        raw = data['inputs']['sar'][row].double() / 255
        sar = (raw - stats['sar_mean'][0]) / stats['sar_std'][0]
        torch.testing.assert_close(
            inputs['sar'][row].double(), sar.expand(3, -1, -1), **NEAR)
    # Three equal channels in the memory of one.
    assert inputs['sar'].stride(1) == 0
    assert inputs['sar01'].shape == (2, 1, 32, 32)
    assert out['data_samples'] is data['data_samples']
    assert data['inputs']['rgb'].dtype == torch.uint8


def test_lists_and_three_equal_channels_give_the_same() -> None:
    expected = make()(batch())['inputs']
    data = batch()
    data['inputs'] = {k: list(v.expand(-1, 3, -1, -1))
                      for k, v in data['inputs'].items()}
    out = make()(data)['inputs']
    for key in ('rgb', 'sar', 'rgb01'):
        torch.testing.assert_close(out[key], expected[key])


def test_teacher_features_pass() -> None:
    data = batch()
    data['inputs']['teacher'] = torch.ones(2, 4, 8, dtype=torch.float16)
    out = make()(data)['inputs']['teacher']
    assert out.shape == (2, 4, 8)


def test_without_statistics() -> None:
    data = batch()
    del data['data_samples']
    out = make(statistics='none')(data)['inputs']
    torch.testing.assert_close(out['rgb'], out['rgb01'])
    assert out['sar'].shape == (2, 3, 32, 32)


def test_fixed_statistics() -> None:
    data = batch()
    data['data_samples'] = [data['data_samples'][0]] * 2
    mean = (*STATS[0]['rgb_mean'], *STATS[0]['sar_mean'])
    std = (*STATS[0]['rgb_std'], *STATS[0]['sar_std'])
    out = make(statistics='fixed', mean=mean, std=std)(data)['inputs']
    expected = make()(data)['inputs']
    for key in ('rgb', 'sar'):
        torch.testing.assert_close(out[key], expected[key])


@pytest.mark.parametrize(('kwargs', 'words'), [
    (dict(statistics='source'), "statistics='source'"),
    (dict(statistics='fixed'), "'fixed'"),
    (dict(mean=(0.5, ) * 4, std=(0.5, ) * 4), "'fixed'"),
    (dict(statistics='fixed', mean=(0.5, ), std=(0.5, )), 'four'),
    (dict(statistics='fixed', mean=(0.5, ) * 4, std=(0., ) * 4), 'std'),
])
def test_bad_arguments(kwargs: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        make(**kwargs)


def spoil(data: dict[str, Any], kind: str) -> Any:
    inputs, samples = data['inputs'], data['data_samples']
    if kind == 'no sar':
        del inputs['sar']
    elif kind == 'tensor':
        data['inputs'] = inputs['rgb']
    elif kind == 'float':
        inputs['rgb'] = inputs['rgb'].float()
    elif kind == 'one channel':
        inputs['rgb'] = inputs['rgb'][:, :1]
    elif kind == 'sizes':
        inputs['rgb'] = [inputs['rgb'][0], inputs['rgb'][1, :, :16]]
    elif kind == 'few samples':
        data['data_samples'] = samples[:1]
    elif kind == 'no numbers':
        data['data_samples'] = [BaseDataElement()] * 2
    elif kind == 'zero':
        data['data_samples'] = [BaseDataElement(
            metainfo=dict(STATS[0], sar_std=(0., )))] * 2
    return data


@pytest.mark.parametrize(('kind', 'words'), [
    ('no sar', 'without rgb and sar'), ('tensor', 'without rgb and sar'),
    ('float', 'uint8'), ('one channel', 'B, 3, H, W'),
    ('sizes', 'different shapes'), ('few samples', '2 images and 1 data'),
    ('no numbers', 'rgb_mean=None'), ('zero', 'above 0')])
def test_bad_batches(kind: str, words: str) -> None:
    with pytest.raises(DataFormatError, match=words):
        make()(spoil(batch(), kind))
