"""What files of stock MMEngine hold comes back; what a file asks, does not."""

from __future__ import annotations

import argparse
import io
import pickle
import random
import runpy
import threading
import zipfile
from collections import OrderedDict, defaultdict
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.infer import BaseInferencer
from mmengine.logging import HistoryBuffer
from mmengine.optim import OneCycleParamScheduler
from mmengine.runner import CheckpointLoader
from same import assert_same

from osar_plugin.compat import prepare_torchvision
from osar_plugin.utils import stand_ins
from osar_plugin.utils.checkpoint import read_checkpoint, use_safe_loading
from osar_plugin.utils.errors import CheckpointError, UnsafeCheckpointError
from osar_plugin.utils.plain import MARK

GOLDENS = Path(__file__).parents[1] / 'goldens' / 'checkpoints'
WRITER = GOLDENS / 'write.py'


@pytest.fixture(scope='module')
def writer():
    """The functions of the script that makes such files."""
    prepare_torchvision()
    return runpy.run_path(str(WRITER))


@pytest.fixture(scope='module')
def fresh(run_python, tmp_path_factory):
    """A file that this stack's stock MMEngine has just written."""
    path = tmp_path_factory.mktemp('stock') / 'fresh.pth'
    done = run_python(WRITER, path)
    assert done.code == 0, done.err
    return path


@pytest.fixture(params=['onedl', 'openmmlab', 'fresh'])
def stock(request):
    """Files of stock MMEngine: of both stacks, and of this one now."""
    if request.param == 'fresh':
        return request.getfixturevalue('fresh')
    return GOLDENS / f'{request.param}.pth'


def test_files_of_stock_mmengine_come_back(stock, writer):
    content = read_checkpoint(stock)
    assert list(content) == [
        'meta', 'state_dict', 'message_hub', 'optimizer', 'param_schedulers',
        'ema_state_dict', 'extras']
    expected = writer['extras']()
    expected['version'] = content['extras']['version']  # of who wrote it
    expected['version'].split('.')
    assert_same(expected, content['extras'])
    assert content['extras']['column_major'].flags.f_contiguous
    meta = content['meta']
    assert (meta['epoch'], meta['iter'], meta['seed']) == (2, 8, 0)
    assert_same(writer['Ramp'].metainfo, meta['dataset_meta'])
    assert content['state_dict']._metadata['net.1']['version'] == 2
    assert content['optimizer']['state'][0]['step'] == 8
    anneal = content['param_schedulers'][0]['anneal_func']
    assert anneal is OneCycleParamScheduler._annealing_cos
    assert_same(content['message_hub']['runtime_info']['extras'], dict(
        best=np.float64(0.5), boxes=np.arange(4, dtype=np.uint16)))


def test_histories_are_usable(stock):
    scalars = read_checkpoint(stock)['message_hub']['log_scalars']
    loss = scalars['train/loss']
    assert type(loss) is HistoryBuffer
    values, counts = loss.data
    assert len(values) == len(counts) == 8
    for name, expected in (
            ('mean', values.sum() / counts.sum()), ('min', values.min()),
            ('max', values.max()), ('current', values[-1])):
        assert loss.statistics(name) == expected
    loss.update(2.5)
    assert loss.current() == 2.5
    assert len(loss.data[0]) == 9
    assert loss.max_length == 1000000


def go_on(writer, path, tmp_path):
    """Resume with a stock runner and train one more epoch."""
    use_safe_loading()
    runner = writer['build'](
        str(tmp_path / 'run'), load_from=str(path), resume=True,
        experiment_name=tmp_path.name)
    runner._train_loop['max_epochs'] = 3
    for schedule in runner.param_schedulers:
        schedule.pop('total_steps', None)
    runner.train()
    return runner


def test_stock_runs_go_on(stock, writer, tmp_path):
    """Also on the stack whose MMEngine cannot read its own files."""
    runner = go_on(writer, stock, tmp_path)
    assert (runner.epoch, runner.iter) == (3, 12)
    history = runner.message_hub.get_scalar('train/loss')
    assert len(history.data[0]) == 12
    assert (tmp_path / 'run' / 'epoch_3.pth').is_file()


