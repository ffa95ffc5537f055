"""A training on test images is refused."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from mmengine.config import ConfigDict
from mmengine.dataset import ConcatDataset, RepeatDataset

from osar_plugin.datasets import ListClassification
from osar_plugin.engine import leak_check
from osar_plugin.registry import HOOKS
from osar_plugin.utils.errors import DataFormatError

CLASSES = ('a', 'b')


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Images 0 to 5; train 0 to 2, val 3, 4, mixed 1, 2, 5."""
    for label, name in enumerate(CLASSES):
        (tmp_path / name).mkdir()
        for number in range(3):
            (tmp_path / name / f'{3 * label + number}.png').touch()
    for name, numbers in (('train', '012'), ('val', '34'), ('mixed', '125')):
        (tmp_path / f'{name}.txt').write_text(''.join(
            f'{n}.png {CLASSES[int(n) // 3]} {int(n) // 3}\n'
            for n in numbers))
    return tmp_path


def listed(root: Path, name: str) -> ListClassification:
    return ListClassification(str(root), f'{name}.txt', classes=CLASSES)


def config(root: Path, name: str) -> dict[str, Any]:
    return dict(dataset=dict(
        type='osar_plugin.ListClassification', data_root=str(root),
        list_file=f'{name}.txt', classes=CLASSES, pipeline=[]))


def check(trained: Any, val: Any = None, **loaders: Any) -> None:
    loop = None if val is None else SimpleNamespace()
    runner = SimpleNamespace(
        train_dataloader=SimpleNamespace(dataset=trained), val_loop=loop,
        val_dataloader=SimpleNamespace(dataset=val),
        cfg=ConfigDict(loaders))
    hook = HOOKS.build(dict(type='osar_plugin.ListOverlapHook'))
    hook.before_train(runner)


def test_lists_apart(root: Path) -> None:
    check(listed(root, 'train'), listed(root, 'val'),
          val_dataloader=config(root, 'val'),
          test_dataloader=config(root, 'val'))
    check(listed(root, 'train'))


def test_shared_with_val(root: Path) -> None:
    with pytest.raises(DataFormatError) as caught:
        check(listed(root, 'train'), listed(root, 'mixed'))
    text = str(caught.value)
    assert text.startswith("2 images of the training list 'train.txt' are "
                           "also in 'mixed.txt' of val_dataloader")
    assert f'{root}/a/1.png' in text and 'list_seed' in text


def test_shared_with_test_alone(root: Path) -> None:
    with pytest.raises(DataFormatError, match='2 images.*test_dataloader'):
        check(listed(root, 'train'), listed(root, 'val'),
              val_dataloader=config(root, 'val'),
              test_dataloader=config(root, 'mixed'))
    with pytest.raises(DataFormatError, match='2 images.*test_dataloader'):
        check(listed(root, 'train'), test_dataloader=config(root, 'mixed'))


def test_the_same_folder_under_another_name(root: Path,
                                            tmp_path: Path) -> None:
    (tmp_path / 'link').symlink_to(root)
    with pytest.raises(DataFormatError, match='2 images'):
        check(listed(tmp_path / 'link', 'train'), listed(root, 'mixed'))


def test_inside_of_wrappers(root: Path) -> None:
    trained = listed(root, 'train')
    for wrapped in (RepeatDataset(trained, 2), ConcatDataset([trained])):
        with pytest.raises(DataFormatError, match='2 images'):
            check(wrapped, listed(root, 'mixed'))


def test_a_test_list_that_is_not_there(
        root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    monkeypatch.setattr(
        leak_check, 'print_log', lambda text, **_: said.append(text))
    check(listed(root, 'train'), test_dataloader=config(root, 'none'))
    assert len(said) == 1 and 'none.txt' in said[0]


def test_other_data_sets_are_left_alone(root: Path) -> None:
    check([1, 2], [1], test_dataloader=dict(
        dataset=dict(type='osar_plugin.HOSSDataset')))
    check(listed(root, 'train'), test_dataloader=dict(
        dataset=dict(type='osar_plugin.LoveDA', data_root='none')))
