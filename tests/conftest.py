"""Fixtures that more than one test file uses."""

from __future__ import annotations

import logging
import os
import runpy
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from mmengine.logging import MMLogger
from mmengine.registry import DefaultScope
from PIL import Image

REPO = Path(__file__).resolve().parents[1]


@dataclass
class Ended:
    """How a program ended."""

    code: int
    out: str
    err: str


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the files that hold slow tests.

    Files are dealt out to processes in this order: a slow one at the end
    would keep one of them busy while the others have nothing left to do.
    """
    slow = {item.path for item in items if item.get_closest_marker('slow')}
    items.sort(key=lambda item: item.path not in slow)


@pytest.fixture(scope='module', autouse=True)
def forget_scopes() -> None:
    """Runners of earlier files leave the default scope of their registry."""
    DefaultScope._instance_dict.clear()


@pytest.fixture(scope='session')
def repo() -> Path:
    """The root of the checkout."""
    return REPO


@pytest.fixture
def run_tool(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Callable[..., Ended]:
    """Run ``tools/<name>`` inside this process, which saves its start."""

    def run(name: str, *args: str | Path) -> Ended:
        monkeypatch.setattr(sys, 'argv', [name, *map(str, args)])
        revive_loggers()
        code = 0
        try:
            runpy.run_path(str(REPO / 'tools' / name), run_name='__main__')
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else int(
                end.code is not None)
        captured = capsys.readouterr()
        return Ended(code, captured.out, captured.err)

    return run


def revive_loggers() -> None:
    """Give loggers of earlier tests, whose stream is closed, a new one."""
    for logger in list(MMLogger._instance_dict.values()):
        for handler in logger.handlers:
            if type(handler) is logging.StreamHandler and (
                    handler.stream.closed):
                handler.stream = sys.stderr  # setStream flushes the old one


@pytest.fixture(scope='session')
def run_python() -> Callable[..., Ended]:
    """Run a program in a fresh interpreter."""

    def run(*args: str | Path, **environment: str) -> Ended:
        done = subprocess.run(
            [sys.executable, *map(str, args)],
            capture_output=True,
            text=True,
            cwd=REPO,
            timeout=240,
            env={**os.environ, 'OMP_NUM_THREADS': '1', **environment})
        return Ended(done.returncode, done.stdout, done.stderr)

    return run


@pytest.fixture(scope='session')
def tiny_hoss(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """HOSS on disk as noise: 4 identities, 2 chips per sensor and split."""
    root = tmp_path_factory.mktemp('tiny')
    rng = np.random.default_rng(0)
    for folder, ids, seq in (('bounding_box_train', range(4), 1),
                             ('query', range(4, 8), 1),
                             ('bounding_box_test', range(4, 8), 3)):
        (root / 'HOSS' / folder).mkdir(parents=True)
        for pid in ids:
            for s in (seq, seq + 1):
                _write_chips(rng, root / 'HOSS' / folder, pid, s)
    return root


def _write_chips(rng: np.random.Generator, folder: Path, pid: int,
                 seq: int) -> None:
    for camera, name, channels in ((1, 'RGB', 3), (2, 'SAR', 1)):
        pixels = rng.integers(0, 256, (24, 48, channels), np.uint8)
        Image.fromarray(pixels.squeeze()).save(
            folder / f'{pid:04d}_s{seq:02d}c{camera}_{name}.tif')
