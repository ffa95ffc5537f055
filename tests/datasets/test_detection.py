"""Detection data sets: names, boxes, layouts and damaged files."""

from __future__ import annotations

import json
import logging
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from osar_plugin.datasets import DIORDataset, SARDet100KDataset, detection
from osar_plugin.datasets.coco_json import (
    read_coco,
    to_coco,
    write_coco,
)
from osar_plugin.datasets.dior import CLASSES as DIOR_CLASSES
from osar_plugin.datasets.instance_masks import mask_boxes, read_hrsid
from osar_plugin.datasets.sardet100k import CLASSES as SARDET_CLASSES
from osar_plugin.datasets.synthetic import (
    DetectionSettings,
    WorldError,
    write_detection,
)
from osar_plugin.datasets.synthetic.land.detection import DIOR_NAMES
from osar_plugin.datasets.voc_xml import parse_voc
from osar_plugin.registry import DATASETS
from osar_plugin.utils.errors import (
    ConfigError,
    DataFormatError,
    DatasetNotFoundError,
)

SHARED = Path(__file__).resolve().parents[2].parent / 'shared/data'
# Numbers that are neither in order nor dense, names in another order.
SHUFFLED = {40: 'bridge', 7: 'ship', 3: 'harbor', 99: 'aircraft', 12: 'tank',
            5: 'car'}
BOXES = [
    # image, category, bbox, iscrowd
    (500, 7, [10, 20, 30, 12.5], 0), (500, 40, [0, 0, 5, 5], 1),
    (2, 12, [-4, 30, 20, 40], 0), (2, 7, [63.5, 10, 30, 10], 0)]


def pixels(path, width=64, height=48):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new('L', (width, height), 7).save(path)


def content(**changes):
    return dict(dict(
        images=[dict(id=500, file_name='b.png', width=64, height=48),
                dict(id=2, file_name='a.png', width=64, height=48),
                dict(id=9, file_name='c.png', width=64, height=20)],
        categories=[dict(id=k, name=v) for k, v in SHUFFLED.items()],
        annotations=[dict(id=i, image_id=image, category_id=number,
                          bbox=box, iscrowd=crowd)
                     for i, (image, number, box, crowd) in enumerate(BOXES)]),
        **changes)


def sardet(root, folder='JPEGImages/train', text=None, split='train',
           **changes):
    (root / 'Annotations').mkdir(parents=True, exist_ok=True)
    (root / f'Annotations/{split}.json').write_text(
        json.dumps(content(**changes)) if text is None else text)
    for name, height in (('a', 48), ('b', 48), ('c', 20)):
        pixels(root / folder / f'{name}.png', 64, height)
    return str(root)


def test_labels_follow_names_not_numbers(tmp_path):
    data = SARDet100KDataset(sardet(tmp_path))
    assert data.metainfo['classes'] == SARDET_CLASSES
    rows = [data.get_data_info(i) for i in range(len(data))]
    assert [row['img_id'] for row in rows] == [500, 2, 9]
    assert [(row['width'], row['height']) for row in rows] == [
        (64, 48), (64, 48), (64, 20)]
    assert rows[0]['img_path'] == str(tmp_path / 'JPEGImages/train/b.png')
    assert rows[0]['instances'] == [
        dict(bbox=[10, 20, 40, 32.5], bbox_label=0, ignore_flag=0),
        dict(bbox=[0, 0, 5, 5], bbox_label=4, ignore_flag=1)]
    # Clipped to the image; what has half a pixel left is left out.
    assert rows[1]['instances'] == [
        dict(bbox=[0, 30, 16, 48], bbox_label=3, ignore_flag=0)]
    assert rows[2]['instances'] == []
    assert data.get_cat_ids(0) == [0, 4]


def test_lost_boxes_are_counted(tmp_path, monkeypatch):
    messages = []
    monkeypatch.setattr(
        detection, 'print_log', lambda text, **kw: messages.append(
            (kw.get('level', logging.INFO), text)))
    SARDet100KDataset(sardet(tmp_path))
    warnings = [t for level, t in messages if level == logging.WARNING]
    assert len(warnings) == 1
    assert '1 of 4 boxes' in warnings[0] and 'a.png' in warnings[0]


def test_classes_of_the_config_decide(tmp_path):
    """In another order, with the colours that belong to them."""
    order = tuple(reversed(SARDET_CLASSES))
    data = SARDet100KDataset(
        sardet(tmp_path), metainfo=dict(classes=order))
    assert data.get_cat_ids(0) == [5, 1]
    colours = SARDet100KDataset.METAINFO['palette']
    assert list(data.metainfo['palette']) == colours[::-1]


