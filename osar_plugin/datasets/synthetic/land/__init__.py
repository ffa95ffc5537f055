"""Land scenes of the demo world.

1. :func:`.compose.compose` draws a piece of land of one scene class: relief,
   water, fields, forest, roads, and rows of buildings (:mod:`.lots`), as a
   :class:`.cover.Land`: the :class:`~..scene.Scene` that both sensors look
   at, the cover map (H, W), the instance map (H, W) and the list of
   instances.
2. :func:`.sensors.draw_pass` draws the state of camera and radar;
   :meth:`.sensors.Pass.optical` gives uint8 RGB (rows, cols, 3),
   :meth:`.sensors.Pass.sar` uint8 (rows, cols).
3. The truth of the same picture: :meth:`.cover.Land.labels`,
   :meth:`.cover.Land.boxes`, and :meth:`.cover.Land.damage` after
   :func:`.cover.damaged`.
4. :mod:`.sen12` and :mod:`.ospretrain` write sets of pairs, :mod:`.bright`
   pairs before and after an event with maps of damage.
"""
from __future__ import annotations

from .compose import KINDS, compose
from .cover import (
    DAMAGED,
    DESTROYED,
    INTACT,
    Cover,
    Instances,
    Kind,
    Land,
    damaged,
)
from .sensors import MARGIN, SPACING, Pass, draw_pass

__all__ = [
    'DAMAGED', 'DESTROYED', 'INTACT', 'KINDS', 'MARGIN', 'SPACING', 'Cover',
    'Instances', 'Kind', 'Land', 'Pass', 'compose', 'damaged', 'draw_pass']
