"""The demo world: small data sets rendered from geometry by two sensors.

How a picture comes about:

1. :mod:`.layouts` draws a :class:`~.ship.ShipPlan` (hull, blocks on deck,
   bright points) from geometry streams; :func:`~.ship.draw_paint` draws its
   :class:`~.ship.Paint` from a stream of its own.
2. :class:`~.ship.Ship` draws itself on a :class:`~.scene.Scene`: height in
   metres (H, W), albedo (H, W, 3), radar reflectivity (H, W), water (H, W)
   and a list of bright points. Quays, buildings or roads are further
   objects with the same ``draw(scene, pose)``.
3. :mod:`.acquisition` draws the state of both sensors on one pass, and the
   :class:`~.scene.Frame`, the rotated rectangle that a chip shows.
4. :meth:`.OpticalCamera.render` gives uint8 RGB (rows, cols, 3) from height,
   albedo and water; :meth:`.Radar.render` gives float32 amplitude
   (rows, cols) from height, reflectivity, water and bright points.
5. :mod:`.land` composes land (fields, forest, towns, harbours, shores) on
   the same :class:`~.scene.Scene`, with a map of what covers it.
6. :mod:`.hoss`, :mod:`.optisar_pair`, :mod:`.land.sen12`,
   :mod:`.land.ospretrain` and :mod:`.land.detection` decide who is seen
   when and write the files; :mod:`.build` makes a set appear whole or not
   at all.

Every ship, pass and image has its own random stream under the seed, so the
bytes do not depend on the number of processes or on the order of work.
"""
from __future__ import annotations

from .build import WorldError
from .hoss import HossSettings, write_hoss
from .land.bright import BrightSettings, write_bright
from .land.detection import DetectionSettings, write_detection
from .land.ospretrain import OSPretrainSettings, write_ospretrain
from .land.segmentation import SegmentationSettings, write_segmentation
from .land.sen12 import Sen12Settings, write_sen12
from .optical import OpticalCamera
from .optisar_pair import PairSettings, write_pairs
from .radar import Radar
from .scene import Frame, Pose, Scatterers, Scene, SceneObject
from .ship import Paint, Ship, ShipPlan, draw_paint

__all__ = [
    'BrightSettings', 'write_bright',
    'SegmentationSettings', 'write_segmentation',
    'DetectionSettings', 'Frame', 'HossSettings', 'OSPretrainSettings',
    'OpticalCamera', 'Paint', 'PairSettings', 'Pose', 'Radar', 'Scatterers',
    'Scene', 'SceneObject', 'Sen12Settings', 'Ship', 'ShipPlan',
    'WorldError', 'draw_paint', 'write_detection', 'write_hoss',
    'write_ospretrain', 'write_pairs', 'write_sen12']