def test_names_that_do_not_match(tmp_path):
    categories = [dict(id=k, name=v.capitalize() if k == 7 else v)
                  for k, v in SHUFFLED.items()]
    root = sardet(tmp_path, categories=categories)
    with pytest.raises(DataFormatError, match=(
            r"'Ship' of the annotations is no class; the class 'ship' is "
            r'not in.*Classes: ship, aircraft.*class_aliases')):
        SARDet100KDataset(root)
    data = SARDet100KDataset(root, class_aliases={'Ship': 'ship'})
    assert data.get_cat_ids(0) == [0, 4]
    fewer = tuple(n for n in SARDET_CLASSES if n != 'ship')
    data = SARDet100KDataset(
        root, metainfo=dict(classes=fewer), class_aliases={'Ship': None})
    assert data.get_cat_ids(0) == [3]
    with pytest.raises(DataFormatError, match="'Ship' of the annotations"):
        SARDet100KDataset(root, metainfo=dict(classes=fewer))


@pytest.mark.parametrize('folder', [
    'JPEGImages/train', 'JPEGImages', 'Images/train'])
def test_sardet_layouts(tmp_path, folder):
    data = SARDet100KDataset(sardet(tmp_path, folder))
    assert data.get_data_info(1)['img_path'] == str(
        tmp_path / folder / 'a.png')


@pytest.mark.parametrize('split,folder', [
    ('val', 'JPEGImages/val'), ('val', 'JPEGImages'), ('val', 'Images/val'),
    # Mirrors with two folders have them beside those of train.
    ('val', 'Images/train'), ('val', 'JPEGImages/train'),
    ('test', 'JPEGImages/test'), ('test', 'Images/test')])
def test_sardet_other_splits(tmp_path, split, folder):
    data = SARDet100KDataset(
        sardet(tmp_path, folder, split=split), split=split)
    assert [data.get_data_info(i)['img_path'] for i in range(3)] == [
        str(tmp_path / folder / f'{name}.png') for name in 'bac']


def test_own_folder_of_val_goes_first(tmp_path):
    for folder in ('Images/train', 'Images/val'):
        root = sardet(tmp_path, folder, split='val')
    data = SARDet100KDataset(root, split='val')
    assert data.get_data_info(0)['img_path'] == str(
        tmp_path / 'Images/val/b.png')


def test_test_images_are_not_looked_for_in_train(tmp_path):
    root = sardet(tmp_path, 'Images/train', split='test')
    with pytest.raises(DatasetNotFoundError, match='first image'):
        SARDet100KDataset(root, split='test')


def test_given_files_go_first(tmp_path):
    root = sardet(tmp_path, 'elsewhere')
    shutil.move(tmp_path / 'Annotations/train.json', tmp_path / 'own.json')
    data = SARDet100KDataset(
        root, split='test', ann_file='own.json',
        data_prefix=dict(img='elsewhere'))
    assert Path(data.get_data_info(0)['img_path']).is_file()


def test_filter(tmp_path):
    root = sardet(tmp_path)

    def left(**kwargs):
        data = SARDet100KDataset(root, **kwargs)
        return [data.get_data_info(i)['img_id'] for i in range(len(data))]

    cfg = dict(filter_empty_gt=True, min_size=32)
    assert left(filter_cfg=cfg) == [500, 2]
    assert left(filter_cfg=dict(min_size=32)) == [500, 2]
    assert left(filter_cfg=dict(min_size=20)) == [500, 2, 9]
    assert left(filter_cfg=cfg, test_mode=True) == [500, 2, 9]
    with pytest.raises(DatasetNotFoundError, match='none of 3 images'):
        left(filter_cfg=dict(min_size=100))
    with pytest.raises(ConfigError, match='filter_cfg'):
        left(filter_cfg=dict(min_sise=3))


