"""State as plain data: what comes back is what went in, of the same type."""

from __future__ import annotations

import argparse
import copy
import io
import json
import random
from collections import OrderedDict, defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from mmengine.config import Config, ConfigDict
from mmengine.logging import HistoryBuffer, MessageHub
from mmengine.optim import OneCycleLR
from same import assert_same
from torch import nn

from osar_plugin.utils.errors import CheckpointError
from osar_plugin.utils.plain import MARK, from_plain, to_plain


def saved(plain):
    """Through a file, with nothing admitted beyond what PyTorch admits."""
    file = io.BytesIO()
    torch.save(plain, file)
    file.seek(0)
    assert torch.serialization.get_unsafe_globals_in_checkpoint(file) == []
    file.seek(0)
    return torch.load(file, weights_only=True)


def back(value):
    return from_plain(saved(to_plain(value)))


DTYPES = st.one_of(
    npst.boolean_dtypes(), npst.integer_dtypes(endianness='?'),
    npst.unsigned_integer_dtypes(endianness='?'),
    npst.floating_dtypes(endianness='?', sizes=(16, 32, 64)),
    npst.complex_number_dtypes(endianness='?', sizes=(64, 128)),
    npst.unicode_string_dtypes(max_len=4), npst.byte_string_dtypes(max_len=4),
    npst.datetime64_dtypes(), npst.timedelta64_dtypes())
ARRAYS = npst.arrays(DTYPES, npst.array_shapes(min_dims=0, max_side=3))
NUMBERS = st.floats() | st.integers() | st.booleans()
KEYS = st.one_of(
    st.text(max_size=5), st.integers(), st.none(), st.binary(max_size=3),
    st.just(MARK), st.tuples(st.integers(), st.text(max_size=3)),
    st.just(Path('a/b')), st.frozensets(st.integers(), max_size=2))
HISTORIES = st.lists(st.tuples(st.floats(), st.integers(1, 9)), max_size=4
                     ).map(lambda pairs: HistoryBuffer(
                         [a for a, _ in pairs], [b for _, b in pairs], 7))
LEAVES = st.one_of(
    st.none(), NUMBERS, st.complex_numbers(), st.text(max_size=9),
    st.binary(max_size=9), ARRAYS, HISTORIES,
    st.integers(-2**3000, 2**3000), st.sets(KEYS, max_size=3),
    st.frozensets(KEYS, max_size=3),
    st.sampled_from([
        torch.float16, torch.uint16, torch.device('cpu'), torch.Size((2, 3)),
        Path('some/file'), slice(1, None, 2), range(3, 9, 2), bytearray(b'x'),
        torch.arange(3.), torch.tensor(True)]))


def containers(inner):
    return st.one_of(
        st.lists(inner, max_size=3), st.lists(inner, max_size=3).map(tuple),
        st.dictionaries(KEYS, inner, max_size=3),
        st.dictionaries(KEYS, inner, max_size=3).map(OrderedDict),
        st.dictionaries(KEYS, inner, max_size=3).map(
            lambda d: defaultdict(list, d)),
        st.dictionaries(st.sampled_from('abcd'), inner, max_size=3).map(
            lambda d: argparse.Namespace(**d)))


@settings(max_examples=200, deadline=None, derandomize=True,
          suppress_health_check=[HealthCheck.too_slow])
@given(st.recursive(LEAVES, containers, max_leaves=8))
def test_everything_comes_back(value):
    assert_same(value, back(value))


@settings(max_examples=100, deadline=None, derandomize=True)
@given(npst.arrays(
    st.one_of(npst.scalar_dtypes()), npst.array_shapes(max_side=2)))
def test_numpy_scalars_are_numbers(array):
    """Equal to what they were; wide floats and times keep their type."""
    value = array.flat[0]
    plain = to_plain(value)
    assert type(plain) in (bool, int, float, complex, str, bytes, dict)
    np.testing.assert_equal(back(value), value)
    if value.dtype.kind in 'mM':
        assert type(back(value)) is type(value)


