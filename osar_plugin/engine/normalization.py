"""Normalisation over processes, where there is none to be had."""

from __future__ import annotations

from typing import Any

from mmengine.dist import get_world_size
from mmengine.hooks import Hook
from mmengine.logging import print_log
from mmengine.model import revert_sync_batchnorm
from torch import nn

from ..registry import HOOKS


@HOOKS.register_module()
class SyncNormHook(Hook):
    """Make SyncBN BatchNorm where statistics cannot be shared.

    That is in a single process, which has nobody to share them with, and on
    CPUs, for which PyTorch refuses. Weights, statistics and names stay, so
    checkpoints pass from one to the other. Processes on GPUs are left alone.
    """

    # Before hooks that copy the model.
    priority = 'VERY_HIGH'

    def before_run(self, runner: Any) -> None:
        """Look at the model once it is built."""
        model = runner.model
        layers = [
            layer for layer in model.modules()
            if type(layer).__name__ == 'SyncBatchNorm']
        if not layers or (get_world_size() > 1 and not any(
                _on_cpu(layer) for layer in layers)):
            return
        revert_sync_batchnorm(model)
        print_log(
            f'{len(layers)} layers of SyncBN became BatchNorm: '
            f'{get_world_size()} process{"es" * (get_world_size() > 1)}'
            f'{" on CPUs" * _on_cpu(layers[0])} cannot share statistics.',
            logger='current')


def _on_cpu(layer: nn.Module) -> bool:
    return any(value.device.type == 'cpu' for value in (
        *layer.parameters(), *layer.buffers()))