@pytest.mark.parametrize('changes,message', [
    (dict(annotations=[]), "'annotations' is empty"),
    (dict(images=[]), "'images' is empty"),
    (dict(categories={}), "no list of 'categories'"),
    (dict(annotations=[dict(image_id=77, category_id=7, bbox=[1, 1, 2, 2])]),
     '1 annotations have a image_id.*77'),
    (dict(annotations=[dict(image_id=[2], category_id=7,
                            bbox=[1, 1, 2, 2])]), r'image_id.*\[2\]'),
    (dict(annotations=[dict(image_id=2, category_id=1, bbox=[1, 1, 2, 2])]),
     'category_id.*no category'),
    (dict(annotations=[dict(id=5, image_id=2, category_id=7,
                            bbox=[1, 1, 2])]), r'annotation 5: bbox=\['),
    (dict(annotations=[dict(id=5, image_id=2, category_id=7,
                            bbox=['1', '1', '2', '2'])]), 'annotation 5'),
    (dict(annotations=[dict(id=5, image_id=2, category_id=7,
                            bbox=[1, float('nan'), 2, 2])]), 'annotation 5'),
    (dict(annotations=[dict(id=5, image_id=2, category_id=7,
                            bbox=[1, 10**400, 2, 2])]), 'annotation 5'),
    (dict(annotations=[dict(id=5, image_id=2, category_id=7)]),
     'annotation 5: bbox=None'),
    (dict(images=[dict(id=2, file_name='../../x.png', width=1, height=1)]),
     'no name of an image inside'),
    (dict(images=[dict(id=2, file_name='/etc/x.png', width=1, height=1)]),
     'no name of an image inside'),
    (dict(images=[dict(id=2, file_name='a.png', width=0, height=1)]),
     'width 0'),
    (dict(images=[dict(id=2, file_name='a.png', width=64.0, height=1)]),
     r'width 64\.0'),
    (dict(images=[dict(id=2, width=64, height=1)]), 'file_name'),
    (dict(images=[dict(id=2, file_name=n, width=64, height=1)
                  for n in 'ab']), 'values of img_id.*2'),
    (dict(categories=[dict(id=1, name='ship'), dict(id=1, name='car')]),
     'id and a name of its own'),
])
def test_damaged_jsons(tmp_path, changes, message):
    with pytest.raises(DataFormatError, match=message):
        SARDet100KDataset(sardet(tmp_path, **changes))


@pytest.mark.parametrize('text', [
    '', '{"images": [', '[]', '\x00\x01', '[' * 100000])
def test_files_that_are_no_json(tmp_path, text):
    with pytest.raises(DataFormatError, match=r'train\.json'):
        SARDet100KDataset(sardet(tmp_path, text=text))


def test_missing_files(tmp_path):
    root = sardet(tmp_path)
    with pytest.raises(DatasetNotFoundError, match=r'test\.json'):
        SARDet100KDataset(root, split='test')
    with pytest.raises(DatasetNotFoundError, match='no such folder'):
        SARDet100KDataset(str(tmp_path / 'none'))
    (tmp_path / 'JPEGImages/train/a.png').unlink()
    with pytest.raises(
            DatasetNotFoundError, match=r'1 of 3 images.*missing \(a\.png'):
        SARDet100KDataset(root)
    # Also where the first one is among them, with the way out.
    (tmp_path / 'JPEGImages/train/b.png').unlink()
    with pytest.raises(DatasetNotFoundError, match=(
            r'2 of 3 images.*check_sardet100k\.py.*--write-reduced')):
        SARDet100KDataset(root)
    (tmp_path / 'JPEGImages/train/c.png').unlink()
    with pytest.raises(DatasetNotFoundError, match='first image.*data_pref'):
        SARDet100KDataset(root)


@pytest.mark.parametrize('arguments,message', [
    (dict(split='all'), "split='all'"),
    (dict(metainfo=dict(classes='ship')), 'needs its comma'),
    (dict(metainfo=dict(classes=('ship', 'ship'))), 'twice'),
    (dict(class_aliases=['ship']), 'class_aliases'),
    (dict(class_aliases={'boat': 'shp'}), "'shp'.*Did you mean 'ship'"),
    (dict(data_prefix=dict(images='x')), 'data_prefix'),
    (dict(backend_args=dict(backend='petrel')), 'petrel.*disk alone.*None'),
    (dict(backend_args=dict(backend='local', path_mapping={})), 'disk alone'),
    (dict(backend_args='local'), 'disk alone'),
    (dict(return_classes='yes'), "return_classes='yes'"),
    (dict(proposal_file='rpn.pkl'), 'proposal_file.*no proposals'),
    (dict(caption_prompt=dict(ship='a')), 'caption_prompt.*class_aliases'),
    (dict(seg_map_suffix='.tif'), 'seg_map_suffix.*segmentation'),
    (dict(file_client_args=dict(backend='disk')), 'file_client_args'),
    (dict(metainfo=dict(CLASSES=SARDET_CLASSES)), "CLASSES.*'classes'"),
    (dict(metainfo=dict(clases=SARDET_CLASSES)), "clases.*'classes'"),
    (dict(metainfo=dict(class_names=SARDET_CLASSES)), "'classes'"),
    (dict(metainfo=dict(PALETTE=[])), "PALETTE.*'palette'"),
    (dict(metainfo=dict(pallette=[])), "pallette.*'palette'")])
def test_bad_arguments(tmp_path, arguments, message):
    with pytest.raises(ConfigError, match=message):
        SARDet100KDataset(sardet(tmp_path), **arguments)


