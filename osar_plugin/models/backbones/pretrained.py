"""How a backbone starts from a checkpoint, whoever wrote it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mmengine.logging import print_log
from mmengine.model import BaseModule
from torch import Tensor, nn

from ...utils.checkpoint import (
    LoadReport,
    read_checkpoint,
    unwrap_state_dict,
)
from ...utils.errors import (
    CheckpointError,
    CheckpointMismatchError,
    ConfigError,
)
from ...utils.published import explain_missing

PREFIXES = ('module.', 'backbone.', 'encoder.')
LEAST = 0.9


def bare_weights(content: Mapping[str, Any],
                 prefix: str = '') -> dict[str, Tensor]:
    """The tensors of a checkpoint by the names inside the backbone.

    Args:
        content: Of a file, in any accepted layout.
        prefix: Of the backbone's keys; '' to find it.

    Raises:
        CheckpointMismatchError: If no key begins with ``prefix``.
    """
    source = {
        key: value for key, value in unwrap_state_dict(content).items()
        if isinstance(value, Tensor)}
    if prefix:
        prefix = prefix.rstrip('.') + '.'
        chosen = below(source, prefix)
        if not chosen:
            raise CheckpointMismatchError(
                f'No key of the checkpoint begins with prefix={prefix!r}; '
                f'it has {", ".join(list(source)[:4])}, ... Leave the '
                'prefix out to have it found.')
        source = chosen
    while inner := next(filter(None, (
            below(source, name) for name in PREFIXES)), {}):
        source = inner
    return source


def below(source: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """The entries whose keys begin with a prefix, without it."""
    return {
        key.removeprefix(prefix): value for key, value in source.items()
        if key.startswith(prefix)}


def require_fit(report: LoadReport, model: nn.Module, fresh: tuple[str, ...],
                left: list[str]) -> None:
    """Refuse a file that would leave much of a backbone random.

    Args:
        report: On the file.
        model: The receiver.
        fresh: Parts of keys that may be missing in any number.
        left: Keys of the file without which it makes no sense.

    Raises:
        CheckpointMismatchError: If less than 90 % of the other keys are
            filled or any key is in ``left``.
    """
    absent = [k for k in report.missing if not any(f in k for f in fresh)]
    needed = len(report.loaded) + len(absent)
    if len(report.loaded) < LEAST * needed or left:
        raise CheckpointMismatchError(
            f'{len(report.loaded)} of {needed} keys of '
            f'{type(model).__name__} are in the checkpoint (at least '
            f'{LEAST:.0%} expected) and {len(left)} of its blocks are left '
            f'over. Missing: {", ".join(absent[:4]) or "none"}; left over: '
            f'{", ".join(left[:4]) or "none"}. Set arch and num_outs of the '
            'backbone as in the file.')


def load_backbone(model: nn.Module, path: str,
                  prefix: str = '') -> LoadReport:
    """Load a checkpoint of any accepted layout into a backbone.

    Args:
        model: One with :func:`adapt_on_load`.
        path: The file; never unpickled.
        prefix: See :func:`bare_weights`.

    Returns:
        What became of its entries; also logged.

    Raises:
        CheckpointError: If the file cannot be used.
    """
    content = read_checkpoint(path)
    print_log(f'Weights from {path}', logger='current')
    model.load_state_dict(bare_weights(content, prefix), strict=False)
    return model.load_report  # type: ignore[return-value]


class PretrainedBackbone(BaseModule):
    """A backbone whose ``init_cfg`` takes files of every known layout.

    ``init_cfg=dict(type='Pretrained', checkpoint=FILE)``, with ``prefix``
    where the keys have an unusual one.

    Attributes:
        load_report: What became of the weights loaded last.
    """

    init_cfg: Any
    load_report: LoadReport | None = None

    def init_weights(self) -> None:
        """Draw the official initialisation, then load ``init_cfg`` if any.

        Raises:
            ConfigError: If it names no file.
            CheckpointError: If the file cannot be used.
        """
        self.draw_weights()
        init_cfg = self.init_cfg
        named = isinstance(init_cfg, dict) and (
            init_cfg.get('type') == 'Pretrained')
        if named and not init_cfg.get('checkpoint'):
            raise ConfigError(
                f'init_cfg={init_cfg!r} names no checkpoint: expected '
                "dict(type='Pretrained', checkpoint=FILE).")
        self.init_cfg = None if named else init_cfg
        super().init_weights()
        self.init_cfg = init_cfg
        if named:
            path = str(init_cfg['checkpoint'])
            if not Path(path).expanduser().is_file():
                raise CheckpointError(explain_missing(path))
            load_backbone(self, path, init_cfg.get('prefix') or '')

    def draw_weights(self) -> None:
        """Linear layers from a normal of 0.02 that is cut off, biases 0."""
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=0.02)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