def repacked(source, path, change):
    """A checkpoint with another pickle inside."""
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(path, 'w') as new:
        for name in old.namelist():
            data = old.read(name)
            new.writestr(
                name, change(data) if name.endswith('/data.pkl') else data)
    return path


def test_files_of_numpy_1(tmp_path, writer):
    """It has another name for the same functions."""
    path = repacked(
        GOLDENS / 'onedl.pth', tmp_path / 'old.pth',
        lambda data: data.replace(b'numpy._core.', b'numpy.core.'))
    content = read_checkpoint(path)['extras']
    assert_same(writer['extras']()['image'], content['image'])
    assert_same(np.float32(0.25), content['score'])


def test_what_two_places_share_stays_shared(tmp_path):
    """Changing a history where it is must change it everywhere."""
    buffer, array = HistoryBuffer([1.], [1]), np.arange(2)
    inner = [buffer, array]
    content = dict(
        a=buffer, b=(buffer, inner), c=inner, d=array,
        space=argparse.Namespace(inner=inner))
    torch.save(content, tmp_path / 'x.pth')
    read = read_checkpoint(tmp_path / 'x.pth')
    assert read['a'] is read['b'][0] is read['c'][0]
    assert read['c'] is read['b'][1] is read['space'].inner
    assert read['d'] is read['c'][1]
    assert type(read['d']) is np.ndarray


def test_a_list_that_contains_itself(tmp_path):
    content: list = [np.arange(2)]
    content.append(content)
    torch.save(dict(a=content), tmp_path / 'x.pth')
    read = read_checkpoint(tmp_path / 'x.pth')['a']
    assert read[1] is read
    assert type(read[0]) is np.ndarray


def test_the_older_format(tmp_path, writer):
    path = tmp_path / 'x.pth'
    torch.save(writer['extras'](), path,
               _use_new_zipfile_serialization=False)
    assert_same(writer['extras']()['lists'], read_checkpoint(path)['lists'])


# --- Pickles that no honest program writes, from their opcodes.


def text(value):
    data = value.encode()
    return b'X' + len(data).to_bytes(4, 'little') + data


def name(module, what):
    return f'c{module}\n{what}\n'.encode()


GETATTR = name('builtins', 'getattr')
HISTORY = name('mmengine.logging.history_buffer', 'HistoryBuffer')
NDARRAY = name('numpy', 'ndarray')
DTYPE = name('numpy', 'dtype')
NAMESPACE = name('argparse', 'Namespace')
RECONSTRUCT = name('numpy._core.multiarray', '_reconstruct')
SCALAR = name('numpy._core.multiarray', 'scalar')
ORDERED = name('collections', 'OrderedDict')
DEFAULT = name('collections', 'defaultdict')
ONE_CYCLE = name('mmengine.optim.scheduler.param_scheduler',
                 'OneCycleParamScheduler')
REBUILD = name('torch._tensor', '_rebuild_from_type_v2')
NEW = b')\x81'
CALL = b'R'


def call(function, *arguments):
    return function + b'(' + b''.join(arguments) + b't' + CALL


def dictionary(**items):
    return b'}(' + b''.join(
        text(key) + value for key, value in items.items()) + b'u'


def dtype(code, order='<', flags=b'K\x00'):
    """As NumPy pickles it."""
    state = b'(K\x03' + text(order) + b'NNNJ\xff\xff\xff\xffJ\xff\xff' \
        b'\xff\xff' + flags + b't'
    return call(DTYPE, text(code), b'\x89', b'\x88') + state + b'b'


def data(value):
    encode = name('_codecs', 'encode')
    return call(encode, text(value.decode('latin1')), text('latin1'))


def array(kind=NDARRAY, shape=b'K\x02\x85', code='i4', content=None):
    content = data(b'\x01\0\0\0\x02\0\0\0') if content is None else content
    state = b'(K\x01' + shape + dtype(code) + b'\x89' + content + b't'
    return call(RECONSTRUCT, kind, b'K\x00\x85', data(b'b')) + state + b'b'


def crafted(path, value):
    """A checkpoint of PyTorch's format that holds a value."""
    torch.save(dict(a=1), path)
    whole = path.with_suffix('.tmp')
    path.rename(whole)
    return repacked(
        whole, path, lambda _: b'\x80\x02' + dictionary(a=value) + b'.')


