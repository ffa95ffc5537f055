"""k-reciprocal re-ranking (Zhong et al., CVPR 2017).

Follows ``utils/reranking.py`` of the official code, with its k1 = 50,
k2 = 15, lambda = 0.3 as defaults. That code rounds V and sums m in float16,
which moves distances by up to 4e-3; here it is float32 unless ``half`` asks
for the official rounding:

1. d(i, j), squared Euclidean over queries and gallery together, each row
   divided by its largest value;
2. R(i): the neighbours j among the k1 + 1 nearest of i that have i among
   theirs; then, for each j in R(i), its own reciprocal set with round(k1/2)
   joins if more than 2/3 of it lies in R(i);
3. V(i, j) = exp(-d(i, j)) on that set, normalised to sum 1;
4. V(i) becomes the mean of V over the k2 nearest of i;
5. Jaccard distance J(i, j) = 1 - m / (2 - m), m = sum_k min(V(i,k), V(j,k));
6. lambda d + (1 - lambda) J.

Neighbour lists come from chunked blocks and V is sparse, so that nothing of
size N x N is ever held; only the (Q, G) result is dense.

Legend: Q queries, G gallery entries, N = Q + G, D channels, n rows of a
chunk.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from ..utils.errors import ConfigError, DataFormatError
from .ranking import (
    DEFAULT_MEMORY,
    full_precision,
    prepare_features,
    squared_distances,
    top_k,
)


def k_reciprocal(
        query: Tensor, gallery: Tensor, k1: int = 50, k2: int = 15,
        lambda_value: float = 0.3, *, within_modality: bool = False,
        query_modality: Tensor | None = None,
        gallery_modality: Tensor | None = None, normalize: bool = True,
        half: bool = False, memory: int = DEFAULT_MEMORY) -> Tensor:
    """Distances after k-reciprocal re-ranking.

    Args:
        query: (Q, D) features.
        gallery: (G, D) features.
        k1: Neighbours that are tested for reciprocity.
        k2: Neighbours whose sets are averaged; 1 for none.
        lambda_value: Weight of the original distance, 0 to 1.
        within_modality: Re-rank each pair of query and gallery modality by
            itself, so that neighbourhoods never mix target modalities: O2S
            then has what a gallery of SAR alone would give. Distances to
            the two modalities are then on scales of their own, which
            matters where a protocol searches both.
        query_modality: (Q,), needed for ``within_modality``.
        gallery_modality: (G,), likewise.
        normalize: L2-normalise first, as the authors do.
        half: Round V and sum m in float16, as the official code does.
        memory: Bytes of one chunk's working set.

    Returns:
        (Q, G) float32.

    Raises:
        ConfigError: If a parameter is out of its range.
        DataFormatError: If features are not finite or not (N, D).
    """
    _check(k1, k2, lambda_value)
    query = prepare_features(query, normalize)
    gallery = prepare_features(gallery, normalize)
    if len(query) == 0 or len(gallery) == 0:
        raise DataFormatError(
            f'Re-ranking needs queries and a gallery, got {len(query)} and '
            f'{len(gallery)}.')
    settings = _Settings(
        k1, k2, lambda_value, torch.float16 if half else torch.float32,
        memory)
    if not within_modality:
        return _rerank(query, gallery, settings)
    if query_modality is None or gallery_modality is None:
        raise ConfigError(
            'within_modality=True needs query_modality and '
            'gallery_modality.')
    result = query.new_empty(len(query), len(gallery))
    for rows in _by_value(query_modality.to(query.device)):
        for columns in _by_value(gallery_modality.to(query.device)):
            result[rows[:, None], columns] = _rerank(
                query[rows], gallery[columns], settings)
    return result


@dataclass(frozen=True)
class _Settings:
    """Parameters of :func:`k_reciprocal`; ``dtype`` is that of V."""

    k1: int
    k2: int
    lambda_value: float
    dtype: torch.dtype
    memory: int


def _check(k1: int, k2: int, lambda_value: float) -> None:
    if k1 < 1 or not 1 <= k2 <= k1 + 1:
        raise ConfigError(
            f'Re-ranking needs k1 >= 1 and 1 <= k2 <= k1 + 1, got k1={k1}, '
            f'k2={k2}.')
    if not 0.0 <= lambda_value <= 1.0:
        raise ConfigError(
            f'lambda_value must be within [0, 1], got {lambda_value}.')


def _by_value(values: Tensor) -> list[Tensor]:
    return [(values == value).nonzero().flatten()
            for value in values.unique().tolist()]


@dataclass
class _Sparse:
    """Sparse rows: entries of row i are ``start[i]:start[i + 1]``.

    Attributes:
        start: (rows + 1,) int64.
        column: (entries,) int64.
        value: (entries,) float32.
    """

    start: Tensor
    column: Tensor
    value: Tensor

    @classmethod
    def from_dense(cls, chunks: Iterator[Tensor]) -> _Sparse:
        """Collect dense (n, N) chunks."""
        counts, columns, values = [], [], []
        for chunk in chunks:
            row, column = chunk.nonzero(as_tuple=True)
            counts.append((chunk != 0).sum(1))
            columns.append(column)
            values.append(chunk[row, column])
        return cls(_starts(torch.cat(counts)), torch.cat(columns),
                   torch.cat(values))

    def transposed(self, num_columns: int, first_row: int) -> _Sparse:
        """By column, of the rows from ``first_row`` on."""
        skip = int(self.start[first_row])
        column, value = self.column[skip:], self.value[skip:]
        length = self.start.diff()[first_row:]
        row = torch.arange(
            len(length), device=length.device).repeat_interleave(length)
        column, place = torch.sort(column, stable=True)
        count = torch.bincount(column, minlength=num_columns)
        return _Sparse(_starts(count), row[place], value[place])

    def entries(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Positions of all entries of some rows, and which row each is of.

        Returns:
            (m,) index into ``column`` and ``value``, (m,) index into
            ``rows``.
        """
        length = self.start[rows + 1] - self.start[rows]
        owner = torch.arange(
            len(rows), device=rows.device).repeat_interleave(length)
        inside = torch.arange(len(owner), device=rows.device)
        inside -= _starts(length)[:-1][owner]
        return self.start[rows][owner] + inside, owner


