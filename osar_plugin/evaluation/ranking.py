"""Exact retrieval figures without sorting the gallery.

A query's CMC, AP and INP depend only on the ranks of its relevant gallery
entries, those of its own identity. The rank of one entry is one plus the
number of gallery entries that come before it, so it is enough to *count*:
each distance of a query is compared with the distances of its few relevant
entries. Gallery entries are counted by group, a group being the entries that
belong to the same set of protocols; the rank within a protocol is the sum of
the counts of its groups. One pass over one distance block therefore gives
every protocol, in O(G R) vector comparisons (O(G log R) where R is large)
instead of the O(G log G) of a sort for each of them.

Exclusions (the query's own image, entries of the same camera) only ever
concern entries of the query's identity, which are all among the relevant
ones: they are subtracted from the ranks behind them, not removed before.

Ties are broken by gallery row, as a stable sort would.

Nothing here knows a registry or a runner.

Legend: Q queries, G gallery entries, D channels, R relevant entries of a
query (padded to the largest of a chunk), n queries of a chunk, C groups.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from torch import Tensor

from ..utils.errors import ConfigError, DataFormatError

DEFAULT_MEMORY = 256 * 2**20
"""Bytes that the distance block of one chunk may take."""

_TILE = {'cpu': 2**19, 'cuda': 2**24}
"""Comparisons per step: what a cache holds; on a GPU, what keeps it busy."""

_STRIP = 64
"""Queries of a chunk that one thread works on at a time."""

_PART = 2**13
"""Rows that are converted at a time."""

_MANY = 64
"""Above this many relevant entries, searching bins beats comparing."""


@dataclass(frozen=True)
class Protocol:
    """Who searches where; ``None`` stands for both modalities.

    Attributes:
        name: As printed.
        query_modality: 0 optical, 1 SAR.
        gallery_modality: 0 optical, 1 SAR.
    """

    name: str
    query_modality: int | None = None
    gallery_modality: int | None = None


PROTOCOLS: Mapping[str, Protocol] = {
    p.name: p for p in (
        Protocol('ALL'), Protocol('O2S', 0, 1), Protocol('S2O', 1, 0),
        Protocol('O2O', 0, 0), Protocol('S2S', 1, 1))}
"""The three of HOSS-ReID, and the two within one modality."""


@dataclass(frozen=True)
class Task:
    """One row of the table: which queries against which gallery entries.

    Attributes:
        name: Key of the result.
        query: (Q,) bool, the queries that take part.
        gallery: (G,) bool, the gallery entries that are searched.
        exclude_same_camera: Leave out entries with the identity and the
            camera of the query (the Market-1501 rule; here a camera is a
            modality).
    """

    name: str
    query: Tensor
    gallery: Tensor
    exclude_same_camera: bool = False


@dataclass(frozen=True)
class RankingResult:
    """Figures of one protocol; figures of skipped queries are NaN.

    Attributes:
        name: The protocol.
        average_precision: (Q,) float64; mean over the relevant entries of
            the precision at their rank, without interpolation.
        inverse_penalty: (Q,) float64; R / rank of the last relevant entry,
            whose mean is mINP (Ye et al., TPAMI 2021, eq. 3).
        average_precision_at_k: (Q,) float64; the precisions at the relevant
            ranks <= topk, summed and divided by min(R, topk).
        first_rank: (Q,) int64, rank of the best relevant entry, from 1; 0
            where skipped.
        num_matches: (Q,) int64, relevant entries.
        member: (Q,) bool, takes part in the protocol.
        valid: (Q,) bool, takes part and has a relevant entry. Others are
            skipped, not counted as zero.
        num_gallery: Entries of the protocol.
        max_rank: Length of the CMC curve, at most ``num_gallery``.
        topk: The k of mAP@k.
    """

    name: str
    average_precision: Tensor
    inverse_penalty: Tensor
    average_precision_at_k: Tensor
    first_rank: Tensor
    num_matches: Tensor
    member: Tensor
    valid: Tensor
    num_gallery: int
    max_rank: int
    topk: int

    @property
    def num_valid(self) -> int:
        """Queries that count."""
        return int(self.valid.sum())

    @property
    def num_skipped(self) -> int:
        """Queries of the protocol without any match in the gallery."""
        return int(self.member.sum()) - self.num_valid

    @property
    def cmc(self) -> Tensor:
        """(max_rank,) float64; share of queries hit within each rank."""
        first = self.first_rank[self.valid]
        hits = torch.bincount(
            first.clamp(max=self.max_rank + 1),
            minlength=self.max_rank + 2)[1:self.max_rank + 1]
        return hits.cumsum(0).double() / self.num_valid

    @property
    def mean_ap(self) -> float:
        """Mean AP over the valid queries; NaN if there is none."""
        return float(self.average_precision[self.valid].mean())

    @property
    def mean_inp(self) -> float:
        """Mean INP over the valid queries; NaN if there is none."""
        return float(self.inverse_penalty[self.valid].mean())

    @property
    def mean_ap_at_k(self) -> float:
        """Mean AP@k over the valid queries; NaN if there is none."""
        return float(self.average_precision_at_k[self.valid].mean())

    def rank(self, k: int) -> float:
        """Share of valid queries with a hit within rank k.

        A curve shorter than k (a small gallery) ends at its last value,
        which already holds every query.
        """
        first = self.first_rank[self.valid]
        return float((first <= k).double().mean())

    def summary(self, ranks: Sequence[int] = (1, 5, 10)) -> dict[str, float]:
        """Percentages by name: mAP, R<k>, mINP, mAP@<topk>."""
        values = {'mAP': self.mean_ap}
        values.update({f'R{k}': self.rank(k) for k in ranks})
        values['mINP'] = self.mean_inp
        values[f'mAP@{self.topk}'] = self.mean_ap_at_k
        return {name: 100.0 * value for name, value in values.items()}


# ------------------------------------------------------------------ distance


@contextmanager
def full_precision(device: torch.device) -> Iterator[None]:
    """Float32 products in full: no autocast, no TF32 or bfloat16 inside.

    Half-precision products put a self-distance near 1 on features that are
    not normalised.
    """
    precision = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision('highest')
    try:
        with torch.no_grad(), torch.autocast(device.type, enabled=False):
            yield
    finally:
        torch.set_float32_matmul_precision(precision)


def prepare_features(features: Tensor, normalize: bool = True,
                     order: Tensor | None = None) -> Tensor:
    """Float32, contiguous and, by default, of unit length.

    Args:
        features: (N, D) of any floating type.
        normalize: Divide by the L2 norm, as the authors' evaluator does.
        order: Rows to take, in this order; all by default.

    Raises:
        DataFormatError: If the shape is another one or a value is not
            finite.
    """
    if features.ndim != 2 or not features.is_floating_point():
        raise DataFormatError(
            'Features must be a floating point tensor of shape (N, D), but '
            f'are {features.dtype} of shape {tuple(features.shape)}.')
    features = features.detach()
    # A sum shows any NaN or infinity, at a fraction of isfinite's memory.
    sums = features.sum(dim=1, dtype=torch.float32)
    bad = torch.nonzero(~torch.isfinite(sums)).flatten()
    if len(bad):
        raise DataFormatError(
            f'{len(bad)} of {len(features)} features hold NaN or infinite '
            f'values, first in rows {bad[:5].tolist()}. Check the network '
            'and the images of these rows.')
    if order is None and not normalize:
        return features.float().contiguous()
    out = torch.empty_like(
        features, dtype=torch.float32, memory_format=torch.contiguous_format)
    # In parts: the copy that is returned is the only one.
    for start in range(0, len(features), _PART):
        stop = start + _PART
        rows = slice(start, stop) if order is None else order[start:stop]
        part = features[rows].float()
        out[start:stop] = torch.nn.functional.normalize(
            part, dim=1) if normalize else part
    return out


def _square_norms(features: Tensor) -> Tensor:
    """(N,) squared lengths, without a copy of the features' size."""
    return torch.cat([
        part.square().sum(1) for part in features.split(_PART)])