def test_the_opcodes_do_what_they_should(tmp_path):
    """Else the refusals below would prove nothing."""
    read = read_checkpoint(crafted(tmp_path / 'x.pth', array()))['a']
    assert_same(np.array([1, 2], np.int32), read)
    value = call(SCALAR, dtype('i4'), data(b'\x07\0\0\0'))
    assert_same(
        np.int32(7), read_checkpoint(crafted(tmp_path / 'x.pth', value))['a'])


@pytest.mark.parametrize('value', [
    call(GETATTR, HISTORY, text('__init__')),
    call(GETATTR, HISTORY, text('register_statistics')),
    call(GETATTR, NDARRAY, text('tofile')),
    call(GETATTR, DTYPE, text('mean')),
    call(GETATTR, call(GETATTR, HISTORY, text('mean')), text('__globals__')),
    call(GETATTR, ONE_CYCLE, text('__class__')),
    call(GETATTR, ORDERED, text('mean')),
    call(GETATTR, HISTORY),
    call(GETATTR, text('a'), text('format')),
    call(RECONSTRUCT, NAMESPACE, b'K\x00\x85', data(b'b')),
    name('builtins', 'eval'), name('os', 'system'), name('sys', 'modules'),
    name('functools', 'partial'), name('operator', 'attrgetter'),
    name('numpy', 'save'), name('numpy._core.multiarray', 'fromfile'),
    name('mmengine.config.config', 'Config'), name('torch', 'load'),
    name('pathlib', 'Path'), name('torch.hub', 'load'),
    name('builtins', '__import__'), name('builtins', 'open')])
def test_attributes_and_functions_of_the_files_choosing(tmp_path, value):
    path = crafted(tmp_path / 'x.pth', value)
    with pytest.raises(UnsafeCheckpointError, match=r'x\.pth.*could run'):
        read_checkpoint(path)


@pytest.mark.parametrize('value', [
    # Bytes for pointers: NumPy itself would follow them.
    array(code='O8', shape=b'K\x01\x85', content=data(b'\x01' * 8)),
    array(code='O8', shape=b'K\x01\x85', content=b']' + b'N' + b'a'),
    call(SCALAR, dtype('O8'), data(b'\x01' * 8)),
    array(code='V8'), array(code='i4,i4'), array(code='T8'),
    array(code='i4', shape=b'K\x03\x85'),
    array(code='i4', shape=b'J\xfe\xff\xff\xff\x85'),
    array(code='i4', shape=b'K\x02\x85', content=b'N'),
    array(code='i8', shape=b'(J\xff\xff\xff\x7fJ\xff\xff\xff\x7ft'),
    dtype('i4', order='|O8,'), dtype('f999999999999'), dtype(''),
    # Classes in place of values, and what they were not built for.
    NDARRAY, GETATTR, HISTORY, SCALAR, ONE_CYCLE, name('builtins', 'list'),
    call(NDARRAY, b'K\x02\x85'), call(HISTORY, b']', b']'),
    call(name('builtins', 'list'), b']'), call(ONE_CYCLE),
    HISTORY + NEW, HISTORY + NEW + b']b',
    HISTORY + NEW + dictionary(max_length=b'K\x01') + b'b',
    HISTORY + NEW + dictionary(
        max_length=b'K\x05', _log_history=array(),
        _count_history=array(shape=b'K\x01\x85',
                             content=data(b'\0\0\0\0'))) + b'b',
    HISTORY + NEW + dictionary(
        max_length=b'K\x05', _log_history=b']', _count_history=b']') + b'b',
    NAMESPACE + NEW + b'}K\x01K\x02sb',
    # A state in two parts, the second of which sets attributes.
    NAMESPACE + NEW + b'N' + dictionary(__class__=HISTORY) + b'\x86b',
    call(DEFAULT, GETATTR), call(DEFAULT, text('list')),
    ORDERED + b')R' + dictionary(_saved_factory=text('eval')) + b'b',
    ORDERED + b')R' + dictionary(_saved_factory=b']') + b'b',
    call(name('pathlib', 'PosixPath'), b'K\x01'),
    call(name('builtins', 'slice'), NDARRAY + NEW),
    call(name('builtins', 'bytes'), b'J\xff\xff\xff\x7f'),
    call(name('builtins', 'frozenset'), b'K\x01'),
    # PyTorch calls the first argument of this without a look.
    call(REBUILD, GETATTR, GETATTR, b'(' + HISTORY + text('mean') + b't',
         dictionary(make=GETATTR)),
    NAMESPACE + NEW + b'2' + dictionary(me=b'N') + b'b0',
])
def test_content_that_mmengine_and_numpy_do_not_save(tmp_path, value):
    path = crafted(tmp_path / 'x.pth', value)
    with pytest.raises(CheckpointError, match=r'x\.pth'):
        read_checkpoint(path)


