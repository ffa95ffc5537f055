"""Checks that a config alone does not allow."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping, Sequence
from typing import Any

from mmengine.hooks import Hook
from mmengine.logging import print_log
from torch import nn

from ..registry import HOOKS
from ..utils.checkpoint import bare_model
from ..utils.errors import ConfigError

OTHER_CLASSES = ('rpn_head', 'semantic_head')


@HOOKS.register_module()
class DataCheckHook(Hook):
    """Stop a run whose data and model do not fit, before its first step.

    Raises:
        ConfigError: If the training loader has no batch, which MMEngine
            would train on for all epochs without a word; if the sampler
            composes batches of another size than the loader cuts; if a head
            has another number of classes than the data set, or the data
            sets of training and validation have different classes; or if a
            checkpoint has the classes of the data set in another order, so
            that each label would be counted for another class.

    Identities (``metainfo.open_set``) are not classes: those of a test are
    not those of the training.
    """

    priority = 'HIGHEST'

    def __init__(self) -> None:
        self.stored: list[str] = []

    def after_load_checkpoint(self, runner: Any,
                              checkpoint: dict[str, Any]) -> None:
        """Note the classes that the checkpoint was trained on."""
        self.stored = class_names(
            (checkpoint.get('meta') or {}).get('dataset_meta'))

    def before_train(self, runner: Any) -> None:
        """Look at the loader once it is built."""
        loader = runner.train_dataloader
        check_batches(loader)
        classes = class_names(getattr(loader.dataset, 'metainfo', None))
        self._check(runner, classes)
        if getattr(runner, '_val_loop', None) is not None:
            held_out = class_names(
                getattr(runner.val_dataloader.dataset, 'metainfo', None))
            if classes and held_out and classes != held_out:
                raise ConfigError(
                    'The data sets of training and validation have '
                    f'different classes: {_difference(classes, held_out)}. '
                    'Give both the same metainfo.classes.')

    def before_test(self, runner: Any) -> None:
        """The same for what is evaluated."""
        self._check(runner, class_names(
            getattr(runner.test_dataloader.dataset, 'metainfo', None)))

    def _check(self, runner: Any, classes: Sequence[str]) -> None:
        if classes:
            check_heads(bare_model(runner), classes)
        check_order(self.stored, classes)


def check_batches(loader: Any) -> None:
    """Whether a training loader has batches, of the size it says.

    Raises:
        ConfigError: See :class:`DataCheckHook`.
    """
    # Not of the loader: hooks may have put another one in its place.
    batches = loader.batch_sampler
    size = getattr(batches, 'batch_size', None)
    sampler = getattr(batches, 'sampler', None)
    composed = getattr(sampler, 'batch_size', size)
    if composed != size:
        raise ConfigError(
            f'train_dataloader.batch_size={size}, but its '
            f'sampler composes batches of {composed}: identities would '
            'be torn apart. Give train_dataloader.sampler.batch_size '
            'the same value.')
    if len(loader) == 0:
        raise ConfigError(
            f'The training loader has no batch: {len(loader.dataset)} '
            f'samples, batch_size={size} and drop_last='
            f'{getattr(batches, "drop_last", False)}. Use a smaller '
            'train_dataloader.batch_size or more data.')


def class_names(metainfo: Any) -> list[str]:
    """Names in the order of their labels; none where there are none.

    Nor are identities: see :class:`DataCheckHook`.

    Args:
        metainfo: Of a data set, or what a checkpoint keeps of one.
    """
    if not isinstance(metainfo, Mapping) or metainfo.get('open_set'):
        return []
    names = metainfo.get('classes') or metainfo.get('CLASSES') or ()
    return [] if isinstance(names, str) else [str(name) for name in names]


def check_heads(model: nn.Module, classes: Sequence[str]) -> None:
    """Compare the outputs of a model's heads with the classes of its data.

    Classifiers of MMPretrain may have more outputs than there are classes,
    as the published one of SAR-ACD has. Region proposals know no classes,
    and heads of stuff beside the objects have classes of their own.

    Raises:
        ConfigError: Naming the part of the model.
    """
    for name, part in model.named_modules():
        outputs = getattr(part, 'num_classes', None)
        if (type(outputs) is not int or outputs < 1
                or name.rpartition('.')[2] in OTHER_CLASSES):
            continue
        spare = type(part).__module__.startswith('mmpretrain')
        if outputs < len(classes) or outputs > len(classes) and not spare:
            raise ConfigError(
                f'model.{name}.num_classes={outputs}, but the data set has '
                f'{len(classes)} classes ({_shorten(classes)}). Set '
                f'model.{name}.num_classes={len(classes)}, or choose the '
                'classes with the metainfo of the data sets.')


def check_order(stored: Sequence[str], classes: Sequence[str]) -> None:
    """Compare the classes of a checkpoint with those of the data.

    Names that differ in case and separators alone are the same. Another
    set of classes is a warning: the weights may be there to be fine-tuned,
    or classes renamed.

    Args:
        stored: Names in the order of the checkpoint's labels.
        classes: In that of the data set.

    Raises:
        ConfigError: If the same names are in another order.
    """
    old, new = _plain(stored), _plain(classes)
    if not old or not new or old == new:
        return
    if sorted(old) == sorted(new):
        first = next(
            label for label, (one, other) in enumerate(
                zip(old, new, strict=True)) if one != other)
        order = [classes[new.index(name)] for name in old]
        raise ConfigError(
            'The checkpoint and the data set have the same classes in '
            f'another order: label {first} is {stored[first]!r} in the '
            f'checkpoint and {classes[first]!r} in the data set, so labels '
            'would be counted for other classes. Give the data sets the '
            f'order of the checkpoint: metainfo=dict(classes={order}).')
    print_log(
        'The checkpoint was trained on other classes than the data set has: '
        f'{_difference(stored, classes)}.', logger='current',
        level=logging.WARNING)


def _plain(names: Sequence[str]) -> list[str]:
    return [re.sub('[^a-z0-9]', '', name.lower()) for name in names]


def _difference(one: Sequence[str], other: Sequence[str]) -> str:
    return f'{len(one)} ({_shorten(one)}) and {len(other)} ({_shorten(other)})'


def _shorten(names: Sequence[str]) -> str:
    head = ', '.join(names[:6])
    return head if len(names) <= 6 else f'{head}, ...'