def test_arguments_of_mmdet(tmp_path):
    """What its own configs give, with the type alone put in."""
    root = sardet(tmp_path)
    data = SARDet100KDataset(
        ann_file='Annotations/train.json', data_root=root,
        data_prefix=dict(img='JPEGImages/train/'), backend_args=None,
        filter_cfg=dict(filter_empty_gt=True, min_size=32), pipeline=[],
        proposal_file=None, seg_map_suffix='.png', file_client_args=None,
        caption_prompt=None, metainfo=dict(task_name='ships'))
    assert len(data) == 2
    assert data.metainfo['task_name'] == 'ships'
    assert len(SARDet100KDataset(
        root, backend_args=dict(backend='local'))) == 3
    assert 'text' not in data.get_data_info(0)


def test_classes_in_the_samples(tmp_path):
    names = tuple(reversed(SARDET_CLASSES))
    data = SARDet100KDataset(
        sardet(tmp_path), return_classes=True, metainfo=dict(classes=names))
    row = data.get_data_info(0)
    assert (row['text'], row['custom_entities'], row['caption_prompt']) == (
        names, True, None)


# ------------------------------------------------------------------- DIOR

UPRIGHT = """<object><name>{name}</name><difficult>{difficult}</difficult>
<bndbox><xmin>{0}</xmin><ymin>{1}</ymin><xmax>{2}</xmax><ymax>{3}</ymax>
</bndbox></object>"""
CORNERS = ('left_top', 'right_top', 'right_bottom', 'left_bottom')


def upright(name, *box, difficult=0):
    return UPRIGHT.format(*box, name=name, difficult=difficult)


def turned(name, *points):
    tags = ''.join(
        f'<{axis}_{corner}>{value}</{axis}_{corner}>'
        for corner, point in zip(CORNERS, points, strict=True)
        for axis, value in zip('xy', point, strict=True))
    return f'<object><name>{name}</name><robndbox>{tags}</robndbox></object>'


def xml(*objects, size=(64, 48)):
    return ('<annotation><size><width>{}</width><height>{}</height></size>'
            '{}</annotation>').format(*size, ''.join(objects))


def dior_voc(root, kind='Horizontal', lists=('train', 'val'), images=None):
    folder = root / f'Annotations/{kind} Bounding Boxes'
    folder.mkdir(parents=True)
    files = {
        '00001': xml(upright('ship', 1, 2, 11, 22),
                     upright('expressway-toll-station', 3, 4, 9, 9,
                             difficult=1)),
        '00002': xml(turned('windmill', (10, 5), (30, 8.5), (28, 20),
                            (8, 17))),
        '00003': xml(upright('airplane', 60, 40, 70, 50))}
    for name, text in files.items():
        (folder / f'{name}.xml').write_text(text)
    main = root / 'ImageSets/Main'
    main.mkdir(parents=True)
    for name, members in zip(
            lists, (('00002', '00001'), ('00003', )), strict=True):
        (main / f'{name}.txt').write_text('\n'.join(members) + '\n')
    for name in files:
        pixels(root / (images or 'JPEGImages-trainval') / f'{name}.jpg')
    return str(root)


def test_dior_xml(tmp_path):
    data = DIORDataset(dior_voc(tmp_path))
    assert [len(data.get_data_info(i)['instances']) for i in range(3)] == [
        1, 2, 1]
    first, second, third = (data.get_data_info(i) for i in range(3))
    assert first['instances'] == [dict(
        bbox=[8, 5, 30, 20], bbox_label=DIOR_CLASSES.index('windmill'),
        ignore_flag=0)]
    assert second['instances'] == [
        dict(bbox=[1, 2, 11, 22], bbox_label=DIOR_CLASSES.index('ship'),
             ignore_flag=0),
        dict(bbox=[3, 4, 9, 9],
             bbox_label=DIOR_CLASSES.index('Expressway-toll-station'),
             ignore_flag=1)]
    assert third['instances'][0]['bbox'] == [60, 40, 64, 48]
    assert second['img_path'].endswith('JPEGImages-trainval/00001.jpg')
    shifted = DIORDataset(str(tmp_path), origin=1)
    assert shifted.get_data_info(0)['instances'][0]['bbox'] == [7, 4, 29, 19]
    assert len(DIORDataset(str(tmp_path), split='val')) == 1


@pytest.mark.parametrize('kind,boxes', [
    ('Horizontal', 'horizontal'), ('Oriented', 'oriented')])
def test_dior_folders(tmp_path, kind, boxes):
    root = dior_voc(tmp_path, kind, images='JPEGImages')
    assert len(DIORDataset(root, boxes=boxes)) == 3
    folder = tmp_path / f'Annotations/{kind} Bounding Boxes'
    for path in list(folder.iterdir()):
        shutil.move(path, tmp_path / 'Annotations' / path.name)
    folder.rmdir()
    assert len(DIORDataset(root, boxes=boxes, layout='voc')) == 3


