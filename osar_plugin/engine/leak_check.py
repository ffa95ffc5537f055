"""Training images that are test images as well."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from functools import lru_cache
from typing import Any

from mmengine.hooks import Hook
from mmengine.logging import print_log

from osar_plugin.datasets.layout import shorten
from osar_plugin.datasets.scene_list import SceneList

from ..registry import DATASETS, HOOKS
from ..utils.errors import DataFormatError, DatasetNotFoundError


@HOOKS.register_module()
class ListOverlapHook(Hook):
    """Stop a training on images that it is evaluated or tested on.

    A data set sees its own list alone; this hook compares the list of
    training with those of val and of test, which is built for it where it is
    another one. Data sets other than of
    :class:`~osar_plugin.datasets.scene_list.SceneList` are left alone.

    Raises:
        DataFormatError: If lists have files in common.
    """

    priority = 'HIGHEST'

    def before_train(self, runner: Any) -> None:
        """Compare the lists once they are built."""
        trained = runner.train_dataloader.dataset
        for key, dataset in (('val_dataloader', _val_dataset(runner)),
                             ('test_dataloader', _test_dataset(runner))):
            if dataset is not None:
                check_overlap(trained, dataset, key)


def _val_dataset(runner: Any) -> Any:
    """The data set of the evaluations; None where there are none."""
    return None if runner.val_loop is None else runner.val_dataloader.dataset


def _test_dataset(runner: Any) -> Any:
    """The data set of the test, if it is not that of the evaluations."""
    loaders = [(runner.cfg.get(key) or {}) for key in (
        'val_dataloader', 'test_dataloader')]
    val, test = (loader.get('dataset') for loader in loaders)
    if not isinstance(test, dict) or test == val:
        return None
    kind = DATASETS.get(test['type']) if 'type' in test else None
    if not (isinstance(kind, type) and issubclass(kind, SceneList)):
        return None
    try:
        return DATASETS.build(dict(test, pipeline=[], lazy_init=False))
    except DatasetNotFoundError as error:
        print_log(
            'The training images could not be compared with those of '
            f'test_dataloader, which are not there: {error}',
            logger='current', level=logging.WARNING)
        return None


def check_overlap(trained: Any, tested: Any, key: str) -> None:
    """Refuse two data sets that share files.

    Args:
        trained: The data set of training, or a wrapper of some.
        tested: Another one.
        key: Of its loader in the config, for the message.

    Raises:
        DataFormatError: If they do.
    """
    ours = {path: _name(part)
            for part in _lists(trained) for path in _files(part)}
    for part in _lists(tested):
        common = sorted(ours.keys() & set(_files(part)))
        if common:
            raise DataFormatError(
                f'{len(common)} images of the training list '
                f'{ours[common[0]]!r} are also in {_name(part)!r} of {key} '
                f'({shorten(common, 3)}): a figure would be of images that '
                'were trained on. Take lists of the same draw, e.g. the '
                'same list_shots and list_seed for both, or draw them again '
                'with tools/prepare_data/few_shot_lists.py --rest.')


def _lists(dataset: Any) -> Iterator[SceneList]:
    """The lists in a data set, also inside of wrappers."""
    if isinstance(dataset, SceneList):
        yield dataset
    for inner in (getattr(dataset, 'dataset', None),
                  *(getattr(dataset, 'datasets', None) or ())):
        if inner is not None:
            yield from _lists(inner)


def _name(part: SceneList) -> str:
    """What a data set was read from."""
    return str(part.list_file or getattr(part, 'folder', ''))


def _files(part: SceneList) -> list[str]:
    """Absolute paths of all images; links of folders are followed."""
    real = lru_cache(maxsize=None)(os.path.realpath)
    files = []
    for index in range(len(part)):
        folder, name = os.path.split(part.get_data_info(index)['img_path'])
        files.append(os.path.join(real(folder), name))
    return files