def _starts(counts: Tensor) -> Tensor:
    return torch.nn.functional.pad(counts.cumsum(0), (1, 0))


def _rerank(query: Tensor, gallery: Tensor, settings: _Settings) -> Tensor:
    """Steps 1 to 6 on prepared features."""
    features = torch.cat([query, gallery])
    num, k1, k2 = len(features), settings.k1, settings.k2
    if k1 >= num:
        raise ConfigError(
            f'k1={k1} neighbours were asked for, but there are only '
            f'{num} images to choose from ({len(query)} queries and '
            f'{len(gallery)} gallery entries). Choose k1 below {num}.')
    neighbours = top_k(
        features, features, k1 + 1, normalize=False,
        memory=settings.memory)[0]
    with full_precision(features.device):
        weights = _Sparse.from_dense(
            _weights(features, neighbours, settings))
        if k2 > 1:
            weights = _Sparse.from_dense(
                _mean(weights, neighbours[:, :k2], settings))
        return _combine(features, len(query), weights, settings)


def _distances(features: Tensor, rows: Tensor) -> Tensor:
    """Step 1 for some rows: (n, N)."""
    block = squared_distances(features[rows], features)
    return block.div_(block.amax(1, keepdim=True).clamp_min(
        torch.finfo(block.dtype).tiny))


def _reciprocal(rows: Tensor, neighbours: Tensor) -> Tensor:
    """Which of each row's neighbours have it among their own.

    Args:
        rows: (n,) int64.
        neighbours: (N, K).

    Returns:
        (n, K) bool.
    """
    back = neighbours[neighbours[rows]]
    return (back == rows[:, None, None]).any(2)