def test_dior_of_the_other_kind(tmp_path):
    root = dior_voc(tmp_path, 'Oriented')
    with pytest.raises(DatasetNotFoundError, match=(
            "no such folder, but there is.*boxes='oriented'")):
        DIORDataset(root)
    shutil.move(tmp_path / 'Annotations/Oriented Bounding Boxes',
                tmp_path / 'Annotations/Horizontal Bounding Boxes')
    with pytest.raises(DatasetNotFoundError, match="boxes='horizontal'"):
        DIORDataset(root, boxes='oriented')


@pytest.mark.parametrize('images', [
    'images', 'JPEGImages-trainval/JPEGImages-trainval',
    'JPEGImages/JPEGImages'])
def test_dior_images_elsewhere(tmp_path, images):
    data = DIORDataset(dior_voc(tmp_path, images=images))
    assert [data.get_data_info(i)['img_path'] for i in range(3)] == [
        str(tmp_path / images / f'0000{i}.jpg') for i in (2, 1, 3)]


def test_dior_lists_elsewhere(tmp_path):
    root = dior_voc(tmp_path)
    for path in list((tmp_path / 'ImageSets/Main').iterdir()):
        shutil.move(path, tmp_path / 'ImageSets')
    assert len(DIORDataset(root)) == 3
    assert len(DIORDataset(root, split='val')) == 1
    (tmp_path / 'ImageSets/Main').rmdir()
    assert len(DIORDataset(root)) == 3
    shutil.rmtree(tmp_path / 'ImageSets')
    with pytest.raises(DatasetNotFoundError, match=(
            r'(?s)trainval\.txt: there is no list.*Expected layout')):
        DIORDataset(root, layout='voc')


def test_dior_names_with_suffix(tmp_path):
    root = dior_voc(tmp_path)
    (tmp_path / 'ImageSets/Main/train.txt').write_text(
        '00002.jpg\n00001.JPG\n')
    data = DIORDataset(root)
    assert [Path(data.get_data_info(i)['img_path']).stem
            for i in range(3)] == ['00002', '00001', '00003']
    (tmp_path / 'ImageSets/Main/train.txt').write_text('00002.jpg\n00002\n')
    with pytest.raises(DataFormatError, match='twice'):
        DIORDataset(root)


def test_settings_of_xml_with_a_json(tmp_path):
    root = dior_voc(tmp_path)
    write_coco(tmp_path / 'trainval.json', to_coco(
        [dict(width=64, height=48, instances=[dict(
            bbox=[1, 1, 9, 9], bbox_label=0, ignore_flag=0)])],
        DIOR_CLASSES, ['00001.jpg']))
    for settings in (dict(boxes='oriented'), dict(origin=1), dict(origin=0)):
        name = next(iter(settings))
        for more in (dict(), dict(layout='coco'),
                     dict(ann_file='trainval.json')):
            with pytest.raises(ConfigError, match=(
                    f"{name}=.*json.*layout='voc'.*leave {name} out")):
                DIORDataset(root, **settings, **more)
    assert len(DIORDataset(root, origin=1, layout='voc')) == 3
    assert len(DIORDataset(root)) == 1
    # Nothing there at all is no matter of settings.
    with pytest.raises(DatasetNotFoundError, match='no annotations'):
        DIORDataset(str(tmp_path / 'ImageSets'), boxes='oriented')


def test_dior_json_before_xml(tmp_path):
    root = dior_voc(tmp_path)
    (tmp_path / 'trainval.json').write_text(json.dumps(dict(
        images=[dict(id=1, file_name='00001.jpg', width=64, height=48)],
        categories=[dict(id=i, name=name.lower()) for i, name in enumerate(
            reversed(DIOR_CLASSES))],
        annotations=[dict(image_id=1, category_id=6, bbox=[1, 1, 9, 9])])))
    data = DIORDataset(root)
    assert len(data) == 1
    assert data.get_cat_ids(0) == [DIOR_CLASSES.index('ship')]
    assert len(DIORDataset(root, layout='voc')) == 3


@pytest.mark.parametrize('text,message', [
    ('<annotation>', 'cannot be read'),
    ('<!DOCTYPE a [<!ENTITY b "c">]><annotation/>', 'document type'),
    ('<annotation/>', '<size><width>.*None'),
    (xml(upright('', 1, 2, 3, 4)), 'no name'),
    (xml(upright('ship', 1, 'nan', 3, 4)), "<ymin> is 'nan'"),
    (xml('<object><name>ship</name></object>'), 'neither <bndbox>'),
    (xml(upright('submarine', 1, 2, 3, 4)), "'submarine' of the annot"),
    (xml(upright('ship', 1, 2, 30, 40), size=(0, 48)), 'width 0'),
])
def test_damaged_xml(tmp_path, text, message):
    root = dior_voc(tmp_path)
    folder = tmp_path / 'Annotations/Horizontal Bounding Boxes'
    (folder / '00002.xml').write_text(text)
    with pytest.raises(DataFormatError, match=message):
        DIORDataset(root)