def test_plain_values_need_no_wrapping():
    """What other readers use from the file is there as it was."""
    tensor = torch.arange(4.)
    value = OrderedDict(
        iter=np.int64(3), best=np.float32(0.5), names=('a', 'b'),
        rates=[0.1, np.float64(0.2)], cfg='a = 1', weight=tensor, none=None)
    plain = to_plain(value)
    assert plain == OrderedDict(
        iter=3, best=0.5, names=('a', 'b'), rates=[0.1, 0.2], cfg='a = 1',
        weight=tensor, none=None)
    assert type(plain['iter']) is int
    assert type(plain['best']) is type(plain['rates'][1]) is float
    assert plain['weight'] is tensor


@pytest.mark.parametrize('name', [
    'bool', 'uint8', 'uint16', 'uint32', 'uint64', 'int8', 'int64',
    'float16', 'float32', '>f8', '>u2', 'complex64', 'U3', 'S2',
    'datetime64[ms]', 'timedelta64[25ns]', 'longdouble'])
def test_arrays_keep_dtype_shape_and_bytes(name):
    dtype = np.dtype(name)
    values = np.arange(24).astype(np.int64)
    array = (values.view('M8[ms]') if dtype.kind == 'M' else values).astype(
        dtype).reshape(2, 3, 4)
    for form in (array, array[:, ::2], array.T, array[:0], array[1, 1, 1:2],
                 np.array(array[1, 1, 1])):
        assert_same(form, back(form))


def test_arrays_that_cannot_be_written_to():
    """As NumPy's own readers and `np.broadcast_to` give them."""
    array = np.frombuffer(b'12345678', np.uint8)
    with pytest.raises(ValueError, match='read-only'):
        array[0] = 1
    assert_same(array.copy(), back(array))
    wide = np.broadcast_to(np.arange(3), (2, 3))
    assert_same(wide.copy(), back(wide))


def test_message_hub():
    hub = MessageHub('before')
    for i in range(5):
        hub.update_scalar('train/loss', 0.1 * i, 3)
    hub.update_info('epoch', 2)
    hub.update_info('classes', ('ship', 'boat'))
    hub.update_info('palette', np.arange(6, dtype=np.uint8).reshape(2, 3))
    hub.update_info('left out', object(), resumed=False)
    state = hub.state_dict()
    assert_same(state, back(state))
    other = MessageHub('after')
    other.load_state_dict(back(state))
    buffer = other.get_scalar('train/loss')
    assert buffer.mean(2) == hub.get_scalar('train/loss').mean(2)
    for name in ('mean', 'min', 'max', 'current'):
        assert buffer.statistics(name) == hub.get_scalar(
            'train/loss').statistics(name)
    buffer.update(7., 2)
    assert buffer.current() == 7
    assert buffer.data[1].tolist() == [3, 3, 3, 3, 3, 2]
    assert_same(hub.runtime_info['palette'], other.runtime_info['palette'])


def test_a_history_stays_as_short_as_it_was():
    buffer = HistoryBuffer([1., 2.], [1, 1], max_length=2)
    copied = back(buffer)
    copied.update(3.)
    assert copied.data[0].tolist() == [2, 3]


def test_stock_mmengine_resumes_without_the_histories():
    """Our file, read by a program that knows nothing of the marks."""
    hub = MessageHub('ours')
    hub.update_scalar('loss', 1.)
    hub.update_info('epoch', 4)
    stock = MessageHub('stock')
    stock.load_state_dict(saved(to_plain(hub.state_dict())))
    assert stock.get_info('epoch') == 4
    assert not stock.log_scalars


def test_random_states():
    random.seed(1)
    np.random.seed(1)
    random.gauss(0, 1)
    np.random.randn()
    states = dict(
        python=random.getstate(), numpy=np.random.get_state(),
        new=np.random.get_state(legacy=False), torch=torch.get_rng_state())
    restored = back(states)
    assert_same(states, restored)
    expected = random.gauss(0, 1), random.random(), np.random.randn(3)
    random.setstate(restored['python'])
    np.random.set_state(restored['numpy'])
    drawn = random.gauss(0, 1), random.random(), np.random.randn(3)
    assert_same(expected, drawn)


