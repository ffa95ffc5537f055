"""The environment report."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from osar_plugin.utils import env

REQUIREMENTS = Path(__file__).resolve().parents[1] / 'requirements'


def pins() -> dict[str, str]:
    found = {}
    for file in REQUIREMENTS.glob('*.txt'):
        found.update(
            re.findall(r'^([\w.-]+)==(\S+)', file.read_text(), re.MULTILINE))
    return {name.lower(): version for name, version in found.items()}


def test_tested_versions_are_the_pinned_ones() -> None:
    pinned = pins()
    for group in {**env.TESTED, **env.OPTIONAL}.values():
        for name, version in group.items():
            if name in pinned:
                assert version == pinned[name], name


def test_pins_agree_between_files() -> None:
    seen: dict[str, str] = {}
    for file in sorted(REQUIREMENTS.glob('*.txt')):
        for line in file.read_text().splitlines():
            name, _, version = line.partition('==')
            if version and not line.startswith('#'):
                assert seen.setdefault(name, version) == version, name


def test_requirements_name_no_host_and_no_second_opencv() -> None:
    for file in REQUIREMENTS.iterdir():
        text = file.read_text()
        assert '://' not in text
        assert not re.search(r'^opencv-python==', text, re.MULTILINE)


def test_report(capsys: pytest.CaptureFixture[str]) -> None:
    rows = env.collect()
    text = env.report()
    for label in ('osar_plugin', 'mmengine', 'mmcv operators', 'torch',
                  'faiss [index]'):
        assert label in rows
        assert label in text
    assert rows['torch'].startswith('torch ')


def test_clash_and_absence_are_reported(
        monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(env, 'installed', lambda name: '1.0')
    assert any('onedl-mmengine and mmengine' in p for p in env.problems())
    monkeypatch.setattr(env, 'installed', lambda name: None)
    assert any('osar_plugin[onedl]' in p for p in env.problems())
    assert env.collect()['torchreid [reid]'] == 'not installed'
    monkeypatch.setattr(env, 'installed', lambda name: '99.1')
    assert 'tested: 2.13.0' in env.collect()['torch']