def test_dior_files_that_miss(tmp_path):
    root = dior_voc(tmp_path)
    with pytest.raises(DatasetNotFoundError, match=(
            r'(?s)test\.txt.*list of names.*Expected layout')):
        DIORDataset(root, split='test')
    (tmp_path / 'JPEGImages-trainval/00003.jpg').unlink()
    with pytest.raises(DatasetNotFoundError, match='1 of 3 images.*00003'):
        DIORDataset(root)
    pixels(tmp_path / 'JPEGImages-trainval/00003.jpg')
    (tmp_path / 'Annotations/Horizontal Bounding Boxes/00001.xml').unlink()
    with pytest.raises(DatasetNotFoundError, match='1 of 3 XML.*00001'):
        DIORDataset(root)
    for text, message in (('', 'names no image'), ('a\na', 'twice'),
                          ('../a', 'no name of an image')):
        (tmp_path / 'ImageSets/Main/train.txt').write_text(text)
        with pytest.raises(DataFormatError, match=message):
            DIORDataset(root, split='train')
    with pytest.raises(ConfigError, match="boxes='rotated'"):
        DIORDataset(root, boxes='rotated')
    with pytest.raises(ConfigError, match='origin=2'):
        DIORDataset(root, origin=2)


def test_real_dior_image(tmp_path):
    source = SHARED / 'dior'
    if not source.is_dir():
        pytest.skip(f'{source} with a real image is not there')
    main = tmp_path / 'ImageSets/Main'
    main.mkdir(parents=True)
    (main / 'trainval.txt').write_text('00001\n')
    for own, other in (('Annotations_obb', 'Annotations/Oriented Bounding '
                        'Boxes'), ('JPEGImages', 'JPEGImages-trainval')):
        shutil.copytree(source / own, tmp_path / other)
    data = DIORDataset(str(tmp_path), boxes='oriented')
    row = data.get_data_info(0)
    with Image.open(row['img_path']) as image:
        assert (row['width'], row['height']) == image.size
    assert row['instances'] == [dict(
        bbox=[133, 237, 684, 672], bbox_label=9, ignore_flag=0)]
    assert DIOR_CLASSES[9] == 'golffield'
    parsed = parse_voc(next((tmp_path / 'Annotations').rglob('*.xml')))
    assert parsed.objects[0].name == 'golffield'


# ----------------------------------------------- masks, converters, demo


def test_mask_boxes():
    mask = np.zeros((20, 30, 3), np.uint8)
    mask[2:5, 3:9] = 0, 0, 9
    mask[10, 29] = 200, 1, 0
    np.testing.assert_array_equal(
        mask_boxes(mask), [[3, 2, 9, 5], [29, 10, 30, 11]])
    assert mask_boxes(np.zeros((4, 4, 3), np.uint8)).shape == (0, 4)
    with pytest.raises(DataFormatError, match='uint8'):
        mask_boxes(np.zeros((4, 4), np.uint8))
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    with pytest.raises(DataFormatError, match='JPEG'):
        mask_boxes(noise)


def test_real_hrsid_as_sardet(tmp_path, run_tool):
    source = SHARED / 'sar_det_hrsid'
    if not source.is_dir():
        pytest.skip(f'{source} with real chips is not there')
    found = read_hrsid(source)
    assert len(found) == 4
    target = tmp_path / 'Annotations/train.json'
    ended = run_tool(
        'prepare_data/hrsid_to_coco.py', source, '--out', target)
    assert ended.code == 0, ended.err
    assert run_tool('prepare_data/hrsid_to_coco.py', source, '--out',
                    target).code == 2
    data = SARDet100KDataset(
        str(tmp_path), data_prefix=dict(img=str(source)))
    assert len(data) == 4
    for row, (name, width, height, boxes) in zip(
            (data.get_data_info(i) for i in range(4)), found, strict=True):
        assert row['img_path'].endswith(name)
        assert (row['width'], row['height']) == (width, height) == (800, 800)
        np.testing.assert_array_equal(
            [i['bbox'] for i in row['instances']], boxes)
        # Ships are brighter than what surrounds them.
        image = np.asarray(Image.open(row['img_path']).convert('L'))
        inside = np.zeros(image.shape, bool)
        for left, top, right, bottom in boxes.astype(int):
            inside[top:bottom, left:right] = True
        assert image[inside].mean() > 1.5 * image[~inside].mean()


