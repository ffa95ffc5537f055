"""Contact sheets of translated images."""

from __future__ import annotations

import numpy as np
import pytest

from osar_plugin.utils.errors import ConfigError, DataFormatError
from osar_plugin.visualization.translation import (
    TranslatedRow,
    draw_contact_sheet,
)


def row(views=(10, 200), real=60, size=(40, 20)) -> TranslatedRow:
    """Pictures of one value each, which are found in the sheet."""
    optical = np.zeros((*size, 3), np.uint8)
    optical[:] = (255, 0, 128)
    return TranslatedRow(
        'chip', optical,
        np.stack([np.full(size, v, np.uint8) for v in views]),
        None if real is None else np.full((25, 30), real, np.uint8))


def count(sheet: np.ndarray, *colour: int) -> int:
    return int((sheet == colour).all(-1).sum())


def test_everything_is_shown() -> None:
    sheet = draw_contact_sheet([row()])
    assert sheet.dtype == np.uint8 and sheet.shape[2] == 3
    area = 200 * 100  # 40 x 20 pixels, enlarged to the highest picture
    assert count(sheet, 255, 0, 128) == area
    for value in (10, 200, 105):  # the views and their mean
        assert count(sheet, *[value] * 3) >= area
    # Real SAR in proportions of its own.
    assert count(sheet, 60, 60, 60) >= 170 * 142
    # The spread is at its largest everywhere: the light end of magma.
    assert count(sheet, 252, 253, 191) == area


def test_the_spread_has_one_scale_for_all_rows() -> None:
    sheet = draw_contact_sheet(
        [row((10, 200), None), row((100, 100), None)])
    assert count(sheet, 252, 253, 191) == 200 * 100
    assert count(sheet, 0, 0, 4) == 200 * 100  # none: its dark end
    # Without any real SAR there is no column for it.
    assert draw_contact_sheet([row()]).shape[1] > sheet.shape[1]


def test_views_without_spread() -> None:
    sheet = draw_contact_sheet([row((100, ), None)])
    assert count(sheet, 0, 0, 4) == 200 * 100


def test_a_missing_real_image_leaves_a_gap() -> None:
    both = draw_contact_sheet([row(), row()])
    one = draw_contact_sheet([row(), row(real=None)])
    assert one.shape == both.shape
    # Anti-aliased text has some pixels of that grey, too.
    assert count(both, 60, 60, 60) >= 2 * 170 * 142
    assert count(one, 60, 60, 60) < 170 * 142 + 500


def test_scale() -> None:
    large = draw_contact_sheet([row()], scale=2)
    assert count(large, 255, 0, 128) == 4 * 200 * 100


@pytest.mark.parametrize('rows, words', [
    ([row(), row((1, 2, 3))], '2 views'),
    ([TranslatedRow('a', np.zeros((4, 4), np.uint8),
                    np.zeros((1, 4, 4), np.uint8))], 'a: expected'),
    ([TranslatedRow('a', np.zeros((4, 4, 3), np.uint8),
                    np.zeros((1, 4, 4), np.float32))], 'float32')])
def test_wrong_pictures(rows, words) -> None:
    with pytest.raises(DataFormatError, match=words):
        draw_contact_sheet(rows)


def test_wrong_arguments() -> None:
    with pytest.raises(ConfigError, match='0 rows'):
        draw_contact_sheet([])
    with pytest.raises(ConfigError, match='scale=0'):
        draw_contact_sheet([row()], scale=0)
