"""Weights that a model starts from."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mmengine.logging import print_log

from ..utils.checkpoint import LoadReport, load_checkpoint
from ..utils.errors import CheckpointError


class SafeWeights:
    """Mix-in: ``init_cfg=dict(type='Pretrained')`` with a report.

    The file goes through :func:`load_checkpoint`, which says what matched;
    with ``optional=True`` a missing file is a warning, not an error.

    Attributes:
        load_report: What became of the weights loaded last.
    """

    init_cfg: Any
    load_report: LoadReport | None = None

    def init_weights(self) -> None:
        """Initialise, then load the file that ``init_cfg`` names."""
        init_cfg = self.init_cfg
        pretrained = isinstance(init_cfg, dict) and str(
            init_cfg.get('type')) == 'Pretrained'
        if pretrained:
            self.init_cfg = None
        super().init_weights()  # type: ignore[misc]
        self.init_cfg = init_cfg
        if pretrained:
            self._load_pretrained(init_cfg)

    def _load_pretrained(self, init_cfg: Mapping[str, Any]) -> None:
        path = init_cfg['checkpoint']
        # What has a scheme is an address, for the loader to judge.
        missing = '://' not in path and not Path(path).expanduser().is_file()
        if missing and not init_cfg.get('optional'):
            raise CheckpointError(
                f'init_cfg.checkpoint={path!r}: there is no such file. Put '
                'it there, name another, or set init_cfg.optional=True to '
                'start from random weights without it.')
        if missing:
            print_log(
                f'NO PRE-TRAINED WEIGHTS: there is no {path!r}. Training '
                'starts from random weights and will not reach the published '
                'figures. Put the file there, or name it with --cfg-options '
                'model.init_cfg.checkpoint=FILE; configs/README.md says '
                'where it is published.',
                logger='current',
                level=logging.WARNING)
            return
        load_checkpoint(self, path)  # type: ignore[arg-type]
