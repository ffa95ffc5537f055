"""What tests of mmdet, mmseg and mmpretrain configs need to be installed."""

from __future__ import annotations

import importlib.util

import pytest

from osar_plugin.utils.env import has_mmcv_ops


def needs(*packages: str) -> None:
    """Skip the test, or the module, where a package or mmcv's ops miss."""
    missing = [package for package in packages
               if importlib.util.find_spec(package) is None]
    if not has_mmcv_ops():
        missing.append('the compiled operators of mmcv')
    if missing:
        pytest.skip(f'needs {" and ".join(missing)}: make setup-full',
                    allow_module_level=True)
