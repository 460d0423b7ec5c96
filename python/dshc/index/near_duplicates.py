"""Groups of near-duplicates: items that pairs within a radius connect, directly or through others."""

from __future__ import annotations

import numpy as np
from scipy import sparse
from scipy.sparse.csgraph import connected_components

from dshc_fast import HammingRadius


def groups_of(pairs: HammingRadius[np.ndarray]) -> list[np.ndarray]:
    """The connected components of the pairs that `dshc_fast.hamming_pairs` finds, those of two items and more.

    Two items of a group may lie further apart than the radius: each lies within it of some other item of the group.

    Returns:
        int64 arrays, the items of a group ascending; the largest group first, groups of one size by their first item.
    """
    n = len(pairs.offsets) - 1
    graph = sparse.csr_array(
        (np.ones(len(pairs.indices), np.int8), pairs.indices, pairs.offsets), shape=(n, n)
    )
    _, group = connected_components(graph, directed=False)
    sizes = np.bincount(group, minlength=1)
    items = np.flatnonzero(sizes[group] > 1)
    if not len(items):
        return []
    items = items[np.argsort(group[items], kind="stable")]
    groups = np.split(items, np.flatnonzero(np.diff(group[items])) + 1)
    return sorted(groups, key=lambda members: (-len(members), members[0]))
