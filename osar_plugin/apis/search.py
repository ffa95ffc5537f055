"""Ranking of described chips, whatever described them.

Legend: Q queries, G gallery entries, N chips, D channels.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from ..compat import require
from ..datasets.hoss import parse_name
from ..evaluation.ranking import prepare_features, top_k
from ..utils.errors import (
    ConfigError,
    DataFormatError,
    MissingDependencyError,
)
from ..visualization.reid import same_ship

TARGETS = {'all': None, 'optical': 0, 'sar': 1}
METHODS = ('auto', 'exact', 'faiss')
FAISS_FROM = 100_000
"""Gallery entries from which ``method='auto'`` uses faiss."""

_SPARE = 16
"""Candidates more than asked for, whose distances are computed anew."""


@dataclass(frozen=True)
class ChipInfo:
    """What is known of a chip.

    Attributes:
        path: The file, or a made-up name for pixels without one.
        modality: 0 optical, 1 SAR.
        pid: Identity, if the file name tells it.
    """

    path: str
    modality: int
    pid: int | None = None

    @property
    def title(self) -> str:
        """The file name without suffix."""
        return Path(self.path).stem


@dataclass(frozen=True)
class DescribedChips:
    """Chips and their descriptors.

    Attributes:
        chips: N chips.
        features: (N, D) float32, not normalised.
    """

    chips: list[ChipInfo]
    features: Tensor

    def __len__(self) -> int:
        return len(self.chips)


@dataclass(frozen=True)
class RankedHit:
    """One answer to a query.

    Attributes:
        rank: From 1.
        chip: The gallery chip.
        distance: Squared Euclidean distance of the normalised descriptors,
            2 - 2 cos, from 0 to 4.
        correct: Whether it shows the ship of the query; ``None`` where one
            of the identities is unknown.
    """

    rank: int
    chip: ChipInfo
    distance: float
    correct: bool | None


@dataclass(frozen=True)
class RankedList:
    """A query and its answers, nearest first."""

    query: ChipInfo
    hits: list[RankedHit]


def identity_of(path: str | Path) -> int | None:
    """Identity from a name like ``0002_s05c1_SAR.tif``, else ``None``."""
    try:
        return int(parse_name(Path(path))['pid'])
    except DataFormatError:
        return None


def rank_gallery(
        query: DescribedChips, gallery: DescribedChips, topk: int = 10,
        target: str = 'all', exclude_self: bool = True,
        method: str = 'auto') -> list[RankedList]:
    """The nearest gallery chips of each query.

    Args:
        query: Q chips.
        gallery: G chips described by the same model.
        topk: Length of the lists; they are shorter where the gallery is.
        target: ``'sar'`` or ``'optical'`` to search only these, or
            ``'all'``.
        exclude_self: Leave out the query's own file, should it lie in the
            gallery. (The published protocols exclude nothing, but there no
            query is in the gallery.)
        method: See :func:`nearest`.

    Raises:
        ConfigError: If an argument is unknown or nothing is left to search.
        DataFormatError: If a descriptor is not finite or the numbers of
            channels differ.
        MissingDependencyError: If faiss is asked for and not installed.
    """
    rows = _searched(gallery, target)
    if topk < 1:
        raise ConfigError(f'topk={topk}: expected at least 1.')
    if query.features.shape[1] != gallery.features.shape[1]:
        raise DataFormatError(
            f'Queries have {query.features.shape[1]} channels, the gallery '
            f'{gallery.features.shape[1]}; they must come from one model.')
    own: list[int | None] = [None] * len(query)
    if exclude_self:
        places = {
            os.path.realpath(gallery.chips[row].path): i
            for i, row in enumerate(rows)}
        own = [places.get(os.path.realpath(c.path)) for c in query.chips]
    spare = any(place is not None for place in own)
    features = gallery.features
    if len(rows) < len(gallery):
        features = features[rows]
    index, distance = nearest(
        query.features, features, min(topk + spare, len(rows)), method)
    lists = []
    for i, chip in enumerate(query.chips):
        found = [
            # Rounding may leave equal descriptors just below 0.
            (gallery.chips[rows[j]], max(d, 0.0)) for j, d in
            zip(index[i].tolist(), distance[i].tolist(), strict=True)
            if j != own[i]][:topk]
        lists.append(RankedList(chip, [
            RankedHit(rank, hit, d, same_ship(chip.pid, hit.pid))
            for rank, (hit, d) in enumerate(found, 1)]))
    return lists


def nearest(
        query: Tensor, gallery: Tensor, k: int,
        method: str = 'auto') -> tuple[Tensor, Tensor]:
    """The k nearest rows, exactly, with or without faiss.

    faiss searches the inner products of the normalised descriptors
    (``IndexFlatIP``, exhaustive) for a few candidates more than asked for;
    their distances are then computed and ordered as without it. Approximate
    indices are not offered: their answers would depend on their training.

    Args:
        query: (Q, D).
        gallery: (G, D).
        k: 1 to G.
        method: ``'exact'`` (a matrix product in chunks), ``'faiss'``, or
            ``'auto'``: faiss for galleries of :data:`FAISS_FROM` and more,
            where it is installed.

    Returns:
        As :func:`osar_plugin.evaluation.ranking.top_k`.

    Raises:
        ConfigError: If the method is unknown.
        MissingDependencyError: If ``method='faiss'`` and it is not there.
    """
    if method not in METHODS:
        raise ConfigError(
            f'method={method!r} is not known: use one of '
            f'{", ".join(METHODS)}.')
    if method == 'auto':
        method = 'exact'
        if len(gallery) >= FAISS_FROM and _has_faiss():
            method = 'faiss'
    if method == 'exact':
        return top_k(query, gallery, k)
    return _nearest_by_faiss(query, gallery, k)


def _has_faiss() -> bool:
    try:
        require('faiss', 'index')
    except MissingDependencyError:
        return False
    return True


def _nearest_by_faiss(query: Tensor, gallery: Tensor,
                      k: int) -> tuple[Tensor, Tensor]:
    faiss = require('faiss', 'index')
    query, gallery = (
        prepare_features(side.detach().cpu()) for side in (query, gallery))
    index = faiss.IndexFlatIP(gallery.shape[1])
    index.add(gallery.numpy())
    _, found = index.search(query.numpy(), min(k + _SPARE, len(gallery)))
    # Ascending rows, so that the stable sort below breaks ties by row.
    candidates = torch.from_numpy(found).sort(dim=1).values
    rows, distances = [], []
    step = max(1, 2**26 // (candidates.shape[1] * gallery.shape[1]))
    for part, side in zip(
            candidates.split(step), query.split(step), strict=True):
        chosen = gallery[part]
        block = side.square().sum(1)[:, None] + chosen.square().sum(2)
        block -= 2 * torch.einsum('qd,qkd->qk', side, chosen)
        ordered, place = block.sort(dim=1, stable=True)
        rows.append(part.gather(1, place)[:, :k])
        distances.append(ordered[:, :k])
    return torch.cat(rows), torch.cat(distances)


def _searched(gallery: DescribedChips, target: str) -> list[int]:
    """Rows of the gallery that take part."""
    if target not in TARGETS:
        raise ConfigError(
            f'target={target!r} is not known: use one of '
            f'{", ".join(TARGETS)}.')
    wanted = TARGETS[target]
    rows = [
        row for row, chip in enumerate(gallery.chips)
        if wanted is None or chip.modality == wanted]
    if not rows:
        raise ConfigError(
            f'None of the {len(gallery)} gallery chips is {target}: there is '
            "nothing to search. Search 'all', or tell the modality of the "
            'gallery if it was taken for the other one.')
    return rows


def count_right(lists: Sequence[RankedList]) -> tuple[int, int]:
    """Queries whose first hit is right, of those where that is known."""
    known = [
        r.hits[0].correct for r in lists
        if r.hits and r.hits[0].correct is not None]
    return sum(known), len(known)
