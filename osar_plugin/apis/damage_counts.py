"""Counting buildings in maps that are seen strip by strip.

A building is a connected component (with diagonals) of the building map; its
state is the one most of its pixels have in the damage map, the worse one of
two as frequent. Components that reach the border of a strip are carried over
into the next; no more than one strip is ever held.

Legend: h W rows and columns of a strip, n components.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from ..utils.config_values import require_range

STATES = ('intact', 'damaged', 'destroyed', 'undetermined')
"""Of buildings; the last one has no pixel with a state."""

NODATA = 255


@dataclass(frozen=True)
class DamageCounts:
    """What a map of damage shows.

    Attributes:
        buildings: Number of buildings of each state.
        building_pixels: Pixels of these buildings.
        map_pixels: Pixels of each state in the damage map.
        assessed_pixels: Pixels that have data.
        pixel_area: Square metres of a pixel; None where it is not known.
    """

    buildings: Mapping[str, int]
    building_pixels: Mapping[str, int]
    map_pixels: Mapping[str, int]
    assessed_pixels: int
    pixel_area: float | None = None

    @property
    def unit(self) -> str:
        """Of the areas."""
        return 'pixels' if self.pixel_area is None else 'm2'

    def area(self, pixels: int) -> float:
        """Pixels in :attr:`unit`."""
        return pixels * (self.pixel_area or 1.0)

    def rows(self) -> list[dict[str, Any]]:
        """A table: one row for each state."""
        return [
            dict(state=state, buildings=self.buildings[state],
                 building_area=round(self.area(
                     self.building_pixels[state]), 2),
                 map_area=round(self.area(self.map_pixels.get(state, 0)), 2),
                 unit=self.unit)
            for state in STATES]


class DamageCounter:
    """Adds strips up; see the module.

    Args:
        min_pixels: Buildings with fewer pixels are not counted.

    Raises:
        ConfigError: If it is below 1.
    """

    def __init__(self, min_pixels: int = 1) -> None:
        require_range(1, min_pixels=min_pixels)
        self.min_pixels = min_pixels
        self._buildings = np.zeros((2, len(STATES)), np.int64)
        self._map = np.zeros(4, np.int64)
        # Components that reach the last row, and that row's numbers of
        # them, from 1.
        self._open = np.zeros((0, 4), np.int64)
        self._row = np.zeros(0, np.int64)

    def add(self, damage: np.ndarray, building: np.ndarray) -> None:
        """Look at the next strip.

        Args:
            damage: (h, W) uint8, 0 to 3, or 255 without data.
            building: (h, W) uint8, 1 where there is one.
        """
        self._map += np.bincount(damage.ravel(), minlength=256)[:4]
        states = np.where(damage == NODATA, 0, damage).astype(np.int64)
        mask = (building == 1).astype(np.uint8)
        count, labels = cv2.connectedComponents(mask, connectivity=8)
        table = np.bincount(
            labels.ravel() * 4 + states.ravel(),
            minlength=4 * count).reshape(count, 4)[1:]
        carried = len(self._open)
        if carried + count == 1:  # no building, and scipy takes no graph
            self._row = np.zeros(len(labels[0]), np.int64)
            return
        pairs = self._touching(labels[0])
        graph = coo_matrix(
            (np.ones(len(pairs), np.int8),
             (pairs[:, 0], pairs[:, 1] + carried)),
            shape=(carried + count - 1, ) * 2)
        groups, group = connected_components(graph, directed=False)
        sums = np.zeros((groups, 4), np.int64)
        np.add.at(sums, group, np.concatenate([self._open, table]))
        bottom = labels[-1]
        last = np.where(
            bottom > 0, np.append(group[carried:], 0)[bottom - 1] + 1, 0)
        still = np.unique(last[last > 0])
        self._close(np.delete(sums, still - 1, axis=0))
        self._open = sums[still - 1]
        self._row = np.where(
            last > 0, np.searchsorted(still, last) + 1, 0)

    def _touching(self, top: np.ndarray) -> np.ndarray:
        """Pairs of a carried and a new component that meet, from 0."""
        if not len(self._row):
            return np.zeros((0, 2), np.int64)
        parts = []
        for shift in (-1, 0, 1):
            above = self._row[max(0, shift):len(top) + min(0, shift)]
            below = top[max(0, -shift):len(top) + min(0, -shift)]
            meet = (above > 0) & (below > 0)
            parts.append(np.stack([above[meet], below[meet]], 1) - 1)
        return np.unique(np.concatenate(parts), axis=0)

    def _close(self, table: np.ndarray) -> None:
        """Count components that are complete."""
        table = table[table.sum(1) >= self.min_pixels]
        # The last of the largest: the worse state.
        state = 2 - table[:, :0:-1].argmax(1)
        state[table[:, 1:].sum(1) == 0] = 3
        self._buildings[0] += np.bincount(state, minlength=len(STATES))
        self._buildings[1] += np.bincount(
            state, table.sum(1), minlength=len(STATES)).astype(np.int64)

    def result(self, pixel_area: float | None = None) -> DamageCounts:
        """The counts of all strips; call it once, at the end."""
        self._close(self._open)
        self._open = self._open[:0]
        numbers, pixels = (
            dict(zip(STATES, row.tolist(), strict=True))
            for row in self._buildings)
        return DamageCounts(
            numbers, pixels,
            dict(zip(STATES, self._map[1:].tolist(), strict=False)),
            int(self._map.sum()), pixel_area)
