"""SIGKILL at random moments: nothing is lost, and the end is the same."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

HARNESS = 'tools/benchmark/kill_resume.py'


def trials(run_python: Callable[..., Any], repo: Path,
           *args: str) -> dict[str, Any]:
    ended = run_python(repo / HARNESS, '--json', '--seed', '7', *args)
    assert ended.out, ended.err
    row, = json.loads(ended.out.splitlines()[-1])
    return row


@pytest.mark.slow
@pytest.mark.parametrize('training', ['sdfnet', 'pretrain'])
def test_kills_at_random(training: str, repo: Path,
                         run_python: Callable[..., Any]) -> None:
    row = trials(run_python, repo, '--kills', '6', '--training', training,
                 '--hooks', 'ours')
    assert (row['resumed'], row['identical']) == (6, 6), row['failed']
    assert row['in_training'] >= 2  # not all before the first save


@pytest.mark.slow
def test_kills_of_two_processes(
        repo: Path, run_python: Callable[..., Any]) -> None:
    row = trials(run_python, repo, '--kills', '3', '--training', 'sdfnet',
                 '--hooks', 'ours', '--processes', '2')
    assert (row['resumed'], row['identical']) == (3, 3), row['failed']