def squared_distances(
        query: Tensor, gallery: Tensor, out: Tensor | None = None) -> Tensor:
    """Squared Euclidean distances, |q|^2 + |g|^2 - 2 q.g.

    The order of operations is that of the authors' evaluator: no clamp, no
    root.

    Args:
        query: (Q, D) float32.
        gallery: (G, D) float32.
        out: (Q, G) buffer to reuse.

    Returns:
        (Q, G) float32.
    """
    query_norm = _square_norms(query)[:, None]
    gallery_norm = _square_norms(gallery)[None]
    with full_precision(query.device):
        block = torch.add(query_norm, gallery_norm, out=out)
        return block.addmm_(query, gallery.t(), beta=1, alpha=-2)


def angular_distances(query: Tensor, gallery: Tensor,
                      eps: float = 1e-5) -> Tensor:
    """Angles between features: the other distance of the authors' code.

    Ranks like :func:`squared_distances` of unit features, but for the
    cosines clamped near -1 and 1.

    Args:
        query: (Q, D) floating.
        gallery: (G, D) floating.
        eps: Distance from -1 and 1 at which the cosine is clamped.

    Returns:
        (Q, G) radians.
    """
    with full_precision(query.device):
        cosine = torch.nn.functional.normalize(
            query, dim=1) @ torch.nn.functional.normalize(gallery, dim=1).t()
        return cosine.clamp_(-1 + eps, 1 - eps).arccos_()


