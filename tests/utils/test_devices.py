"""Which precision networks run in."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from osar_plugin.engine import optim
from osar_plugin.utils import devices
from osar_plugin.utils.devices import half_precision
from osar_plugin.utils.errors import ConfigError


def test_choice_of_precision(monkeypatch: pytest.MonkeyPatch) -> None:
    cpu = torch.device('cpu')
    for has, expected in ((True, torch.bfloat16), (False, None)):
        monkeypatch.setattr(devices, 'has_bfloat16', lambda has=has: has)
        assert half_precision('auto', cpu) is expected
        assert half_precision(True, cpu) is torch.bfloat16
        assert half_precision(False, cpu) is None
    with pytest.raises(ConfigError, match="amp='half'"):
        half_precision('half', cpu)


@pytest.mark.parametrize('has', [True, False])
def test_emulated_training_is_warned_of(
        has: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    said = []
    monkeypatch.setattr(optim, 'has_bfloat16', lambda: has)
    monkeypatch.setattr(
        optim, 'print_log', lambda text, **_: said.append(text))
    optim.CPUAmpOptimWrapper(
        optimizer=torch.optim.SGD(nn.Linear(1, 1).parameters(), lr=0.1))
    assert len(said) == (not has)
    assert all('without --amp' in text for text in said)
