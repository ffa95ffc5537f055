"""Ranked lists and curves as pictures."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from PIL import Image

from osar_plugin.datasets.transforms import (
    SARToUint8,
    scale_by_max,
    scale_by_percentiles,
)
from osar_plugin.io import read_optical, read_sar
from osar_plugin.utils.errors import ConfigError, DataFormatError
from osar_plugin.visualization.reid import (
    QUERY,
    RIGHT,
    UNKNOWN,
    WRONG,
    Chip,
    ChipReader,
    Hit,
    RankedRow,
    draw_curves,
    draw_ranked_list,
    lay_out,
    same_ship,
    spread,
    write_png,
)

COLOURS = {True: RIGHT, False: WRONG, None: UNKNOWN}
# A colour that nothing else in the picture has.
PAINT = (11, 222, 33)


def pixels(height=60, width=20, colour=PAINT):
    return np.full((height, width, 3), colour, np.uint8)


def row(answers, shapes=((60, 20),), **kwargs):
    shapes = list(itertools.islice(
        itertools.cycle(shapes), len(answers) + 1))
    return RankedRow(
        Chip(pixels(*shapes[0]), 0, 'query', 1),
        [Hit(pixels(*shape), 1, f'chip {i}', i, 0.1 * i, correct)
         for i, (correct, shape) in enumerate(
             zip(answers, shapes[1:], strict=True))], **kwargs)


SHAPES = {
    'ships': ((115, 26), (310, 60), (60, 14)),
    'wide': ((20, 200), (30, 120)),
    'square': ((40, 40),),
    'mixed': ((10, 300), (300, 10), (64, 64), (1, 1)),
}


@pytest.mark.parametrize('scale', [1.0, 1.7])
@pytest.mark.parametrize('shapes', SHAPES)
def test_frames(shapes, scale):
    """Each chip is framed in the colour of its answer, all around."""
    answers = [[True, False, None, False], [None, True]]
    rows = [row(a, SHAPES[shapes]) for a in answers]
    picture = draw_ranked_list(rows, scale=scale)
    plan = lay_out(rows, scale)
    assert picture.shape[:2] == plan.size[::-1]
    assert picture.dtype == np.uint8
    edge = round(5 * scale)
    for frames, given in zip(plan.frames, answers, strict=True):
        expected = [QUERY, *(COLOURS[a] for a in given)]
        for (left, top, right, bottom), colour in zip(
                frames, expected, strict=True):
            # The left and the lower side; a mark sits on the upper right.
            free = round(14 * scale)
            side = picture[top + free:bottom, left:left + edge]
            assert side.size and (side == colour).all()
            assert (picture[bottom - edge:bottom, left:max(
                right - free, left + edge)] == colour).all()
            inside = picture[bottom - edge - 1, left + edge]
            assert tuple(inside) == PAINT
            # And nothing of the frame outside.
            assert not (picture[top:bottom, left - 1] == colour).all()
            assert not (picture[bottom, left:right] == colour).all(1).all()


@pytest.mark.parametrize('shapes', SHAPES)
def test_nothing_overlaps(shapes):
    rows = [row([True] * n, SHAPES[shapes]) for n in (3, 7, 1)]
    plan = lay_out(rows)
    taken = np.zeros(plan.size[::-1], int)
    for box in (*plan.strips, *itertools.chain(*plan.cells)):
        assert 0 <= box[0] < box[2] <= plan.size[0]
        assert 0 <= box[1] < box[3] <= plan.size[1]
        taken[box[1]:box[3], box[0]:box[2]] += 1
    assert taken.max() == 1
    for frames, cells in zip(plan.frames, plan.cells, strict=True):
        for frame, cell in zip(frames, cells, strict=True):
            assert cell[0] <= frame[0] and frame[2] <= cell[2]
            assert cell[1] <= frame[1] and frame[3] <= cell[3]


def test_chips_keep_their_proportions():
    plan = lay_out([row([True, True], ((100, 20), (50, 100), (30, 30)))])
    for (left, top, right, bottom), ratio in zip(
            plan.frames[0], (0.2, 2.0, 1.0), strict=True):
        shown = (right - left - 10) / (bottom - top - 10)
        assert shown == pytest.approx(ratio, rel=0.03)


def test_answers_differ_without_colour():
    """The marks alone tell right, wrong and unknown apart."""
    shapes = []
    for answer in (True, False, None):
        rows = [row([answer])]
        picture = draw_ranked_list(rows)
        _, top, right, _ = lay_out(rows).frames[0][1]
        corner = picture[top - 4:top + 10, right - 10:right + 4]
        shapes.append((corner == 255).all(2))
    for a, b in itertools.combinations(shapes, 2):
        assert (a != b).sum() > 10


def test_what_is_written():
    """Changing any of the texts changes the picture, in its place."""
    base = row([True], note='AP 50 %')
    plain = draw_ranked_list([base], 'Title', 'Subtitle')
    plan = lay_out([base])
    strip, cell = plan.strips[0], plan.cells[0][1]
    hit = base.hits[0]

    def changed(rows, *texts):
        where = (draw_ranked_list(rows, *texts) != plain).any(2).nonzero()
        return (where[1].min(), where[0].min(), where[1].max(),
                where[0].max())

    def inside(box, outer):
        return (outer[0] <= box[0] and outer[1] <= box[1]
                and box[2] < outer[2] and box[3] < outer[3])

    head = (0, 0, plan.size[0], strip[1])
    assert inside(changed([base], 'Titel', 'Subtitle'), head)
    assert inside(changed([base], 'Title', 'Other'), head)
    for other in (
            RankedRow(base.query, base.hits, 'AP 60 %'),
            RankedRow(base.query, base.hits)):
        assert inside(changed([other], 'Title', 'Subtitle'), strip)
    for part in (
            dict(pid=7), dict(pid=None), dict(title='another'),
            dict(modality=0), dict(distance=0.9)):
        values = dict(
            image=hit.image, modality=hit.modality, title=hit.title,
            pid=hit.pid, distance=hit.distance, correct=hit.correct)
        other = RankedRow(
            base.query, [Hit(**{**values, **part})], base.note)
        assert inside(changed([other], 'Title', 'Subtitle'), cell), part


def test_long_texts_stay_inside():
    long = RankedRow(
        Chip(pixels(), 0, 'q' * 300, 1),
        [Hit(pixels(), 1, 'x' * 300, 123456789012, 0.1, None)], 'n' * 300)
    picture = draw_ranked_list([long], 't' * 300, 's' * 300)
    plan = lay_out([long])
    margin = 8
    assert (picture[:, :margin] == 255).all()
    assert (picture[:, -margin:] == 255).all()
    cell = plan.cells[0][1]
    gap = picture[cell[1]:cell[3], cell[2] + 1:cell[2] + 9]
    assert (gap == 255).all()


def test_drawing_changes_nothing_and_repeats():
    rows = [row([True, None])]
    before = rows[0].query.image.copy()
    first = draw_ranked_list(rows)
    assert np.array_equal(first, draw_ranked_list(rows))
    assert np.array_equal(before, rows[0].query.image)


def test_no_hits():
    assert draw_ranked_list([row([])]).shape[1] == 640


@pytest.mark.parametrize('image', [
    np.zeros((5, 5), np.uint8), np.zeros((5, 5, 3), np.float32),
    np.zeros((0, 5, 3), np.uint8), None])
def test_images_that_cannot_be_drawn(image):
    with pytest.raises(DataFormatError, match='name of the chip'):
        draw_ranked_list([RankedRow(Chip(image, 0, 'name of the chip'), [])])


def test_nothing_to_draw():
    with pytest.raises(ConfigError, match='0 rows'):
        draw_ranked_list([])
    with pytest.raises(ConfigError, match='scale=0'):
        draw_ranked_list([row([])], scale=0)


def test_same_ship():
    assert same_ship(1, 1) is True
    assert same_ship(1, 2) is False
    assert same_ship(None, 2) is None
    assert same_ship(0, None) is None


@pytest.mark.parametrize('count,wanted,expected', [
    (3, 8, [0, 1, 2]), (10, 1, [0]), (10, 2, [0, 9]), (9, 3, [0, 4, 8]),
    (0, 3, []), (3, 0, [])])
def test_spread(count, wanted, expected):
    assert spread(count, wanted) == expected


def test_chips_are_shown_as_the_network_gets_them(tmp_path):
    rng = np.random.default_rng(0)
    sar, optical = tmp_path / 's.tif', tmp_path / 'o.png'
    Image.fromarray(rng.gamma(1, 30, (9, 5)).astype(np.float32)).save(sar)
    Image.fromarray(rng.integers(0, 256, (9, 5, 3), np.uint8)).save(optical)
    shown = ChipReader()(sar, 1)
    assert shown.shape == (9, 5, 3)
    assert np.array_equal(shown[:, :, 0], scale_by_max(read_sar(sar)))
    stretched = ChipReader([SARToUint8('percentile', 10, 90)])(sar, 1)
    assert np.array_equal(
        stretched[:, :, 2], scale_by_percentiles(read_sar(sar), 10, 90))
    assert np.array_equal(ChipReader()(optical, 0), read_optical(optical))


def test_curves():
    a = draw_curves({'ALL': [10, 50, 90], 'O2S': [20, 30, 40]})
    b = draw_curves({'ALL': [10, 50, 90], 'O2S': [20, 30, 41]})
    assert a.ndim == 3 and a.dtype == np.uint8
    assert not np.array_equal(a, b)
    assert np.array_equal(
        a, draw_curves({'ALL': [10, 50, 90], 'O2S': [20, 30, 40]}))


def test_write_png(tmp_path):
    picture = draw_ranked_list([row([True])])
    write_png(picture, tmp_path / 'new' / 'x.png')
    assert np.array_equal(
        np.asarray(Image.open(tmp_path / 'new' / 'x.png')), picture)
    assert [p.name for p in (tmp_path / 'new').iterdir()] == ['x.png']