def test_optimizer_and_schedule():
    model = nn.Linear(2, 2)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1)
    model(torch.ones(2)).sum().backward()
    optimizer.step()
    state = optimizer.state_dict()
    assert_same(state, back(state))
    plain = to_plain(state)
    assert plain['state'][0]['exp_avg'] is state['state'][0]['exp_avg']
    schedule = OneCycleLR(optimizer, eta_max=0.1, total_steps=10)
    schedule.step()
    resumed = OneCycleLR(optimizer, eta_max=0.1, total_steps=10)
    resumed.load_state_dict(back(schedule.state_dict()))
    assert resumed.last_step == schedule.last_step == 1
    assert resumed.get_last_value() == schedule.get_last_value()
    resumed.step()  # calls the annealing function


def test_versions_in_a_state_dict_survive():
    """Modules read them to convert the weights of older versions."""
    state = nn.BatchNorm2d(2).state_dict()
    assert state._metadata['']['version'] == 2
    restored = back(state)
    assert_same(state, restored)
    assert restored._metadata == state._metadata
    assert list(restored._metadata) == list(state._metadata)


def test_configs(tmp_path):
    file = tmp_path / 'config.py'
    file.write_text('model = dict(type="A", sizes=[1, (2, 3)])\nx = 1e-3\n')
    cfg = Config.fromfile(file)
    restored = back(dict(cfg=cfg, part=cfg.model))
    assert_same(cfg, restored['cfg'])
    assert restored['cfg'].pretty_text == cfg.pretty_text
    assert restored['cfg'].model.sizes[1] == (2, 3)
    assert type(restored['part']) is ConfigDict
    assert restored['part'] == cfg.model
    made = Config(dict(a=dict(b=1)))
    assert back(made).a.b == 1


def test_a_config_in_a_file_opens_no_other_file(tmp_path):
    """Config reads the text of the file that it is told to be from."""
    secret = tmp_path / 'secret.py'
    secret.write_text('password = 1')
    plain = to_plain(Config(dict(a=1)))
    plain['filename'] = str(secret)
    assert 'password' not in from_plain(plain).text


def test_dtype_device_and_strings_that_know_more():
    value = dict(version=torch.__version__, device=torch.device('cuda:1'),
                 dtype=torch.bfloat16, size=torch.Size((1, 2)))
    plain = to_plain(value)
    assert type(plain['version']) is str
    assert saved(plain) == dict(value, version=str(torch.__version__))


class Thing:
    """Something that no checkpoint can hold."""


@pytest.mark.parametrize(('value', 'where', 'what'), [
    (dict(runtime_info=dict(foo=Thing())), 'hub.runtime_info.foo', 'Thing'),
    ([1, (2, Thing())], r'hub\[1\]\[1\]', 'Thing'),
    (argparse.Namespace(a=[Thing()]), r'hub.a\[0\]', 'Thing'),
    (dict(model=dict(a=Thing)), 'hub.model.a', 'builtins.type'),
    ({Thing(): 1}, 'hub, key <', 'Thing'),
    ({(1, Thing())}, r'hub, member \(1', 'Thing'),
    (dict(a=np.array([None, 1])), 'hub.a', 'dtype object'),
    (dict(a=np.zeros(2, 'i4,f4')), 'hub.a', 'dtype'),
    (dict(a=np.ma.masked_array([1])), 'hub.a', 'MaskedArray'),
    (dict(a=defaultdict(Thing)), 'hub.a', 'defaultdict'),
    (dict(a=lambda: 1), 'hub.a', 'function'),
    (dict(a=json), 'hub.a', 'module'),
])
def test_what_is_not_plain_is_refused_by_name(value, where, what):
    with pytest.raises(CheckpointError, match=f'^{where}.*{what}.*Store'):
        to_plain(value, 'hub')


def test_what_contains_itself():
    value: list = []
    value.append(dict(inner=value))
    with pytest.raises(CheckpointError, match='meta cannot.*contains itself'):
        to_plain(value, 'meta')
    with pytest.raises(CheckpointError, match='contains itself'):
        from_plain(value)