def _weights(features: Tensor, neighbours: Tensor,
             settings: _Settings) -> Iterator[Tensor]:
    """Steps 2 and 3: dense (n, N) chunks of V."""
    num, device = len(features), features.device
    k1, memory = settings.k1, settings.memory
    # numpy's rounding, half to even, as in the official code.
    near = neighbours[:, :round(k1 / 2) + 1]
    size = max(1, memory // (16 * num + 24 * (k1 + 1)**2))
    everyone = torch.arange(num, device=device)
    near_mask = torch.cat(
        [_reciprocal(rows, near) for rows in everyone.split(size)])
    near_size = near_mask.sum(1)
    for rows in everyone.split(size):
        listed, mask = neighbours[rows], _reciprocal(rows, neighbours)
        inside = torch.zeros(len(rows), num, dtype=torch.bool, device=device)
        inside.scatter_(1, listed, mask)
        # (n, K, k): the reciprocal set of each neighbour of each row.
        member = near[listed]
        member_mask = near_mask[listed]
        line = torch.arange(len(rows), device=device)[:, None, None]
        common = (inside[line, member] & member_mask).sum(2)
        joins = mask & (3 * common > 2 * near_size[listed])
        pick = joins[..., None] & member_mask
        inside[line.expand_as(pick)[pick], member[pick]] = True
        weight = torch.exp(-_distances(features, rows)) * inside
        yield (weight / weight.sum(1, keepdim=True)).to(settings.dtype)


def _mean(weights: _Sparse, nearest: Tensor,
          settings: _Settings) -> Iterator[Tensor]:
    """Step 4: dense (n, N) chunks of V averaged over neighbours."""
    num, k2 = nearest.shape
    rows_all = torch.arange(num, device=nearest.device)
    longest = int(weights.start.diff().max())
    size = max(1, settings.memory // (12 * num + 48 * k2 * longest))
    for rows in rows_all.split(size):
        entry, owner = weights.entries(nearest[rows].flatten())
        dense = torch.zeros(len(rows) * num, device=nearest.device)
        dense.index_add_(
            0, owner.div(k2, rounding_mode='floor') * num
            + weights.column[entry], weights.value[entry].float())
        yield (dense.view(len(rows), num) / k2).to(settings.dtype)


def _combine(features: Tensor, num_query: int, weights: _Sparse,
             settings: _Settings) -> Tensor:
    """Steps 5 and 6 for query rows and gallery columns: (Q, G)."""
    num = len(features)
    num_gallery = num - num_query
    by_column = weights.transposed(num, num_query)
    fan = by_column.start.diff()[weights.column]
    # What each query's entries expand to; chunks are cut by that.
    total = _starts(fan)[weights.start[:num_query + 1]].cpu()
    result = features.new_empty(num_query, num_gallery)
    start = 0
    while start < num_query:
        stop = start + 1
        while stop < num_query and (
                48 * int(total[stop + 1] - total[start])
                + 16 * num * (stop + 1 - start)) <= settings.memory:
            stop += 1
        rows = torch.arange(start, stop, device=features.device)
        entry, owner = weights.entries(rows)
        other, source = by_column.entries(weights.column[entry])
        shared = torch.minimum(
            weights.value[entry][source], by_column.value[other])
        overlap = shared.new_zeros(len(rows) * num_gallery)
        overlap.index_add_(
            0, owner[source] * num_gallery + by_column.column[other], shared)
        overlap = overlap.view(len(rows), num_gallery)
        jaccard = 1 - overlap / (2 - overlap)
        original = _distances(features, rows)[:, num_query:]
        result[start:stop] = ((1 - settings.lambda_value) * jaccard
                              + settings.lambda_value * original)
        start = stop
    return result