def test_a_trainers_class_may_be_a_key_and_nothing_else(tmp_path):
    """Files of latent diffusion have their callback's class as a key."""
    callback = name('pytorch_lightning.callbacks.model_checkpoint',
                    'ModelCheckpoint')
    path = crafted(tmp_path / 'x.pth', b'}' + callback + b'K\x01s')
    assert list(read_checkpoint(path)['a'].values()) == [1]
    for value in (callback, callback + b')R', callback + NEW):
        with pytest.raises(CheckpointError, match=r'x\.pth'):
            read_checkpoint(crafted(path, value))


def test_a_file_cannot_change_the_statistics_of_all_histories(tmp_path):
    """MMEngine's own `__setstate__` puts them into the class."""
    HistoryBuffer()
    before = dict(HistoryBuffer._statistics_methods)
    value = HISTORY + NEW + dictionary(
        _log_history=array(), _count_history=array(), max_length=b'K\x09',
        update=b'N', mean=b'N',
        statistics_methods=dictionary(mean=ORDERED, mine=ORDERED)) + b'b'
    buffer = read_checkpoint(crafted(tmp_path / 'x.pth', value))['a']
    assert HistoryBuffer._statistics_methods == before
    assert sorted(vars(buffer)) == [
        '_count_history', '_log_history', 'max_length']
    assert buffer.statistics('mean') == 1


def test_a_file_cannot_change_numpys_types(tmp_path):
    """`np.dtype('i4')` is one object for the whole process."""
    value = call(DTYPE, text('i4')) + b'(K\x03' + text('>') + \
        b'NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb'
    read = read_checkpoint(crafted(tmp_path / 'x.pth', value))['a']
    assert_same(np.dtype('>i4'), read)
    assert np.dtype('i4').isnative


def test_what_others_admit_does_not_hold_here(tmp_path):
    """Many programs tell PyTorch to trust these for their own files."""
    theirs = [HistoryBuffer, getattr, np.dtype, np.ndarray, argparse.Namespace,
              (print, 'builtins.print')]
    torch.serialization.add_safe_globals(theirs)
    try:
        value = call(GETATTR, HISTORY, text('__init__'))
        for bad in (value, call(name('builtins', 'print'), text('x'))):
            with pytest.raises(UnsafeCheckpointError):
                read_checkpoint(crafted(tmp_path / 'x.pth', bad))
        read = read_checkpoint(GOLDENS / 'onedl.pth')
        assert type(read['extras']['args']) is argparse.Namespace
        # What they admitted is admitted again.
        assert set(theirs) <= set(torch.serialization.get_safe_globals())
        assert not {thing for thing, _ in stand_ins.ADMITTED} & {
            value[0] if isinstance(value, tuple) else value
            for value in torch.serialization.get_safe_globals()}
    finally:
        torch.serialization.clear_safe_globals()