def test_nothing_is_changed_on_the_way():
    value = dict(a=[1, np.arange(3)], b=HistoryBuffer([1.], [1]))
    before = copy.deepcopy(value)
    plain = to_plain(value)
    again = copy.deepcopy(plain)
    from_plain(plain)['a'][1][0] = 9
    assert_same(before, value)
    assert_same(again, plain)


@pytest.mark.parametrize('change', [
    dict(dtype='|O8'), dict(dtype='<i8,<f8'), dict(dtype='no'),
    dict(dtype=b'<i8'), dict(shape=(4,)), dict(shape=(-3,)),
    dict(shape=('3',)), dict(data=[1, 2, 3]), dict(data=None)])
def test_damaged_arrays_are_refused(change):
    plain = to_plain(dict(a=np.arange(3)))
    plain['a'].update(change)
    with pytest.raises(CheckpointError, match='ndarray that cannot be rest'):
        from_plain(plain)


@pytest.mark.parametrize('plain', [
    {MARK: 'os.system'}, {MARK: ['dict']}, {MARK: None}, {MARK: 'tuple'}])
def test_unknown_marks_are_refused(plain):
    with pytest.raises(CheckpointError, match='does not know'):
        from_plain([plain])


@pytest.mark.parametrize('plain', [
    {MARK: 'defaultdict', 'factory': 'eval', 'items': {}},
    {MARK: 'defaultdict', 'factory': 'list'},
    {MARK: 'Namespace', 'values': {1: 2}},
    {MARK: 'HistoryBuffer', '_log_history': [1], '_count_history': [1],
     'max_length': 1},
    {MARK: 'Config', 'values': [1], 'text': '', 'filename': None,
     'env_variables': {}},
    {MARK: 'set', 'items': [[]]},
    {MARK: 'slice', 'limits': (1, 2, 3, 4)},
    {MARK: 'int', 'hex': 7}])
def test_damaged_marks_are_refused(plain):
    with pytest.raises(CheckpointError, match='cannot be restored'):
        from_plain(dict(a=plain))


def test_what_carries_no_mark_comes_back_as_it_is():
    """Files of stock MMEngine go through the same function."""
    buffer, array = HistoryBuffer([1.], [1]), np.arange(2)
    value = dict(log_scalars=OrderedDict(loss=buffer), array=array)
    restored = from_plain(value)
    assert restored['log_scalars']['loss'] is buffer
    assert restored['array'] is array


SCHEDULES: dict[str, dict] = dict(
    ConstantLR={}, CosineAnnealingLR=dict(T_max=5), ExponentialLR=dict(
        gamma=0.9), LinearLR={}, MultiStepLR=dict(milestones=[2, 4, 4]),
    OneCycleLR=dict(eta_max=1., total_steps=9), PolyLR={}, StepLR=dict(
        step_size=2), CosineRestartLR=dict(
            periods=[3, 3], restart_weights=[1, 1], eta_min=0.),
    ReduceOnPlateauLR=dict(monitor='loss'))


@pytest.mark.parametrize('name', SCHEDULES)
def test_every_schedule_of_mmengine(name: str, tmp_path: Path) -> None:
    """Its state goes to a file and back into a schedule that goes on."""
    from mmengine.optim import scheduler

    def build() -> tuple[torch.optim.SGD, Any]:
        optimizer = torch.optim.SGD([nn.Parameter(torch.ones(1))], lr=0.5)
        return optimizer, getattr(scheduler, name)(
            optimizer, **SCHEDULES[name])

    optimizer, schedule = build()
    for _ in range(2):
        optimizer.step()
        schedule.step(dict(loss=1.)) if name[0] == 'R' else schedule.step()
    torch.save(to_plain(schedule.state_dict()), tmp_path / 'a.pth')
    read = from_plain(torch.load(tmp_path / 'a.pth', weights_only=True))
    assert {k: type(v) for k, v in read.items()} == {
        k: type(v) for k, v in schedule.state_dict().items() if k in read}
    other_optimizer, other = build()
    other_optimizer.load_state_dict(optimizer.state_dict())
    other.load_state_dict(read)
    for one in (schedule, other):
        one.step(dict(loss=1.)) if name[0] == 'R' else one.step()
    assert optimizer.param_groups[0]['lr'] == (
        other_optimizer.param_groups[0]['lr'])
