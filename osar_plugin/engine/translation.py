"""Averaged weights and learning rate of the translator's recipe (BBDM)."""

from __future__ import annotations

import logging
import math
from typing import Any

import torch
from mmengine.dist import all_reduce
from mmengine.hooks import EMAHook
from mmengine.logging import MessageHub, print_log
from mmengine.optim import _ParamScheduler
from mmengine.optim.scheduler.lr_scheduler import LRSchedulerMixin

from ..registry import HOOKS, PARAM_SCHEDULERS
from ..utils.errors import ConfigError


@PARAM_SCHEDULERS.register_module()
class TrainingPlateauLR(LRSchedulerMixin, _ParamScheduler):
    """Lower the rate when the training loss has stopped falling.

    PyTorch's ``ReduceLROnPlateau`` fed with the loss of single batches, once
    for each step of the optimizer, as BBDM does. (MMEngine's rule of that
    name waits for figures of a validation.) Single batches are noisy: the
    best of them is seldom beaten, so with the published numbers the rate is
    about halved every ``patience + cooldown`` steps, whatever the trend.

    With several processes the mean of their losses counts, so that all keep
    the same rate.

    Args:
        optimizer: The optimizer or its wrapper.
        factor: Factor of a reduction, within 0..1.
        patience: Steps without a new best loss before a reduction.
        threshold: A loss is a new best if it is lower by this share.
        cooldown: Steps after a reduction in which none is counted.
        min_lr: Lowest rate.
        interval: Iterations of one step: ``accumulative_counts`` of the
            optimizer wrapper.
        monitor: The scalar that is watched.
        by_epoch: Must be given as ``False``: where it is missing, MMEngine
            ends a schedule after as many iterations as there are epochs.
        **kwargs: As for MMEngine's schedulers.

    Raises:
        ConfigError: If an argument cannot be used.
    """

    def __init__(self,
                 optimizer: Any,
                 factor: float = 0.5,
                 patience: int = 3000,
                 threshold: float = 1e-4,
                 cooldown: int = 3000,
                 min_lr: float = 5e-7,
                 interval: int = 1,
                 monitor: str = 'train/loss',
                 by_epoch: bool = True,
                 **kwargs: Any) -> None:
        if by_epoch:
            raise ConfigError(
                'by_epoch=True: TrainingPlateauLR follows the loss of '
                'iterations. Say by_epoch=False in param_scheduler.')
        if not 0 < factor < 1 or min(patience, cooldown) < 0 or interval < 1:
            raise ConfigError(
                f'factor={factor}, patience={patience}, cooldown={cooldown}, '
                f'interval={interval}: expected 0 < factor < 1, patience and '
                'cooldown of 0 or more, interval of 1 or more.')
        self.factor = factor
        self.patience = patience
        self.threshold = threshold
        self.cooldown = cooldown
        self.min_lr = min_lr
        self.interval = interval
        self.monitor = monitor
        self.best = math.inf
        self.num_bad = 0
        self.cooling = 0
        super().__init__(optimizer, by_epoch=False, **kwargs)

    def _get_value(self) -> list[float]:
        """The rates after an iteration."""
        rates: list[float] = [
            group[self.param_name] for group in self.optimizer.param_groups]
        # The first call is that of the constructor.
        if self.last_step == 0 or self.last_step % self.interval:
            return rates
        if not self._is_due(self._loss()):
            return rates
        return [max(rate * self.factor, self.min_lr) for rate in rates]

    def _loss(self) -> float:
        """The loss of the last batch, mean over the processes."""
        hub = MessageHub.get_current_instance()
        if self.monitor not in hub.log_scalars:
            raise ConfigError(
                f'monitor={self.monitor!r} is not logged; there are '
                f'{", ".join(sorted(hub.log_scalars)) or "no scalars"}.')
        loss = torch.tensor(
            float(hub.get_scalar(self.monitor).current()))
        all_reduce(loss, 'mean')
        return float(loss)

    def _is_due(self, loss: float) -> bool:
        """Count a loss; whether the rate is to be lowered."""
        if loss < self.best * (1 - self.threshold):
            self.best, self.num_bad = loss, 0
        else:
            self.num_bad += 1
        if self.cooling > 0:
            self.cooling -= 1
            self.num_bad = 0
        if self.num_bad <= self.patience:
            return False
        self.num_bad, self.cooling = 0, self.cooldown
        return True


@HOOKS.register_module()
class BridgeEMAHook(EMAHook):
    """Averaged weights after BBDM's rule.

    Every ``interval`` iterations the average takes ``momentum`` of the
    weights, before ``begin_iter`` all of them. Validation and checkpoints
    have the averaged weights, as MMEngine's hook arranges it.

    Unlike that hook, this one leaves what is not trained alone (the codec
    shares its memory with the model's), does not copy the whole model in
    each iteration before it begins, and lets a training end before it has
    begun: the average is then a recent copy of the weights.

    Args:
        momentum: Share of the new weights; 1 - 0.995 as published.
        interval: Iterations between updates; as published, 8 steps of the
            optimizer, i.e. 8 times ``accumulative_counts``.
        begin_iter: First iteration at which an average is formed.

    Raises:
        ConfigError: If an argument cannot be used.
    """

    def __init__(self,
                 momentum: float = 0.005,
                 interval: int = 8,
                 begin_iter: int = 30000) -> None:
        if not 0 < momentum < 1 or interval < 1 or begin_iter < 0:
            raise ConfigError(
                f'momentum={momentum}, interval={interval}, begin_iter='
                f'{begin_iter}: expected 0 < momentum < 1, interval of 1 or '
                'more, begin_iter of 0 or more.')
        super().__init__(begin_iter=begin_iter, momentum=momentum)
        self.momentum = momentum
        self.interval = interval

    def before_run(self, runner: Any) -> None:
        """Copy the model; what is not trained is shared, not copied."""
        super().before_run(runner)
        for own, source in self._pairs():
            own.requires_grad_(False)
            if not source.requires_grad:
                own.data = source.data

    def before_train(self, runner: Any) -> None:
        """Say so where the training is too short to form an average."""
        if self.begin_iter > runner.max_iters:
            print_log(
                f'Averaging begins at iteration {self.begin_iter}, the '
                f'training ends at {runner.max_iters}: checkpoints hold the '
                f'weights of their last {self.interval} iterations.',
                logger='current',
                level=logging.INFO)

    def after_train_iter(self, runner: Any, batch_idx: int,
                         data_batch: Any = None,
                         outputs: Any = None) -> None:
        """Update the average where it is due."""
        step = runner.iter + 1
        if step % self.interval:
            return
        share = self.momentum if step >= self.begin_iter else 1.
        pairs = [(a.data, b.data) for a, b in self._pairs()
                 if b.requires_grad]
        torch._foreach_lerp_(
            [a for a, _ in pairs], [b for _, b in pairs], share)
        for own, source in zip(self.ema_model.module.buffers(),
                               self.src_model.buffers(), strict=True):
            own.data.copy_(source.data)

    def _pairs(self) -> list[tuple[Any, Any]]:
        """Parameters of the average and of the model."""
        return list(zip(self.ema_model.module.parameters(),
                        self.src_model.parameters(), strict=True))
