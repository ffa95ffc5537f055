"""SARDet-100K: boxes of six classes on SAR images of ten sources."""

from __future__ import annotations

from collections.abc import Mapping

from osar_plugin.registry import DATASETS

from .box_table import BoxTable
from .detection import DetectionDataset

CLASSES = ('ship', 'aircraft', 'car', 'tank', 'bridge', 'harbor')


@DATASETS.register_module()
class SARDet100KDataset(DetectionDataset):
    """SARDet-100K, in either of its public layouts.

    As published by its authors::

        Annotations/{train,val,test}.json
        JPEGImages/{train,val,test}/*.png    or all in JPEGImages

    and as CoDe-MAE and the copy on Kaggle have it::

        Annotations/{train,test}.json
        Images/{train,test}/*.png

    Published figures choose the best checkpoint on the test split; ``val``
    is for those who would rather not.

    Args:
        data_root: Folder of the data set.
        split: ``'train'``, ``'val'`` or ``'test'``.
        **kwargs: See :class:`~.detection.DetectionDataset`.
    """

    METAINFO = {
        'dataset_type': 'SARDet100K',
        'classes': CLASSES,
        'palette': [(220, 20, 60), (0, 114, 189), (237, 177, 32),
                    (126, 47, 142), (119, 172, 48), (77, 190, 238)]}
    SPLITS = ('train', 'val', 'test')
    #: Images and boxes of the splits, as published.
    COUNTS: Mapping[str, tuple[int, int]] = {
        'train': (94_493, 198_747), 'val': (10_492, 22_703),
        'test': (11_613, 24_023)}
    MISSING_CURE = (
        'Restore them, or leave them out of jsons of your own: '
        'python tools/prepare_data/check_sardet100k.py DATA_ROOT '
        '--write-reduced FOLDER writes them, and ann_file takes them.')
    LAYOUT_HELP = """Expected layout, one of:
  Annotations/<split>.json, JPEGImages/[<split>/]<name>
  Annotations/<split>.json, Images/<split>/<name>
To try without the data, render some:
  python tools/make_demo_data.py data/demo --sets detection"""

    def read_split(self) -> tuple[BoxTable, list[str]]:
        """Annotations of the split, and the path of each image."""
        return self.read_json(*places(self.split))


def places(split: str) -> tuple[list[str], list[str]]:
    """Where the json of a split and its images may lie."""
    folders = [
        folder for name in ('JPEGImages', 'Images', 'images')
        for folder in (f'{name}/{split}', name)]
    if split == 'val':
        # Copies with two folders keep the images of val beside those of
        # train.
        folders += ['JPEGImages/train', 'Images/train']
    return ([f'Annotations/{split}.json', f'annotations/{split}.json'],
            folders)