def test_dior_to_coco(tmp_path, run_tool):
    root = Path(dior_voc(tmp_path))
    ended = run_tool('prepare_data/dior_to_coco.py', root, '--splits',
                     'trainval')
    assert ended.code == 0, ended.err
    from_json = DIORDataset(
        str(root), layout='coco', data_prefix=dict(img='JPEGImages-trainval'))
    from_xml = DIORDataset(str(root), layout='voc')
    for i in range(3):
        a, b = from_json.get_data_info(i), from_xml.get_data_info(i)
        assert {**a, 'img_id': 0} == {**b, 'img_id': 0}
    table = read_coco(root / 'trainval.json')
    assert table.names == list(DIOR_CLASSES)
    assert '3 images (published are 11,725)' in ended.out
    assert 'is there already' in run_tool(
        'prepare_data/dior_to_coco.py', root, '--splits', 'trainval').err


def test_dior_to_coco_of_turned_boxes(tmp_path, run_tool):
    root = Path(dior_voc(tmp_path, 'Oriented'))
    options = (root, '--splits', 'trainval', '--out', tmp_path / 'out')
    ended = run_tool('prepare_data/dior_to_coco.py', *options)
    assert ended.code == 2 and "boxes='oriented'" in ended.err
    ended = run_tool('prepare_data/dior_to_coco.py', *options, '--boxes',
                     'oriented', '--origin', '1')
    assert ended.code == 0, ended.err
    data = DIORDataset(str(root), ann_file=str(tmp_path / 'out/trainval.json'))
    assert data.get_data_info(0)['instances'][0]['bbox'] == [7, 4, 29, 19]


def test_dior_to_coco_writes_all_or_nothing(tmp_path, run_tool):
    root = Path(dior_voc(tmp_path))
    ended = run_tool('prepare_data/dior_to_coco.py', root)
    assert ended.code == 2 and 'test.txt' in ended.err
    assert not list(root.glob('*.json'))
    (tmp_path / 'file').touch()
    ended = run_tool('prepare_data/dior_to_coco.py', root, '--splits', 'val',
                     '--out', tmp_path / 'file')
    assert ended.code == 2 and 'cannot be written' in ended.err


def test_hrsid_without_a_folder(tmp_path, run_tool):
    ended = run_tool('prepare_data/hrsid_to_coco.py', tmp_path / 'none',
                     '--out', tmp_path / 'a.json')
    assert ended.code == 2 and 'none: no such folder' in ended.err


def test_published_counts_of_sardet(tmp_path, run_tool):
    """A json that ends early is told from a whole one."""
    root = sardet(tmp_path)
    ended = run_tool(
        'prepare_data/check_sardet100k.py', root, '--splits', 'train')
    assert ended.code == 1
    assert 'train: 3 images, published are 94,493' in ended.out
    assert 'train: 4 boxes, published are 198,747' in ended.out
    assert '2 problems' in ended.out
    ended = run_tool(
        'prepare_data/check_sardet100k.py', root, '--splits', 'val')
    assert ended.code == 1 and 'val.json' in ended.out
    assert run_tool('prepare_data/check_sardet100k.py',
                    tmp_path / 'none').code == 2


def test_sardet_without_missing_images(tmp_path, run_tool, monkeypatch):
    monkeypatch.setattr(SARDet100KDataset, 'COUNTS', {
        'train': (3, 4), 'test': (3, 4)})
    root = Path(sardet(tmp_path))
    sardet(tmp_path, 'JPEGImages/test', split='test')
    (root / 'JPEGImages/train/b.png').unlink()
    command = ('prepare_data/check_sardet100k.py', root, '--write-reduced',
               tmp_path / 'less')
    ended = run_tool(*command)
    assert ended.code == 1 and 'missing (b.png)' in ended.out
    assert 'val: has no json' in ended.out
    assert [path.name for path in (tmp_path / 'less').iterdir()] == [
        'train.json']
    old, new = (json.loads(path.read_text()) for path in (
        root / 'Annotations/train.json', tmp_path / 'less/train.json'))
    assert new['images'] == old['images'][1:]
    assert new['annotations'] == old['annotations'][2:]
    assert new['categories'] == old['categories']
    data = SARDet100KDataset(
        str(root), ann_file=str(tmp_path / 'less/train.json'))
    assert [data.get_data_info(i)['img_id'] for i in range(2)] == [2, 9]
    before = (tmp_path / 'less/train.json').read_bytes()
    (root / 'JPEGImages/train/c.png').unlink()
    ended = run_tool(*command)
    assert ended.code == 2 and '--force' in ended.err
    assert (tmp_path / 'less/train.json').read_bytes() == before
    assert run_tool(*command, '--force').code == 1
    assert len(read_coco(tmp_path / 'less/train.json').images) == 1
    # Nothing but images without boxes left.
    shutil.rmtree(tmp_path / 'less')
    (root / 'JPEGImages/train/a.png').unlink()
    pixels(root / 'JPEGImages/train/c.png', 64, 20)
    ended = run_tool(*command)
    assert ended.code == 2 and 'no annotation is left' in ended.err
    assert not (tmp_path / 'less').exists()


