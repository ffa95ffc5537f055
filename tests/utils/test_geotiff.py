"""Georeferences: found without, read and written with rasterio."""

from __future__ import annotations

import sys

import numpy as np
import pytest
from translation_case import write_geotiff, write_optical

from osar_plugin.io import decode
from osar_plugin.utils.errors import (
    CorruptImageError,
    DataFormatError,
    MissingDependencyError,
)
from osar_plugin.utils.geotiff import (
    encode_geotiff,
    has_georeference,
    read_georeference,
    read_tags,
)

rasterio = pytest.importorskip('rasterio', reason='needs the extra geo')


def test_what_is_a_geotiff(tmp_path) -> None:
    assert has_georeference(write_geotiff(tmp_path / 'a.tif'))
    assert has_georeference(write_geotiff(tmp_path / 'g.tif', gcps=True))
    assert not has_georeference(write_optical(tmp_path / 'b.tif'))
    assert not has_georeference(write_optical(tmp_path / 'c.png'))
    assert not has_georeference(tmp_path / 'none.tif')
    cut = tmp_path / 'cut.tif'
    cut.write_bytes((tmp_path / 'a.tif').read_bytes()[:20])
    assert not has_georeference(cut)
    # The tags are read, not the name.
    (tmp_path / 'a.png').write_bytes((tmp_path / 'a.tif').read_bytes())
    assert has_georeference(tmp_path / 'a.png')


@pytest.mark.parametrize('gcps', [False, True])
def test_a_place_goes_along(tmp_path, gcps: bool) -> None:
    source = write_geotiff(tmp_path / 'a.tif', gcps=gcps)
    image = np.arange(1200, dtype=np.uint8).reshape(40, 30)
    copy = tmp_path / 'b.tif'
    copy.write_bytes(encode_geotiff(
        image, read_georeference(source), dict(what='a view')))
    with rasterio.open(source) as one, rasterio.open(copy) as two:
        np.testing.assert_array_equal(two.read(1), image)
        assert (one.crs, one.transform) == (two.crs, two.transform)
        assert one.gcps[1] == two.gcps[1]
        assert [(p.row, p.col, p.x, p.y) for p in one.gcps[0]] == [
            (p.row, p.col, p.x, p.y) for p in two.gcps[0]]
        if gcps:
            assert len(two.gcps[0]) == 4
        else:
            # Metres of UTM 32, a pixel of 0.75 m.
            assert two.crs.to_epsg() == 32632
            assert two.xy(0, 0, offset='ul') == (450000, 5420000)
            assert two.res == (0.75, 0.75)
    assert read_tags(copy)['what'] == 'a view'
    # Our own reader takes it.
    np.testing.assert_array_equal(decode(copy), image)
    with pytest.raises(DataFormatError, match=r'\(20, 30\)'):
        encode_geotiff(image[:20], read_georeference(source), {})


def test_broken_files(tmp_path) -> None:
    path = tmp_path / 'a.tif'
    path.write_bytes(b'II*\x00 and no more')
    with pytest.raises(CorruptImageError, match='a.tif'):
        read_georeference(path)
    assert read_tags(path) == {}


def test_without_rasterio(tmp_path, monkeypatch) -> None:
    path = write_geotiff(tmp_path / 'a.tif')
    monkeypatch.setitem(sys.modules, 'rasterio', None)
    assert has_georeference(path)
    with pytest.raises(MissingDependencyError, match=r'osar_plugin\[geo\]'):
        read_georeference(path)
