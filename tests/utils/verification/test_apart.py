"""Work in processes that may die."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from contextlib import closing

import pytest

from osar_plugin.utils.errors import ConfigError
from osar_plugin.utils.verification import apart
from osar_plugin.utils.verification.apart import (
    Crash,
    available_cpus,
    map_apart,
)


def square(number: int) -> int:
    return number * number


def fragile(number: int) -> int:
    """Die in one way or another at multiples of ten."""
    if number % 10 == 0:
        if number % 20:
            os._exit(3)
        os.kill(os.getpid(), signal.SIGSEGV)
    return number


def process(_: int) -> int:
    time.sleep(0.02)
    return os.getpid()


def fail(number: int) -> int:
    raise LookupError(f'no {number}')


def wait_long(number: int) -> int:
    time.sleep(60)
    return number


@pytest.mark.parametrize('workers', [0, 1, 2, 5, None])
@pytest.mark.parametrize('jobs', [0, 1, 3, 200])
def test_every_job_once(workers, jobs):
    got = dict(map_apart(square, range(jobs), workers))
    assert got == {number: number * number for number in range(jobs)}


def test_work_is_shared():
    assert os.getpid() not in dict(map_apart(process, range(2), 1)).values()
    assert len(set(dict(map_apart(process, range(20), 2)).values())) == 2
    assert set(dict(map_apart(process, range(2), 0)).values()) == {
        os.getpid()}


@pytest.mark.parametrize('workers', [1, 3])
def test_a_death_costs_one_job(workers):
    got = dict(map_apart(fragile, range(95), workers))
    assert len(got) == 95
    for number, result in got.items():
        if number % 20 == 0:
            assert result == Crash(-signal.SIGSEGV)
        elif number % 10 == 0:
            assert result == Crash(3)
        else:
            assert result == number


def test_all_may_die():
    got = dict(map_apart(fragile, [10] * 9, 2))
    assert set(got.values()) == {Crash(3)} and len(got) == 9


def test_what_a_crash_says():
    assert str(Crash(3)) == 'ended with status 3'
    assert str(Crash(-11)) == 'was ended by SIGSEGV'
    assert 'out of memory' in str(Crash(-9))
    assert str(Crash(-99)) == 'was ended by signal 99'


@pytest.mark.parametrize('workers', [1, 2])
def test_an_exception_is_a_fault_of_the_program(workers):
    with pytest.raises(RuntimeError, match='(?s)in fail.*LookupError: no 7'):
        list(map_apart(fail, [7], workers))
    with pytest.raises(LookupError):
        list(map_apart(fail, [7], 0))


def test_leaving_ends_the_processes():
    start = time.monotonic()
    with closing(map_apart(process, range(10_000), 2)) as results:
        pids = {next(results)[1], next(results)[1]}
    assert time.monotonic() - start < 5
    for pid in pids:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


@pytest.mark.skipif(sys.platform != 'linux', reason='uses fork')
def test_a_handler_of_this_process_keeps_no_process_alive(monkeypatch):
    """A fork that is not at its own handlers yet has those of its parent."""
    def late(function, link):
        signal.signal(signal.SIGTERM, lambda *_: None)
        link.send((True, os.getpid()))
        time.sleep(30)

    monkeypatch.setattr(apart, '_work', late)
    start = time.monotonic()
    with closing(map_apart(square, range(40), 2)) as results:
        _, pid = next(results)
    assert time.monotonic() - start < 10
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_wrong_number_of_workers():
    with pytest.raises(ConfigError, match='workers=-1'):
        list(map_apart(square, [1], -1))
    assert available_cpus() >= 1


_PARENT = """
import signal
# Ignored where the tests themselves run in the background of a shell.
signal.signal(signal.SIGINT, signal.default_int_handler)
import sys
sys.path.insert(0, sys.argv[1])
from test_apart import map_apart, os, time
def job(number):
    os.write(1, b'%d\\n' % os.getpid())
    time.sleep(0.1)
list(map_apart(job, range(3000), 2))
"""


@pytest.mark.skipif(sys.platform != 'linux', reason='uses fork')
@pytest.mark.parametrize('kill', [signal.SIGKILL, signal.SIGINT])
def test_no_process_is_left_when_the_parent_dies(kill):
    with subprocess.Popen(
            [sys.executable, '-c', _PARENT, os.path.dirname(__file__)],
            stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as parent:
        pids = {int(parent.stdout.readline()) for _ in range(4)}
        parent.send_signal(kill)
        assert parent.wait(10) != 0
        deadline = time.monotonic() + 10
        while any(map(_alive, pids)) and time.monotonic() < deadline:
            time.sleep(0.02)
        left = [pid for pid in pids if _alive(pid)]
        for pid in left:
            os.kill(pid, signal.SIGKILL)
        assert not left


def _alive(pid: int) -> bool:
    try:
        with open(f'/proc/{pid}/stat') as file:
            return file.read().rpartition(')')[2].split()[0] != 'Z'
    except FileNotFoundError:
        return False