def test_check_of_sardet(tmp_path, run_tool, monkeypatch):
    monkeypatch.setattr(SARDet100KDataset, 'COUNTS', {
        'train': (3, 4), 'test': (3, 4)})
    root = Path(sardet(tmp_path))
    shutil.copy(root / 'Annotations/train.json',
                root / 'Annotations/test.json')
    ended = run_tool('prepare_data/check_sardet100k.py', root)
    assert ended.code == 1
    assert 'test: ' in ended.out and 'first image' in ended.out
    shutil.copytree(root / 'JPEGImages/train', root / 'JPEGImages/test')
    ended = run_tool('prepare_data/check_sardet100k.py', root)
    assert ended.code == 1 and 'in train and test' in ended.out
    (root / 'Annotations/test.json').unlink()
    ended = run_tool(
        'prepare_data/check_sardet100k.py', root, '--splits', 'train')
    assert ended.code == 0, ended.out
    assert 'train: 3 images, 3 boxes' in ended.out
    assert 'ship 1' in ended.out
    pixels(root / 'JPEGImages/train/a.png', 60, 48)
    ended = run_tool(
        'prepare_data/check_sardet100k.py', root, '--splits', 'train')
    assert ended.code == 1 and '60 x 48' in ended.out


@pytest.fixture(scope='module')
def demo(tmp_path_factory):
    out = tmp_path_factory.mktemp('demo')
    assert write_detection(out, DetectionSettings(images=12, size=128))
    return out / 'Detection'


def test_demo_sets(demo, tmp_path):
    dior = {split: DIORDataset(str(demo / 'DIOR'), split=split)
            for split in ('trainval', 'test')}
    sar = {split: SARDet100KDataset(str(demo / 'SARDet_100K'), split=split)
           for split in ('train', 'val', 'test')}
    assert {k: len(v) for k, v in dior.items()} == dict(trainval=10, test=2)
    assert {k: len(v) for k, v in sar.items()} == dict(
        train=9, val=1, test=2)
    seen = {
        DIOR_CLASSES[label] for data in dior.values()
        for i in range(len(data)) for label in data.get_cat_ids(i)}
    assert seen <= set(DIOR_NAMES.values()) and len(seen) >= 3
    # One land, two sensors: the same boxes, courts apart.
    court = DIOR_CLASSES.index('tenniscourt')
    for i in range(2):
        optical, radar = (
            data['test'].get_data_info(i) for data in (dior, sar))
        boxes = [x['bbox'] for x in optical['instances']
                 if x['bbox_label'] != court]
        assert boxes == [x['bbox'] for x in radar['instances']]
        assert np.asarray(Image.open(optical['img_path'])).shape == (
            128, 128, 3)
        assert np.asarray(Image.open(radar['img_path'])).shape == (128, 128)


def test_demo_repeats_itself(demo, tmp_path):
    settings = DetectionSettings(images=12, size=128)
    assert write_detection(tmp_path, settings, workers=2)
    assert not write_detection(tmp_path, settings)
    files = sorted(p for p in demo.rglob('*') if p.is_file())
    again = sorted(
        p for p in (tmp_path / 'Detection').rglob('*') if p.is_file())
    assert [p.relative_to(demo) for p in files] == [
        p.relative_to(tmp_path / 'Detection') for p in again]
    for mine, other in zip(files, again, strict=True):
        assert mine.read_bytes() == other.read_bytes()


def test_demo_boxes_hold_what_they_say(demo):
    """Ships stand out of the water in both sensors, in their box."""
    data = SARDet100KDataset(str(demo / 'SARDet_100K'))
    brighter = []
    for i in range(len(data)):
        row = data.get_data_info(i)
        image = np.asarray(Image.open(row['img_path'])).astype(float)
        for instance in row['instances']:
            left, top, right, bottom = map(int, instance['bbox'])
            if SARDET_CLASSES[instance['bbox_label']] == 'ship' and (
                    min(left, top) > 8 and max(right, bottom) < 120):
                around = image[top - 8:bottom + 8, left - 8:right + 8]
                brighter.append(
                    image[top:bottom, left:right].mean() > around.mean())
    assert len(brighter) > 5 and np.mean(brighter) > .9


def test_demo_settings():
    with pytest.raises(WorldError, match='splits'):
        DetectionSettings(images=3)
    with pytest.raises(WorldError, match='val'):
        DetectionSettings(val=.5, test=.5)
    with pytest.raises(WorldError, match='96'):
        DetectionSettings(size=64)


def test_is_registered():
    for kind in (DIORDataset, SARDet100KDataset):
        assert DATASETS.get(f'osar_plugin.{kind.__name__}') is kind
