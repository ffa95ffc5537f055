"""Pictures of registered pairs."""

from __future__ import annotations

import numpy as np
import pytest

from osar_plugin.utils.errors import DataFormatError
from osar_plugin.visualization.registration import (
    draw_certainty,
    draw_checkerboard,
    draw_flow,
    draw_flow_key,
    draw_overlay,
    to_grey,
)

RAMP = np.add.outer(np.arange(40.), np.arange(60.))


def test_checkerboard() -> None:
    board = draw_checkerboard(RAMP, -RAMP, squares=6)
    one, other = to_grey(RAMP), to_grey(-RAMP)
    assert board.shape == (40, 60, 3)
    np.testing.assert_array_equal(board[:10, :10, 0], one[:10, :10])
    np.testing.assert_array_equal(board[:10, 10:20, 1], other[:10, 10:20])
    np.testing.assert_array_equal(board[10:20, 10:20, 2], one[10:20, 10:20])


def test_overlay() -> None:
    picture = draw_overlay(RAMP, RAMP)
    assert (picture == picture[..., :1]).all()
    mask = np.zeros(RAMP.shape, bool)
    picture = draw_overlay(RAMP, RAMP, (~mask, mask))
    assert picture[..., 0].any() and not picture[..., 1:].any()


def test_flow() -> None:
    flow = np.zeros((2, 1, 5))
    flow[:, 0] = [[2, 0, -2, 1, np.nan], [0, 0, 0, 0, 0]]
    np.testing.assert_array_equal(draw_flow(flow)[0], [
        [255, 0, 0], [255, 255, 255], [0, 255, 255], [255, 128, 128],
        [0, 0, 0]])
    assert (draw_flow(np.zeros((2, 3, 3))) == 255).all()
    down = draw_flow(np.array([[[0.]], [[1.]]]))[0, 0]
    assert down[1] == 255 and down[2] == 0


def test_flow_key() -> None:
    key = draw_flow_key(12.345, 300)
    assert key.shape == (300, 120, 3) and draw_flow_key(1.).shape[0] == 150
    # Right of the middle red, as what points right; the middle white.
    assert tuple(key[58, 108]) == (255, 10, 10)
    assert (key[58, 60] == 255).all() and (key[200:] == 255).all()
    other = draw_flow_key(12., 300)
    np.testing.assert_array_equal(key[:110], other[:110])
    assert (key[110:150] != other[110:150]).any()


def test_certainty() -> None:
    heat = draw_certainty(np.zeros((2, 2)), np.array([[0., 1], [0.5, 2]]))
    np.testing.assert_array_equal(heat[0, 1], heat[1, 1])
    np.testing.assert_array_equal(heat[0, 1], [152, 139, 22])
    assert len(np.unique(heat.reshape(-1, 3), axis=0)) == 3


def test_grey() -> None:
    image = RAMP.copy()
    image[0, 0] = np.nan
    image[0, 1] = 1e9
    grey = to_grey(image)
    assert grey[0, 0] == 0 and grey.max() == 255
    assert 100 < grey[20, 30] < 155
    assert not to_grey(np.full((3, 3), np.nan)).any()


@pytest.mark.parametrize('call', [
    lambda: draw_checkerboard(RAMP, RAMP[1:]),
    lambda: draw_overlay(RAMP, RAMP, (np.ones((2, 2), bool),) * 2),
    lambda: draw_flow(RAMP), lambda: draw_certainty(RAMP, RAMP[1:]),
    lambda: to_grey(RAMP[None])])
def test_bad_pictures(call) -> None:
    with pytest.raises(DataFormatError, match='shape|alike'):
        call()
