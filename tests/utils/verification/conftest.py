"""Real images."""

from __future__ import annotations

from pathlib import Path

import pytest

HOSS_MINI = Path(__file__).parents[4] / 'shared' / 'data' / 'hoss_mini'


@pytest.fixture
def real_chips() -> Path:
    """The real chips, where they are."""
    if not HOSS_MINI.is_dir():
        pytest.skip('real chips not there: ../shared/data/hoss_mini')
    return HOSS_MINI
