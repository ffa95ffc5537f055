"""OptiSar_Pair: optical-SAR pairs for the pre-training of TransOSS."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from mmengine.logging import print_log

from osar_plugin.registry import DATASETS
from osar_plugin.utils.config_values import Buildable
from osar_plugin.utils.errors import DataFormatError, DatasetNotFoundError

from .layout import (
    MODALITIES,
    ShipDataset,
    check_suffixes,
    list_images,
    shorten,
)

_NAME = re.compile(r'[^_]+_(?P<pid>\d+)_(?:.*_)?(?P<modality>RGB|SAR)')

LAYOUT_HELP = """Expected layout (data_root is the folder with OptiSar_Pair \
in it, or OptiSar_Pair itself):
  OptiSar_Pair/
    0000/<prefix>_<pid>_..._RGB.{tif,png}
    0000/<prefix>_<pid>_..._SAR.{tif,png}
    0001/...
The pairs are published with HOSS-ReID in Zenodo record 15860212 \
(https://zenodo.org/records/15860212) as a split archive: \
pretrain_data.z01 and pretrain_data.zip are both needed.
To try without them, render demo data and use the demo config:
  python tools/make_demo_data.py data/demo
  python tools/train.py configs/demo/transoss_pretrain.py"""


@DATASETS.register_module()
class OptiSarPair(ShipDataset):
    """Pairs of an optical and a SAR image of the same identity.

    Files lie one folder deep; the identity is the second part of the name,
    the modality the last. Every combination of an optical and a
    SAR image of one identity is a row, identities in ascending order, and
    within one the paths in theirs. Identities with one modality make no
    pair; their number is logged.

    Each row has ``optical_path``, ``sar_path``, ``pid``, and ``label``
    (0 to C - 1).

    Args:
        data_root: The folder ``OptiSar_Pair``, or the one that contains it.
        suffixes: File suffixes to read.
        pipeline: Transforms, such as ``PairPipeline`` and
            ``PackPairInputs``.
        **kwargs: Further arguments of ``BaseDataset``.

    Raises:
        DatasetNotFoundError: If the folder is missing or holds no pair.
        DataFormatError: If a file name does not parse.
    """

    METAINFO = {'dataset_type': 'OptiSarPair'}

    def __init__(
            self,
            data_root: str = 'data/optisar_pair',
            suffixes: Sequence[str] = ('.tif', '.png'),
            pipeline: Sequence[Buildable] = (),
            **kwargs: Any) -> None:
        self.suffixes = check_suffixes(suffixes)
        super().__init__(
            data_root=str(data_root), pipeline=list(pipeline), **kwargs)

    def load_data_list(self) -> list[dict[str, Any]]:
        """List all pairs."""
        root = Path(self.data_root)
        if (root / 'OptiSar_Pair').is_dir():
            root = root / 'OptiSar_Pair'
        if not root.is_dir():
            raise DatasetNotFoundError(
                f'{root}: no such folder.\n{LAYOUT_HELP}')
        ships: dict[int, tuple[list[str], list[str]]] = {}
        for path in self._files(root):
            pid, modality = _parse(path)
            ships.setdefault(pid, ([], []))[modality].append(str(path))
        single = [pid for pid, sides in ships.items() if not all(sides)]
        pids = sorted(set(ships) - set(single))
        if not pids:
            raise DatasetNotFoundError(
                f'{root}: no identity with both an optical and a SAR image '
                f'of suffix {list(self.suffixes)}.\n{LAYOUT_HELP}')
        if single:
            print_log(
                f'{root}: {len(single)} identities have one modality and '
                f'make no pair ({shorten(single)}).', logger='current')
        self._metainfo['num_ids'] = len(pids)
        return [
            {'optical_path': optical, 'sar_path': sar, 'pid': pid,
             'label': label}
            for label, pid in enumerate(pids)
            for optical, sar in itertools.product(*ships[pid])]

    def _files(self, root: Path) -> Iterator[Path]:
        for folder in sorted(root.iterdir()):
            if folder.is_dir() and not folder.name.startswith('.'):
                yield from list_images(folder, self.suffixes)


def _parse(path: Path) -> tuple[int, int]:
    """Identity and modality, from the name of a file."""
    match = _NAME.fullmatch(path.stem)
    if match is None:
        raise DataFormatError(
            f'{path}: the name does not follow <prefix>_<pid>_..._<RGB|SAR>'
            ', e.g. sen_000123_p4_SAR.png. Rename the file or take it out of '
            'the folder.')
    return int(match['pid']), MODALITIES[match['modality']]
