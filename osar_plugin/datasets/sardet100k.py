"""SARDet-100K: boxes of six classes on SAR images of ten sources."""

from __future__ import annotations

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
    LAYOUT_HELP = """Expected layout, one of:
  Annotations/<split>.json, JPEGImages/[<split>/]<name>
  Annotations/<split>.json, Images/<split>/<name>
To try without the data, render some:
  python tools/make_demo_data.py data/demo --sets detection"""

    def read_split(self) -> tuple[BoxTable, list[str]]:
        """Annotations of the split, and the path of each image."""
        split = self.split
        # Copies with two folders keep the images of val beside those of
        # train.
        folders = [
            folder for name in ('JPEGImages', 'Images', 'images')
            for folder in (f'{name}/{split}', name)]
        if split == 'val':
            folders += ['JPEGImages/train', 'Images/train']
        return self.read_json(
            [f'Annotations/{split}.json', f'annotations/{split}.json'],
            folders)
