"""Labels recovered from pairs of items: what a method that needs classes is trained on where only pairs are known.

Luo et al. (DSHC), section 5, names two ways and prints no experiment:

* ``neighbourhoods``, for clean and complete pairs. An item whose similar items are all similar to each other has one
  label; each distinct such neighbourhood is a label, and all in it have it. Items may have several.
* ``markov``: the clusters of the graph of similar pairs (:mod:`dshc.data.markov`), one an item.

And what a cluster is can be asked of the pairs that are *not* similar, too, which the graph does not hold:

* ``spectral``: k-means over the leading eigenvectors of the signed matrix of pairs; as many clusters as it has
  eigenvalues outside those of noise.
* Clusters of either kind are then merged, and items moved between them, as long as the known pairs become more likely.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy import sparse

from ..errors import InputError
from .markov import markov_clusters, numbered
from .pairs import Pairs
from .settings import RECOVERIES, Recovery

__all__ = ["VERSION", "PairLabels", "labels_from_pairs"]

VERSION = 3  # another number where the same pairs give other labels: what was kept is then found no more
_INFLATIONS = (
    2.0,
    1.4,
    4.0,
)  # the usual one; for walks that are hardly caught, and for such as go everywhere
_MOST_MERGED = 1024  # clusters: the time grows with the cube, and more are hardly more than an item each
_ROUNDS = 20
_ROWS = 512  # of a whole matrix at a time
_FIRST_VECTORS, _MOST_VECTORS = 16, 256
_DENSE = 512  # items whose matrix is taken apart whole, which takes no longer


@dataclass(frozen=True, eq=False)
class PairLabels:
    """Labels that pairs led to.

    ``labels``: class ids int64 ``(n,)``, -1 for an item without one, or multi-hot uint8 ``(n, C)``; numbered by their
    first items. ``how``: which way it was. ``agreement``: of the similar pairs the share whose items have a
    common label, of the others the share whose items have none, and the mean of the two.
    """

    labels: np.ndarray
    how: str
    agreement: float
    n_classes: int

    @property
    def n_left_out(self) -> int:
        """Items without a label."""
        alone = self.labels < 0 if self.labels.ndim == 1 else ~self.labels.any(1)
        return int(alone.sum())


def labels_from_pairs(pairs: Pairs, how: Recovery = "auto", *, seed: int = 0) -> PairLabels:
    """Recover labels; ``auto`` takes the way whose labels agree best with the pairs, the first of equals.

    Where some pairs are known to be similar and none not to be, one label for all would agree with them: there the
    labels of the largest modularity are taken (Newman and Girvan, *Finding and evaluating community structure in
    networks*, 2004), that is of the most similar pairs within beyond what their items' numbers of pairs make likely.

    It looks at neighbourhoods only where all pairs are known, and where pairs of both kinds are known it tries one
    inflation of Markov clustering and the spectrum. A label has two items at least, and an item that is known to be
    similar to no other has none. At most 257 labels come from the spectrum. ``seed`` is of k-means.

    Raises :class:`InputError` where neighbourhoods are asked for and pairs are missing, or no label is found.
    """
    if how not in RECOVERIES:
        raise InputError(f"recover must be one of {', '.join(RECOVERIES)}, got {how!r}")
    if how == "neighbourhoods" and not pairs.complete:
        n_all = pairs.n_items * (pairs.n_items - 1) // 2
        raise InputError(f"recover must be markov or spectral where pairs are missing, got neighbourhoods for "
                         f"{pairs.n_pairs:,} of {n_all:,} pairs")  # fmt: skip
    has_both = 0 < pairs.n_similar < pairs.n_pairs
    ways: list[tuple[str, Callable[[], np.ndarray]]] = []
    if pairs.complete and how in ("auto", "neighbourhoods"):
        ways.append(("neighbourhoods", lambda: _neighbourhoods(pairs)))
    if how in ("auto", "markov"):
        inflations = _INFLATIONS if how == "markov" or not has_both else _INFLATIONS[:1]
        ways += [
            ("markov", lambda i=i: _settled(pairs, markov_clusters(pairs.known, inflation=i)))
            for i in inflations
        ]
    if how == "spectral" or (how == "auto" and has_both):
        ways.append(("spectral", lambda: _settled(pairs, _spectral(pairs, seed))))
    alone = np.diff(pairs.known.indptr) == 0
    alone[~alone] = np.maximum.reduceat(pairs.known.data, pairs.known.indptr[:-1][~alone]) < 0
    found: list[PairLabels] = []
    for name, way in ways:
        labels = way()
        if labels.ndim == 1:
            labels = np.where(alone, -1, labels)
        labels = _without_single(labels)
        n_classes = int(labels.max(initial=-1)) + 1 if labels.ndim == 1 else labels.shape[1]
        if n_classes:
            found.append(PairLabels(labels, name, _agreement(pairs, labels), n_classes))
        if found and found[-1].agreement == 1 and (has_both or pairs.complete):
            break
    if not found:
        raise InputError(f"pairs must show at least one label by {how}, got none from {pairs}")
    if has_both or pairs.complete:
        return max(found, key=lambda one: one.agreement)
    return max(found, key=lambda one: _modularity(pairs, one.labels))


# By neighbourhoods


def _neighbourhoods(pairs: Pairs) -> np.ndarray:
    """Multi-hot, or class ids (-1: in none) where no item is in two."""
    n = pairs.n_items
    similar = np.zeros((n, n), bool)
    for start in range(0, n, _ROWS):
        similar[start : start + _ROWS] = pairs.rows(np.arange(start, min(start + _ROWS, n))) > 0
    np.fill_diagonal(similar, True)
    packed = np.packbits(similar, axis=1)
    # Items of equal neighbourhoods are one case.
    _, firsts = np.unique(packed, axis=0, return_index=True)
    columns = []
    for item in np.sort(firsts):
        members = np.flatnonzero(similar[item])
        if len(members) > 1 and all(
            ((packed[members[start : start + 256]] & packed[item]) == packed[item]).all()
            for start in range(0, len(members), 256)
        ):
            columns.append(similar[item])
    if not columns:
        return np.full(n, -1)
    hot = np.array(columns, np.uint8).T
    in_one = hot.any(1)
    if (hot.sum(1, dtype=np.int64) > 1).any():
        return np.ascontiguousarray(hot)
    return np.where(in_one, hot.argmax(1), -1)


# By the spectrum


def _spectral(pairs: Pairs, seed: int) -> np.ndarray:
    from sklearn.cluster import KMeans

    n = pairs.n_items
    if n < 3:  # fewer than its eigenvectors are found for
        return np.full(n, -1)
    matrix = pairs.known.astype(np.float32)
    # Of a random symmetric matrix with entries of deviation s all eigenvalues lie within 2 s sqrt(n).
    edge = 2 * np.sqrt(pairs.known.nnz / n)
    wanted = _FIRST_VECTORS
    while True:
        count = min(wanted, n - 1)
        values, vectors = _leading(matrix, count, seed)
        outside = values > edge
        if not outside.all() or count == n - 1 or wanted >= _MOST_VECTORS:
            break
        wanted *= 2
    if not outside.any():
        return np.full(n, -1)
    # Where items of different classes are known as such, one direction of the classes' space falls among the noise.
    n_clusters = int(outside.sum()) + (pairs.n_similar < pairs.n_pairs)
    places = vectors[:, outside] * np.sqrt(values[outside])
    return numbered(KMeans(n_clusters, n_init=4, random_state=seed).fit_predict(places))


def _leading(matrix: sparse.csr_array, count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """The largest eigenvalues and their eigenvectors; fewer, or none, where they cannot all be found."""
    from scipy.sparse.linalg import ArpackError, ArpackNoConvergence, eigsh

    n = matrix.shape[0]
    if n <= _DENSE:
        values, vectors = np.linalg.eigh(matrix.toarray())
        return values[-count:], vectors[:, -count:]
    random = np.random.default_rng(seed)
    start = random.standard_normal(n)
    # Clean pairs make a matrix of few different eigenvalues, whose Krylov space ends early; ARPACK then goes on from
    # random vectors (from 1.17 on drawn from ``rng``), and may still run out of directions where it holds few.
    options = {"rng": random} if "rng" in inspect.signature(eigsh).parameters else {}
    for per_value in (2, 4, 8):
        held = min(n, max(per_value * count + 1, 20))
        try:
            return eigsh(matrix, k=count, which="LA", v0=start, ncv=held, **options)
        except ArpackNoConvergence as stopped:  # those that it has found are right
            return stopped.eigenvalues, stopped.eigenvectors
        except ArpackError:
            continue
    return np.zeros(0), np.zeros((n, 0))


# Clusters made to agree with the pairs


def _settled(pairs: Pairs, clusters: np.ndarray) -> np.ndarray:
    """Merge clusters and move items as long as known pairs become more likely; without pairs of both kinds, nothing."""
    if not 0 < pairs.n_similar < pairs.n_pairs:
        return clusters
    for _ in range(_ROUNDS):
        if not (clusters >= 0).any():
            break
        evidence = _evidence(pairs, clusters)
        before, clusters = clusters, _renumbered(_moved(evidence, *_merged(evidence, clusters)))
        if np.array_equal(before, clusters):
            break
    return clusters


def _renumbered(clusters: np.ndarray) -> np.ndarray:
    """As :func:`~dshc.data.markov.numbered`, -1 staying what it is."""
    found = np.full(len(clusters), -1)
    found[clusters >= 0] = numbered(clusters[clusters >= 0])
    return found


def _evidence(pairs: Pairs, clusters: np.ndarray) -> sparse.csr_array:
    """How much each known pair speaks for one cluster: the logarithm of how likely it is within against between."""
    known = pairs.known
    small = clusters.astype(np.int32)  # all pairs of 10,000 items are 100 million entries
    of_row = np.repeat(small, np.diff(known.indptr))
    within = (of_row == small[known.indices]) & (of_row >= 0)
    similar = known.data > 0
    share = [((similar & part).sum() + 1) / (part.sum() + 2) for part in (within, ~within)]
    for_one = np.float32(np.log(share[0] / share[1])), np.float32(np.log((1 - share[0]) / (1 - share[1])))
    return sparse.csr_array((np.where(similar, *for_one), known.indices, known.indptr), shape=known.shape)


def _merged(evidence: sparse.csr_array, clusters: np.ndarray) -> tuple[np.ndarray, int]:
    """Merge the two clusters that most speaks for, until nothing speaks for any; and how many there are of these.

    Of many only the largest are looked at. The others stay what they are, numbered behind the merged ones; items alone
    in one belong to none (-1) from here on.
    """
    sizes = np.bincount(clusters[clusters >= 0])
    chosen = np.sort(np.argsort(-sizes, kind="stable")[:_MOST_MERGED])
    place = np.full(len(sizes) + 1, -1)  # the last is that of -1
    place[chosen] = np.arange(len(chosen))
    members = _members(place[clusters], len(chosen))
    between = (members.T @ evidence @ members).toarray()
    np.fill_diagonal(between, -np.inf)
    into = np.arange(len(chosen))
    best = between.argmax(1)
    value = between[into, best]
    while value.max(initial=-np.inf) > 0:
        kept = int(value.argmax())
        gone = int(best[kept])
        into[into == gone] = kept
        row = between[kept] + between[gone]
        row[[kept, gone]] = -np.inf
        between[kept], between[:, kept] = row, row
        between[gone], between[:, gone] = -np.inf, -np.inf
        value[gone] = -np.inf
        # Rows whose best was one of the two look again; the others may have found a better one in the merged cluster.
        again = np.flatnonzero((best == kept) | (best == gone) | (np.arange(len(best)) == kept))
        best[again] = between[again].argmax(1)
        better = row > value
        best[better] = kept
        value = between[np.arange(len(best)), best]
    final = np.full(len(sizes) + 1, -1)
    final[chosen] = np.unique(into, return_inverse=True)[1]
    n_merged = int(final.max(initial=-1)) + 1
    others = np.setdiff1d(np.flatnonzero(sizes > 1), chosen)
    final[others] = n_merged + np.arange(len(others))
    return final[clusters], n_merged


def _moved(evidence: sparse.csr_array, clusters: np.ndarray, n_clusters: int) -> np.ndarray:
    """Move each item to that of the first ``n_clusters`` that its pairs most speak for, all at once, some times."""
    everyone = np.arange(len(clusters))
    rows = np.repeat(everyone, np.diff(evidence.indptr))
    for _ in range(_ROUNDS):
        in_first = np.where(clusters < n_clusters, clusters, -1)
        for_each = (evidence @ _members(in_first, n_clusters)).toarray()
        best = for_each.argmax(1)
        own = np.where(in_first >= 0, for_each[everyone, in_first], 0)
        if (others := clusters >= n_clusters).any():
            within = others[rows] & (clusters[rows] == clusters[evidence.indices])
            sums = np.bincount(rows[within], weights=evidence.data[within], minlength=len(clusters))
            own = np.where(others, sums, own)
        moves = for_each[everyone, best] > own
        if not moves.any():
            break
        clusters = np.where(moves, best, clusters)
    return clusters


def _members(clusters: np.ndarray, n_clusters: int) -> sparse.csr_array:
    items = np.flatnonzero(clusters >= 0)
    ones = np.ones(len(items), np.float32)
    return sparse.csr_array((ones, (items, clusters[items])), shape=(len(clusters), n_clusters))


# What is said of labels


def _without_single(labels: np.ndarray) -> np.ndarray:
    """Labels of one item alone are none."""
    if labels.ndim == 2:
        return labels[:, labels.sum(0, dtype=np.int64) > 1]
    sizes = np.bincount(labels[labels >= 0])
    number = np.where(sizes > 1, np.cumsum(sizes > 1) - 1, -1)
    return np.append(number, -1)[labels]  # the last is that of -1


def _modularity(pairs: Pairs, labels: np.ndarray) -> float:
    """Of class ids in the graph of similar pairs: the share of its edges within, less what chance would put there."""
    graph = pairs.known
    rows = np.repeat(np.arange(pairs.n_items), np.diff(graph.indptr))
    within = (labels[rows] == labels[graph.indices]) & (labels[rows] >= 0)
    ends = np.diff(graph.indptr)
    of_label = np.bincount(labels[labels >= 0], weights=ends[labels >= 0])
    return float(within.mean() - ((of_label / max(graph.nnz, 1)) ** 2).sum())


def _agreement(pairs: Pairs, labels: np.ndarray) -> float:
    known = pairs.known
    right = {True: 0, False: 0}
    n = {True: 0, False: 0}
    rows_at_once = max(1, (1 << 24) // max(1, int(np.diff(known.indptr).max(initial=1))))
    for start in range(0, pairs.n_items, rows_at_once):
        part = known[start : start + rows_at_once]
        rows = start + np.repeat(np.arange(part.shape[0]), np.diff(part.indptr))
        if labels.ndim == 1:
            common = (labels[rows] == labels[part.indices]) & (labels[rows] >= 0)
        else:
            of_row = labels[start : start + rows_at_once].astype(np.float32) @ labels.T.astype(np.float32)
            common = of_row[rows - start, part.indices] > 0
        for similar in (True, False):
            of_kind = (part.data > 0) == similar
            n[similar] += int(of_kind.sum())
            right[similar] += int((common[of_kind] == similar).sum())
    shares = [right[kind] / n[kind] for kind in (True, False) if n[kind]]
    return float(np.mean(shares))
