"""osar_plugin/visualization/damage.py"""

from __future__ import annotations

import numpy as np
import pytest

from osar_plugin.utils.errors import ConfigError, DataFormatError
from osar_plugin.visualization.damage import Panel, draw_assessment

LEGEND = [('intact', (10, 200, 30), '3 buildings'),
          ('destroyed', (200, 10, 30), '')]


def panels(height: int, width: int) -> list[Panel]:
    """One colour each."""
    return [Panel(name, np.full((height, width, 3), value, np.uint8))
            for name, value in (('before', 50), ('after', 90), ('map', 130))]


def extent(picture: np.ndarray, colour) -> tuple[int, int, int, int]:
    rows, columns = np.nonzero((picture == colour).all(-1))
    return rows.min(), columns.min(), len(set(rows)), len(set(columns))


def test_panels_beside_each_other() -> None:
    picture = draw_assessment(panels(300, 280), LEGEND, 'a scene')
    found = [extent(picture, (v, v, v)) for v in (50, 90, 130)]
    assert [x[2:] for x in found] == [(300, 280)] * 3
    assert found[0][0] == found[1][0] == found[2][0]
    assert found[0][1] < found[1][1] < found[2][1]
    first, second = (extent(picture, colour) for _, colour, _ in LEGEND)
    assert found[0][0] + 300 < first[0] < second[0]


def test_wide_panels_below_each_other() -> None:
    picture = draw_assessment(panels(100, 500), LEGEND, 'a scene')
    found = [extent(picture, (v, v, v)) for v in (50, 90, 130)]
    assert found[0][1] == found[1][1] == found[2][1]
    assert found[0][0] < found[1][0] < found[2][0]


def test_entries_without_a_colour() -> None:
    picture = draw_assessment(
        panels(300, 280), [*LEGEND, ('undetermined', None, '1')], 'a scene')
    assert len(picture) > len(draw_assessment(
        panels(300, 280), LEGEND, 'a scene'))


def test_small_panels_are_enlarged() -> None:
    picture = draw_assessment(panels(40, 40), LEGEND, 'a' * 300)
    assert extent(picture, (50, 50, 50))[2:] == (240, 240)


@pytest.mark.parametrize('bad, kind', [
    ([], ConfigError), ([Panel('x', np.zeros((5, 5), np.uint8))],
                        DataFormatError),
    ([*panels(40, 40), *panels(40, 41)], DataFormatError),
    ([Panel('x', np.zeros((5, 5, 3)))], DataFormatError)])
def test_bad_panels(bad, kind) -> None:
    with pytest.raises(kind):
        draw_assessment(bad, LEGEND, '')