def test_threads_read_side_by_side():
    faults = []

    def read():
        try:
            for _ in range(5):
                read_checkpoint(GOLDENS / 'onedl.pth')
        except CheckpointError as error:
            faults.append(error)

    threads = [threading.Thread(target=read) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not faults


def test_damaged_pickles_end_in_our_error(tmp_path):
    """Bytes at random, with checksums that fit: what a fuzzer would do."""
    draw = random.Random(0)
    HistoryBuffer()
    before = dict(HistoryBuffer._statistics_methods)
    outcomes = {True: 0, False: 0}

    def damaged(data):
        data = bytearray(data)
        for _ in range(draw.choice((1, 1, 2, 4))):
            data[draw.randrange(len(data))] = draw.randrange(256)
        return bytes(data)

    for _ in range(200):
        path = repacked(GOLDENS / 'onedl.pth', tmp_path / 'x.pth', damaged)
        try:
            read_checkpoint(path)
            outcomes[True] += 1
        except CheckpointError:
            outcomes[False] += 1
    assert min(outcomes.values()) > 10
    assert HistoryBuffer._statistics_methods == before
    assert np.dtype('f8').isnative


@pytest.mark.parametrize('legacy', [False, True])
def test_the_message_names_what_is_foreign_and_only_that(tmp_path, legacy):
    path = tmp_path / 'x.pth'
    content = dict(a=np.float64(1), b=HistoryBuffer([1.], [1]), c=Path,
                   d=random.Random(), e=OrderedDict(), f=torch.ones(2))
    torch.save(content, path, _use_new_zipfile_serialization=not legacy)
    with pytest.raises(UnsafeCheckpointError) as caught:
        read_checkpoint(path)
    message = str(caught.value)
    assert 'asks for pathlib.Path, random.Random, which' in message
    assert 'safetensors' in message


# --- Python in a checkpoint that is plain otherwise.


@pytest.fixture
def coded(tmp_path):
    """Where a config's text stands; `made` appears if it is run."""
    made = tmp_path / 'made'
    code = f'import os\nos.mkdir({str(made)!r})\nmodel = dict()\n'
    use_safe_loading()

    def write(**content):
        torch.save(dict(dict(
            state_dict={}, meta=dict(epoch=0, iter=0), message_hub=dict(
                log_scalars={}, runtime_info={}, resumed_keys={})),
            **content), tmp_path / 'coded.pth')
        return str(tmp_path / 'coded.pth')

    return argparse.Namespace(write=write, code=code, made=made)


def test_resuming_runs_no_config_of_a_file(coded, writer, tmp_path):
    content = read_checkpoint(GOLDENS / 'onedl.pth')
    meta = dict(content.pop('meta'), config=coded.code)
    go_on(writer, coded.write(meta=meta, **content), tmp_path)
    assert not coded.made.exists()


@pytest.mark.parametrize('part', ['meta', 'message_hub', 'runtime_info'])
@pytest.mark.parametrize('kind', ['dict', 'defaultdict', 'ConfigDict'])
def test_no_text_hides_in_a_marked_dict(coded, part, kind):
    inner = {MARK: kind, 'items': [['config', coded.code]],
             'values': dict(config=coded.code), 'factory': 'none'}
    if part == 'runtime_info':
        path = coded.write(message_hub=dict(
            log_scalars={}, runtime_info=inner, resumed_keys={}))
    else:
        path = coded.write(**{part: inner})
    with pytest.raises(UnsafeCheckpointError, match='marked'):
        CheckpointLoader.load_checkpoint(path)


@pytest.mark.parametrize('where', ['hub', 'meta'])
def test_inferencers_build_nothing_that_a_file_names(coded, where):
    if where == 'meta':
        path = coded.write(meta=dict(cfg=coded.code))
    else:
        path = coded.write(message_hub=dict(
            log_scalars={}, resumed_keys={}, runtime_info=defaultdict(
                None, cfg=coded.code)))
    with pytest.raises(ValueError, match='Cannot find the config'):
        BaseInferencer._init_model(argparse.Namespace(), {}, path)
    assert not coded.made.exists()


def test_our_own_reader_keeps_the_texts(coded):
    """For reports; nothing of this package runs them."""
    path = coded.write(meta=dict(cfg=coded.code, config=coded.code))
    assert read_checkpoint(path)['meta']['cfg'] == coded.code


def test_a_bare_pickle_of_plain_data(tmp_path):
    """Not PyTorch's format; read all the same, as it holds no code."""
    file = io.BytesIO()
    pickle.dump(dict(a=[1, 'x']), file, protocol=2)
    (tmp_path / 'x.pkl').write_bytes(file.getvalue())
    with pytest.raises(CheckpointError, match=r'x\.pkl'):
        read_checkpoint(tmp_path / 'x.pkl')