@dataclass
class _FeatureBlocks:
    """Distance blocks computed from features into one reused buffer."""

    query: Tensor
    gallery: Tensor
    gallery_norm: Tensor = field(init=False)
    buffer: Tensor | None = field(init=False, default=None)

    def __post_init__(self) -> None:
        self.gallery_norm = _square_norms(self.gallery)[None]

    def __call__(self, rows: Tensor) -> Tensor:
        """(n, G) distances of some queries; valid until the next call."""
        if self.buffer is None or len(self.buffer) < len(rows):
            self.buffer = self.gallery.new_empty(len(rows), len(self.gallery))
        query = self.query[rows]
        block = torch.add(
            _square_norms(query)[:, None], self.gallery_norm,
            out=self.buffer[:len(rows)])
        return block.addmm_(query, self.gallery.t(), beta=1, alpha=-2)


# ------------------------------------------------------------------ relevant


class _Relevant:
    """Gallery rows of each query's identity, without a (Q, G) matrix."""

    def __init__(self, query_pids: Tensor, gallery_pids: Tensor) -> None:
        ordered, self.order = torch.sort(gallery_pids, stable=True)
        self.start = torch.searchsorted(ordered, query_pids)
        stop = torch.searchsorted(ordered, query_pids, right=True)
        self.count = stop - self.start

    def __call__(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Rows (n, R) in ascending order, and which of them are real."""
        count = self.count[rows, None]
        slot = torch.arange(int(count.max()), device=rows.device)
        real = slot < count
        place = torch.where(real, self.start[rows, None] + slot, 0)
        return self.order[place], real


# ------------------------------------------------------------------ counting


@dataclass(frozen=True)
class _Groups:
    """Gallery entries by the set of tasks that they belong to.

    Columns of a block are ordered by group, and by gallery row in a group,
    so that counting within a group is a sum over a slice.

    Attributes:
        order: (G,) int64, gallery row of each column.
        column: (G,) int64, column of each gallery row.
        bounds: C + 1 ints, where the groups begin and end.
        table: (C, T) int64, 1 where a group belongs to a task.
    """

    order: Tensor
    column: Tensor
    bounds: list[int]
    table: Tensor

    @classmethod
    def of(cls, tasks: Sequence[Task]) -> _Groups:
        """Group by the galleries of some tasks."""
        code = sum(
            task.gallery.long() << bit for bit, task in enumerate(tasks))
        codes, counts = torch.unique(code, return_counts=True)
        order = torch.argsort(torch.as_tensor(code), stable=True)
        bits = torch.arange(len(tasks), device=codes.device)
        return cls(
            order, torch.argsort(order),
            [0, *counts.cumsum(0).tolist()], (codes[:, None] >> bits) & 1)

    def __len__(self) -> int:
        return len(self.bounds) - 1

    def slices(self, start: int, stop: int) -> Iterator[tuple[int, slice]]:
        """Groups that meet columns [start, stop), as slices of these."""
        for group in range(len(self)):
            low = max(self.bounds[group], start)
            high = min(self.bounds[group + 1], stop)
            if low < high:
                yield group, slice(low - start, high - start)


def _compare(block: Tensor, limits: Tensor, groups: _Groups,
             tile: int) -> tuple[Tensor, Tensor]:
    """Count entries below and up to each limit by comparing all of them.

    Args:
        block: (n, G) distances, columns in order of the groups.
        limits: (n, R).
        groups: The C groups.
        tile: Comparisons per step.

    Returns:
        Two (n, R, C) int64 counts: ``distance < limit`` and
        ``distance <= limit``.
    """
    (n, num_gallery), num_limits = block.shape, limits.shape[1]
    shape = (n, num_limits, len(groups))
    below = torch.zeros(shape, dtype=torch.int64, device=block.device)
    up_to = torch.zeros_like(below)
    # Whole rows where they fit, else few rows in parts that do.
    height = min(n, max(tile // (num_limits * num_gallery), min(
        16, max(1, tile // num_limits))))
    width = min(num_gallery, max(1, tile // (height * num_limits)))
    buffer = block.new_empty(height * num_limits * width)
    for top in range(0, n, height):
        limit = limits[top:top + height, :, None]
        for left in range(0, num_gallery, width):
            part = block[top:top + height, None, left:left + width]
            size = len(part), num_limits, part.shape[2]
            flags = buffer[:size[0] * size[1] * size[2]].view(size)
            slices = list(groups.slices(left, left + size[2]))
            for count, compare in ((below, torch.lt), (up_to, torch.le)):
                # Zeros and ones of a float type: vectorised to write and to
                # sum, which bool is not; exact below 2**24.
                compare(part, limit, out=flags)
                for group, inside in slices:
                    count[top:top + height, :, group] += (
                        flags[..., inside].sum(2).long())
    return below, up_to


def _search(block: Tensor, limits: Tensor, groups: _Groups,
            tile: int) -> tuple[Tensor, Tensor]:
    """The same counts through a histogram over the bins between limits.

    Args and returns as :func:`_compare`; ``limits`` ascend in each row.
    """
    (n, num_gallery), num_limits = block.shape, limits.shape[1]
    below = torch.zeros(
        (n, num_limits, len(groups)), dtype=torch.int64, device=block.device)
    up_to = torch.zeros_like(below)
    height = max(1, tile // num_gallery)
    one = torch.ones(1, 1, dtype=torch.int64, device=block.device)
    for top in range(0, n, height):
        limit = limits[top:top + height].contiguous()
        for group, inside in groups.slices(0, num_gallery):
            part = block[top:top + height, inside].contiguous()
            for count, right in ((below, True), (up_to, False)):
                place = torch.searchsorted(limit, part, right=right)
                bins = place.new_zeros(len(part), num_limits + 1)
                bins.scatter_add_(1, place, one.expand_as(place))
                count[top:top + height, :, group] = (
                    bins[:, :num_limits].cumsum(1))
    return below, up_to


def _add_ties(ahead: Tensor, tied: Tensor, block: Tensor, limits: Tensor,
              index: Tensor, groups: _Groups, tile: int) -> None:
    """Add to ``ahead`` the equal entries that stand earlier in the gallery.

    Args:
        ahead: (n, R, C) int64, changed in place.
        tied: (n, R) bool, where another entry has the same distance.
        block: (n, G) distances.
        limits: (n, R) distances of the relevant entries.
        index: (n, R) their gallery rows.
        groups: The C groups.
        tile: Comparisons per step.
    """
    size = max(1, tile // block.shape[1])
    for row, slot in (pair.t() for pair in tied.nonzero().split(size)):
        before = block[row] == limits[row, slot, None]
        before &= groups.order < index[row, slot, None]
        for group, inside in groups.slices(0, block.shape[1]):
            ahead[row, slot, group] += before[:, inside].sum(1)


# ------------------------------------------------------------------- figures


@dataclass
class _Chunk:
    """Relevant entries of a chunk of queries, in order of rank.

    Attributes:
        rows: (n,) queries.
        index: (n, R) gallery rows.
        real: (n, R) bool, False on padding.
        ahead: (n, R, C) entries that come before, by group.
        same: (n, R) bool, the query's own image.
        same_camera: (n, R) bool, taken by the query's camera.
    """

    rows: Tensor
    index: Tensor
    real: Tensor
    ahead: Tensor
    same: Tensor
    same_camera: Tensor


class _Accumulator:
    """Per-query figures of one task."""

    def __init__(self, task: Task, groups: Tensor, max_rank: int,
                 topk: int) -> None:
        self.task = task
        self.groups = groups
        self.max_rank = max_rank
        self.topk = topk
        num = len(task.query)
        device = task.query.device
        nan = torch.full(
            (num,), float('nan'), dtype=torch.float64, device=device)
        self.ap, self.inp, self.ap_k = nan, nan.clone(), nan.clone()
        self.first = torch.zeros(num, dtype=torch.int64, device=device)
        self.matches = torch.zeros_like(self.first)

    def add(self, chunk: _Chunk) -> None:
        """Turn counts into ranks and ranks into figures."""
        found = chunk.real & self.task.gallery[chunk.index]
        dropped = chunk.same
        if self.task.exclude_same_camera:
            dropped = dropped | chunk.same_camera
        kept = found & ~dropped
        rank = 1 + (chunk.ahead * self.groups).sum(2)
        rank -= (found & dropped).cumsum(1)
        hits = kept.cumsum(1)
        num = hits[:, -1]
        precision = (hits.double() / rank).masked_fill(~kept, 0)
        top = precision.masked_fill(rank > self.topk, 0)
        last = rank.masked_fill(~kept, 0).amax(1)
        far = torch.iinfo(torch.int64).max
        first = rank.masked_fill(~kept, far).amin(1)
        valid = self.task.query[chunk.rows] & (num > 0)
        rows = chunk.rows[valid]
        self.ap[rows] = (_sum(precision) / num)[valid]
        self.inp[rows] = (num.double() / last)[valid]
        self.ap_k[rows] = (_sum(top) / num.clamp(max=self.topk))[valid]
        self.first[rows] = first[valid]
        self.matches[rows] = num[valid]

    def result(self) -> RankingResult:
        """The figures on the CPU."""
        num_gallery = int(self.task.gallery.sum())
        return RankingResult(
            name=self.task.name,
            average_precision=self.ap.cpu(),
            inverse_penalty=self.inp.cpu(),
            average_precision_at_k=self.ap_k.cpu(),
            first_rank=self.first.cpu(),
            num_matches=self.matches.cpu(),
            member=self.task.query.cpu(),
            valid=(self.matches > 0).cpu(),
            num_gallery=num_gallery,
            max_rank=min(self.max_rank, num_gallery),
            topk=self.topk)


def _sum(values: Tensor) -> Tensor:
    """Row sums from left to right, whose bits do not depend on padding."""
    return values.cumsum(1)[:, -1]


# ---------------------------------------------------------------- public API


@dataclass(frozen=True)
class Labels:
    """What is known of queries and gallery besides their distances.

    Attributes:
        query_pids: (Q,) int64 identities.
        gallery_pids: (G,) int64 identities.
        query_cameras: (Q,) int64; needed where a task excludes the same
            camera.
        gallery_cameras: (G,) int64.
        self_index: (Q,) int64, gallery row of the query's own image, which
            is then excluded everywhere; -1 where it is not in the gallery.
    """

    query_pids: Tensor
    gallery_pids: Tensor
    query_cameras: Tensor | None = None
    gallery_cameras: Tensor | None = None
    self_index: Tensor | None = None

    def to(self, device: torch.device) -> Labels:
        """The same on another device."""
        return Labels(
            self.query_pids.to(device), self.gallery_pids.to(device),
            *(None if value is None else value.to(device) for value in (
                self.query_cameras, self.gallery_cameras, self.self_index)))


def make_tasks(
        names: Sequence[str], query_modality: Tensor,
        gallery_modality: Tensor) -> list[Task]:
    """Tasks whose members follow from the modality alone.

    Args:
        names: Keys of :data:`PROTOCOLS`; ``'<name>-xcam'`` excludes entries
            of the query's identity and modality.
        query_modality: (Q,) 0 optical, 1 SAR.
        gallery_modality: (G,) 0 optical, 1 SAR.

    Raises:
        ConfigError: If a name is unknown.
    """
    tasks = []
    for name in names:
        base = name.removesuffix('-xcam')
        if base not in PROTOCOLS:
            raise ConfigError(
                f'Unknown protocol {name!r}; known are '
                f'{", ".join(PROTOCOLS)}, each also with "-xcam".')
        protocol = PROTOCOLS[base]
        tasks.append(Task(
            name, _of(query_modality, protocol.query_modality),
            _of(gallery_modality, protocol.gallery_modality), name != base))
    return tasks


def _of(modality: Tensor, wanted: int | None) -> Tensor:
    if wanted is None:
        return torch.ones_like(modality, dtype=torch.bool)
    return modality == wanted


def evaluate_features(
        query: Tensor, gallery: Tensor, labels: Labels,
        tasks: Sequence[Task], *, normalize: bool = True, max_rank: int = 50,
        topk: int = 10, memory: int = DEFAULT_MEMORY,
) -> dict[str, RankingResult]:
    """Retrieval figures of every task in one pass over the distances.

    Distances are squared Euclidean in float32. Memory is
    the features, one distance block of ``memory`` bytes and a few values
    per query, whatever Q x G is.

    Args:
        query: (Q, D) features.
        gallery: (G, D) features, on the same device.
        labels: Identities, and cameras where a task needs them.
        tasks: What to evaluate; see :func:`make_tasks`.
        normalize: L2-normalise first, as the authors do.
        max_rank: Length of the CMC curves (at most the gallery).
        topk: The k of mAP@k.
        memory: Bytes of one distance block.

    Returns:
        A result on the CPU for each task, by name.

    Raises:
        DataFormatError: If shapes disagree, a side is empty or a feature is
            not finite.
    """
    _check(labels, tasks, len(query), len(gallery), topk, memory)
    labels, tasks = _moved(labels, tasks, query.device)
    groups = _Groups.of(tasks)
    query = prepare_features(query, normalize)
    gallery = prepare_features(gallery, normalize, groups.order)
    if query.shape[1] != gallery.shape[1]:
        raise DataFormatError(
            f'Query features have {query.shape[1]} channels, gallery '
            f'features {gallery.shape[1]}; they must come from one model.')
    limit = torch.finfo(torch.float32).max / 8
    if not normalize and not max(
            float(_square_norms(side).max())
            for side in (query, gallery)) < limit:
        raise DataFormatError(
            'Features are so large that squared distances overflow float32; '
            'use normalize=True or scale them.')
    with full_precision(query.device):
        return _evaluate(
            _FeatureBlocks(query, gallery), 4, labels, tasks, groups,
            max_rank, topk, memory)


def evaluate_distances(
        distances: Tensor, labels: Labels, tasks: Sequence[Task], *,
        max_rank: int = 50, topk: int = 10, memory: int = DEFAULT_MEMORY,
) -> dict[str, RankingResult]:
    """The same figures from a given matrix, such as a re-ranked one.

    Args:
        distances: (Q, G) floating point, smaller is nearer.
        labels: See :func:`evaluate_features`.
        tasks: See :func:`evaluate_features`.
        max_rank: See :func:`evaluate_features`.
        topk: See :func:`evaluate_features`.
        memory: Bytes of the part looked at in one step.

    Raises:
        DataFormatError: If shapes disagree, a side is empty or a distance is
            NaN or infinite.
    """
    if distances.ndim != 2 or not distances.is_floating_point():
        raise DataFormatError(
            'Distances must be a floating point matrix of shape (Q, G), but '
            f'are {distances.dtype} of shape {tuple(distances.shape)}.')
    if distances.dtype not in (torch.float32, torch.float64):
        distances = distances.float()
    distances = distances.detach()
    _check(labels, tasks, len(distances), distances.shape[1], topk, memory)
    labels, tasks = _moved(labels, tasks, distances.device)
    groups = _Groups.of(tasks)

    def blocks(rows: Tensor) -> Tensor:
        block = distances[rows]
        if len(groups) > 1:
            block = block[:, groups.order]
        if not torch.isfinite(block).all():
            raise DataFormatError(
                'The distance matrix holds NaN or infinite values; distances '
                'must be finite. To leave entries out, use a task.')
        return block

    # Two copies of a block at a time, before and after ordering columns.
    return _evaluate(
        blocks, 2 * distances.element_size(), labels, tasks, groups,
        max_rank, topk, memory)


def _check(labels: Labels, tasks: Sequence[Task], num_query: int,
           num_gallery: int, topk: int, memory: int) -> None:
    """Raise where sizes disagree or a side is empty."""
    for side, num in (('query', num_query), ('gallery', num_gallery)):
        if num == 0:
            raise DataFormatError(
                f'The {side} side is empty: nothing can be evaluated. Check '
                'the split and the folder it is read from.')
        fields: dict[str, Tensor | None] = {
            f'{side}_pids': getattr(labels, f'{side}_pids'),
            f'{side}_cameras': getattr(labels, f'{side}_cameras')}
        fields.update(
            {f'{side} mask of task {t.name!r}': getattr(t, side)
             for t in tasks})
        if side == 'query':
            fields['self_index'] = labels.self_index
        for name, value in fields.items():
            if value is not None and value.shape != (num,):
                raise DataFormatError(
                    f'{name} has shape {tuple(value.shape)}, but there are '
                    f'{num} {side} entries: expected ({num},).')
    if len(tasks) > 62:
        raise ConfigError(f'At most 62 tasks fit, got {len(tasks)}.')
    if len({task.name for task in tasks}) != len(tasks) or not tasks:
        raise ConfigError(
            'Tasks must be at least one and have names of their own, got '
            f'{[task.name for task in tasks]}.')
    if (labels.query_cameras is None or labels.gallery_cameras is None) and (
            any(task.exclude_same_camera for task in tasks)):
        raise ConfigError(
            'A task excludes the same camera, which needs query_cameras and '
            'gallery_cameras in the labels.')
    if topk < 1 or memory < 1:
        raise ConfigError(
            f'topk and memory must be positive, got {topk} and {memory}.')


def _moved(labels: Labels, tasks: Sequence[Task],
           device: torch.device) -> tuple[Labels, list[Task]]:
    """Labels and tasks on another device."""
    return labels.to(device), [
        Task(t.name, t.query.to(device), t.gallery.to(device),
             t.exclude_same_camera) for t in tasks]


def _evaluate(
        blocks: Callable[[Tensor], Tensor], item: int, labels: Labels,
        tasks: Sequence[Task], groups: _Groups, max_rank: int, topk: int,
        memory: int) -> dict[str, RankingResult]:
    """Walk over chunks of queries; see the module's docstring.

    Queries are taken in order of R, so that little is padded, and those with
    R = 0 never have their distances computed.

    Args:
        blocks: From queries (n,) to distances (n, G), columns in order of
            the groups.
        item: Bytes that a distance of a block takes.
        labels: On the device of the distances.
        tasks: Likewise.
        groups: Of these tasks.
        max_rank: See :func:`evaluate_features`.
        topk: Likewise.
        memory: Likewise.
    """
    sums = [
        _Accumulator(task, groups.table[:, i], max_rank, topk)
        for i, task in enumerate(tasks)]
    relevant = _Relevant(labels.query_pids, labels.gallery_pids)
    takes_part = torch.stack([task.query for task in tasks]).any(0)
    order = torch.argsort(relevant.count, stable=True)
    order = order[takes_part[order] & (relevant.count[order] > 0)]
    row_bytes = len(groups.order) * item
    for rows in _chunks(
            order, relevant.count, row_bytes, len(groups), memory):
        block = blocks(rows)

        def work(part: slice, rows: Tensor = rows,
                 block: Tensor = block) -> None:
            chunk = _count(block[part], rows[part], relevant, labels, groups)
            for total in sums:
                total.add(chunk)

        _in_threads(work, len(rows), block.device)
    return {total.task.name: total.result() for total in sums}


def _in_threads(work: Callable[[slice], None], num: int,
                device: torch.device) -> None:
    """Share rows out among threads, each with serial operations.

    Parallel operations of a few milliseconds each end in a barrier, and
    where a core has other work too, each waits a time slice there: five
    times the whole evaluation on a busy machine of two cores. Strips of rows
    wait for nobody.

    Args:
        work: Called with slices that cover ``range(num)``, once each.
        num: Rows.
        device: Where the work happens; a GPU gets it in one piece.
    """
    if device.type != 'cpu':
        work(slice(0, num))
        return
    strips = [slice(i, i + _STRIP) for i in range(0, num, _STRIP)]
    threads = torch.get_num_threads()
    inference = torch.is_inference_mode_enabled()

    def run(part: slice) -> None:
        # These modes belong to the thread that set them.
        with torch.inference_mode(inference), torch.no_grad():
            work(part)

    try:
        with ThreadPoolExecutor(
                threads, initializer=torch.set_num_threads,
                initargs=(1, )) as pool:
            for _ in pool.map(run, strips):
                pass
    finally:
        # A part of the setting belongs to the process, not to the thread.
        torch.set_num_threads(threads)


def _chunks(order: Tensor, count: Tensor, row_bytes: int, num_groups: int,
            memory: int) -> Iterator[Tensor]:
    """Cut queries so that a chunk's block and counts fit ``memory``."""
    counts = count[order].tolist()
    # Per relevant entry: distance, row, flags, two counts by group and the
    # figures made of them, all of 8 bytes.
    slot_bytes = 8 * (16 + 4 * num_groups)
    start = 0
    while start < len(counts):
        size = max(1, memory // row_bytes)
        while True:
            stop = min(start + size, len(counts))
            need = (stop - start) * (
                row_bytes + counts[stop - 1] * slot_bytes)
            # A few relevant entries may overdraw; many make chunks smaller.
            if size == 1 or need <= 1.25 * memory:
                break
            size //= 2
        yield order[start:stop]
        start = stop


def _count(block: Tensor, rows: Tensor, relevant: _Relevant, labels: Labels,
           groups: _Groups) -> _Chunk:
    """Order the relevant entries and count what comes before each."""
    index, real = relevant(rows)
    limits = block.gather(1, groups.column[index])
    limits.masked_fill_(~real, float('inf'))
    limits, place = torch.sort(limits, dim=1, stable=True)
    index, real = index.gather(1, place), real.gather(1, place)
    tile = _TILE.get(block.device.type, _TILE['cpu'])
    count = _compare if limits.shape[1] <= _MANY else _search
    below, up_to = count(block, limits, groups, tile)
    tied = real & ((up_to - below).sum(2) > 1)
    if bool(tied.any()):
        _add_ties(below, tied, block, limits, index, groups, tile)
    same = torch.zeros_like(real)
    if labels.self_index is not None:
        same = labels.self_index[rows, None] == index
    same_camera = torch.zeros_like(real)
    if labels.query_cameras is not None and (
            labels.gallery_cameras is not None):
        same_camera = (labels.query_cameras[rows, None]
                       == labels.gallery_cameras[index])
    return _Chunk(rows, index, real, below, same, same_camera)


def top_k(
        query: Tensor, gallery: Tensor, k: int, *, normalize: bool = True,
        memory: int = DEFAULT_MEMORY) -> tuple[Tensor, Tensor]:
    """The k nearest gallery entries of each query.

    Args:
        query: (Q, D) features.
        gallery: (G, D) features.
        k: Length of the lists, 1 to G.
        normalize: L2-normalise first.
        memory: Bytes of one distance block.

    Returns:
        (Q, k) int64 gallery rows, nearest first and equal distances in order
        of the row, and (Q, k) float32 squared Euclidean distances.

    Raises:
        ConfigError: If k is out of range.
        DataFormatError: If features are not finite or not (N, D).
    """
    query = prepare_features(query, normalize)
    gallery = prepare_features(gallery, normalize)
    if not 1 <= k <= len(gallery):
        raise ConfigError(
            f'k must be between 1 and the {len(gallery)} gallery entries, '
            f'got {k}.')
    blocks = _FeatureBlocks(query, gallery)
    size = max(1, memory // (4 * len(gallery)))
    index = torch.empty(
        len(query), k, dtype=torch.int64, device=query.device)
    values = query.new_empty(len(query), k)
    with full_precision(query.device):
        for rows in torch.arange(
                len(query), device=query.device).split(size):
            index[rows], values[rows] = _nearest(blocks(rows), k)
    return index, values


def _nearest(block: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Stable top-k of each row: rows (n, k) and values (n, k)."""
    values, index = torch.topk(block, k, dim=1, largest=False)
    index = index.sort(dim=1).values
    values, place = torch.sort(block.gather(1, index), dim=1, stable=True)
    index = index.gather(1, place)
    # topk picks any of several equal entries at the k-th place.
    last = values[:, -1:]
    crowded = ((block <= last).sum(1) > k).nonzero().flatten()
    for rows in crowded.split(max(1, len(block) // 8)):
        ordered = torch.sort(block[rows], dim=1, stable=True)
        values[rows] = ordered.values[:, :k]
        index[rows] = ordered.indices[:, :k]
    return index, values
