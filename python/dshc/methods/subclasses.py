"""Which sub-class of its class per item belongs to.

The paper's loss asks for the uniform distribution over a class's sub-classes, so that the one an item lands on
means nothing. An :class:`Assigner` gives every training item one sub-class of its own class, and
:class:`dshc.methods.DSHC` moves a share of the target onto it.

* :class:`KMeansAssigner`: before every epoch, k-means over the backbone's features of each class. Clusters go
  on from those of the epoch before, so that they keep their numbers.
* :class:`SinkhornAssigner`: in every step, balanced optimal transport between the rows of a class in the batch
  and its sub-classes, the scores being the row's own logits; a queue of recent rows makes the batch larger.

Both look at one class at a time and never leave it; neither sees anything but what the network makes of the
items. Without a bond between different views of an item, balance (Sinkhorn) or the spread of the features
(k-means) is what keeps them from the cheapest answer, one sub-class for everything.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

__all__ = ["Assigner", "KMeansAssigner", "SinkhornAssigner", "balanced_plan", "kmeans"]

_LOWEST = -1e4
_SHARPNESS = 2.0  # the plan is drawn sharper than the logits are, or it would only repeat them
_ITERATIONS = 20
_LLOYD_STEPS = 30


class Assigner(nn.Module, ABC):
    """Sub-classes for training items; ``class_offsets`` int64 ``(C + 1,)`` says which are a class's own.

    :meth:`state` is what a training needs to go on from a checkpoint.
    """

    def __init__(self, class_offsets: Tensor) -> None:
        super().__init__()
        self.register_buffer("offsets", class_offsets.clone(), persistent=False)
        self.register_buffer("sizes", class_offsets.diff(), persistent=False)

    def start_epoch(self, features: Callable[[], Tensor], labels: Tensor, generator: torch.Generator) -> None:
        """Called before the first step of an epoch; see :meth:`dshc.methods.Method.begin_epoch`."""

    @abstractmethod
    def state(self) -> dict[str, Tensor]:
        """What has been found so far."""

    @abstractmethod
    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Take back what :meth:`state` gave."""

    @abstractmethod
    def forward(self, outputs: Tensor, labels: Tensor, items: Tensor) -> Tensor:
        """Numbers of outputs int64 ``(b,)``, each a sub-class of the row's class.

        ``outputs`` float ``(b, n_outputs)``, ``labels`` int64 ``(b,)``, ``items`` int64 ``(b,)`` numbers of
        the rows among the training items.
        """


class KMeansAssigner(Assigner):
    """Clusters of the backbone's features in each class, found anew before every epoch."""

    def __init__(self, class_offsets: Tensor) -> None:
        super().__init__(class_offsets)
        self._assigned: Tensor | None = None  # int64 (n,), counted within the class

    def start_epoch(self, features: Callable[[], Tensor], labels: Tensor, generator: torch.Generator) -> None:
        values = features()
        before, self._assigned = self._assigned, torch.zeros_like(labels)
        for c, size in enumerate(self.sizes.tolist()):
            rows = (labels == c).nonzero()[:, 0]
            if len(rows):
                start = None if before is None else before[rows]
                n_clusters = min(size, len(rows))
                self._assigned[rows] = kmeans(values[rows], n_clusters, start=start, generator=generator)

    def forward(self, outputs: Tensor, labels: Tensor, items: Tensor) -> Tensor:
        if self._assigned is None:
            raise ValueError("items have no clusters yet; call start_epoch first")
        return self.offsets[labels] + self._assigned[items]

    def state(self) -> dict[str, Tensor]:
        return {} if self._assigned is None else {"assigned": self._assigned}

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        self._assigned = state["assigned"].to(self.offsets.device) if state else None


class SinkhornAssigner(Assigner):
    """The likeliest sub-class in a balanced plan over the batch and the last ``queue`` rows of every class."""

    def __init__(self, class_offsets: Tensor, *, queue: int = 0) -> None:
        super().__init__(class_offsets)
        if queue < 0:
            raise ValueError(f"queue must be at least 0, got {queue}")
        self.register_buffer("recent", torch.zeros(len(self.sizes), queue, int(self.sizes.max())))
        self.register_buffer("seen", torch.zeros(len(self.sizes), dtype=torch.int64))

    def forward(self, outputs: Tensor, labels: Tensor, items: Tensor) -> Tensor:
        width, n_slots = self.recent.shape[2], self.recent.shape[1]
        columns = self.offsets[labels][:, None] + torch.arange(width, device=labels.device)
        scores = outputs.detach().float().gather(1, columns.clamp(max=outputs.shape[1] - 1))
        filled = torch.arange(n_slots, device=labels.device) < self.seen[:, None]
        plan = balanced_plan(
            _SHARPNESS * torch.cat([scores, self.recent[filled]]),
            torch.cat([labels, filled.nonzero()[:, 0]]),
            self.sizes,
        )
        if n_slots:
            self._remember(scores, labels)
        return self.offsets[labels] + plan[: len(labels)].argmax(1)

    def state(self) -> dict[str, Tensor]:
        return {"recent": self.recent, "seen": self.seen}

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        self.recent.copy_(state["recent"])
        self.seen.copy_(state["seen"])

    def _remember(self, scores: Tensor, labels: Tensor) -> None:
        """Put the rows into the rings of their classes, over the oldest ones."""
        n_slots = self.recent.shape[1]
        counts = torch.bincount(labels, minlength=len(self.sizes))
        order = labels.argsort(stable=True)
        place = torch.empty_like(order)  # of a row among those of its class
        ranks = torch.arange(len(order), device=order.device)
        place[order] = ranks - (counts.cumsum(0) - counts)[labels[order]]
        kept = place >= counts[labels] - n_slots
        rows = labels[kept]
        self.recent[rows, (self.seen[rows] + place[kept]) % n_slots] = scores[kept]
        self.seen += counts


def balanced_plan(scores: Tensor, labels: Tensor, sizes: Tensor, *, iterations: int = _ITERATIONS) -> Tensor:
    """The shares in which every row belongs to the sub-classes of its class, each of which gets equally much.

    Of all plans whose rows sum to 1 and whose columns, within the rows of a class, sum to its rows divided by
    its sub-classes, the one of the highest sum of plan * scores + entropy: Sinkhorn's scaling of exp(scores),
    in logarithms. Rows are scaled last: they sum to 1 exactly, the columns nearly so after enough
    ``iterations``. O(n * width) an iteration.

    Args:
        scores: float ``(n, width)``; row i uses its first ``sizes[labels[i]]`` columns. Those more than 1e4
            below the row's highest count as 1e4 below it.
        labels: int64 ``(n,)``, class ids below C.
        sizes: int64 ``(C,)``, sub-classes of each class, 1 to ``width``.

    Returns float64 ``(n, width)``, 0 in the columns that are none of the class's. Raises ``ValueError``
    naming the argument whose shape does not fit.

    Source: Cuturi, "Sinkhorn Distances", NeurIPS 2013; for labels, Asano et al., "Self-labelling via
    simultaneous clustering and representation learning", ICLR 2020.
    """
    if scores.ndim != 2 or labels.shape != scores.shape[:1]:
        raise ValueError(
            "labels and scores must have shapes (n,) and (n, width), got "
            f"{tuple(labels.shape)} and {tuple(scores.shape)}"
        )
    if iterations < 1:
        raise ValueError(f"iterations must be at least 1, got {iterations}")
    own = torch.arange(scores.shape[1], device=scores.device) < sizes[:, None]  # (C, width)
    mine = own[labels]
    scores = scores.double().masked_fill(~mine, -torch.inf)
    scores = (scores - scores.amax(1, keepdim=True)).clamp(min=_LOWEST).masked_fill(~mine, -torch.inf)
    counts = torch.bincount(labels, minlength=len(sizes))
    share = (counts.double() / sizes).log()[:, None]
    used = own & (counts > 0)[:, None]
    columns = torch.zeros_like(own, dtype=torch.float64)
    for _ in range(iterations):
        rows = scores - (scores + columns[labels]).logsumexp(1, keepdim=True)
        columns = torch.where(used, share - _logsumexp_by_class(rows, labels, len(sizes)), 0.0)
    return (scores + columns[labels]).softmax(1)


def _logsumexp_by_class(values: Tensor, labels: Tensor, n_classes: int) -> Tensor:
    """log-sum-exp over the rows of each class, ``(n_classes, width)``; what is -inf throughout stays so."""
    rows = labels[:, None].expand_as(values)
    peak = values.new_full((n_classes, values.shape[1]), -torch.inf).scatter_reduce(0, rows, values, "amax")
    peak = peak.masked_fill(peak == -torch.inf, 0.0)
    return torch.zeros_like(peak).index_add(0, labels, (values - peak[labels]).exp()).log() + peak


def kmeans(
    features: Tensor,
    n_clusters: int,
    *,
    start: Tensor | None = None,
    generator: torch.Generator | None = None,
    steps: int = _LLOYD_STEPS,
) -> Tensor:
    """Clusters of ``features`` float ``(n, d)`` by Lloyd's algorithm: their numbers, int64 ``(n,)``.

    ``start``: clusters to go on from, by which clusters keep their numbers from one call to the next; without
    it the first centroids are drawn by k-means++ (Arthur and Vassilvitskii, 2007) from ``generator``, on the
    CPU. A cluster that loses its last item takes the item farthest from its own centroid. Raises
    ``ValueError`` where ``n_clusters`` is not 1 to n.
    """
    if not 1 <= n_clusters <= len(features):
        raise ValueError(f"n_clusters must lie in 1..{len(features)} (the items), got {n_clusters}")
    if start is None:
        centroids = _spread(features, n_clusters, generator)
    else:
        centroids = _means(features, start, n_clusters)
    clusters = torch.full((len(features),), -1, device=features.device)
    for _ in range(steps):
        distances = torch.cdist(features, centroids)
        nearest, found = distances.min(1)
        for empty in (torch.bincount(found, minlength=n_clusters) == 0).nonzero()[:, 0].tolist():
            farthest = nearest.argmax()
            found[farthest], nearest[farthest] = empty, -1.0
        if torch.equal(found, clusters):
            break
        clusters = found
        centroids = _means(features, clusters, n_clusters)
    return clusters


def _means(features: Tensor, clusters: Tensor, n_clusters: int) -> Tensor:
    """Centroids ``(n_clusters, d)``; that of an empty cluster is the mean of all."""
    sums = features.new_zeros(n_clusters, features.shape[1]).index_add(0, clusters, features)
    counts = torch.bincount(clusters, minlength=n_clusters)[:, None]
    return torch.where(counts > 0, sums / counts.clamp(min=1), features.mean(0))


def _spread(features: Tensor, n_clusters: int, generator: torch.Generator | None) -> Tensor:
    """Items as first centroids, each drawn in proportion to its squared distance to the nearest one before."""
    nearest = torch.ones(len(features), dtype=torch.float64)
    chosen: list[int] = []
    for _ in range(n_clusters):
        if not nearest.sum() > 0:  # more clusters than different items
            nearest = torch.ones_like(nearest)
        chosen.append(int(torch.multinomial(nearest, 1, generator=generator)))
        distances = torch.cdist(features, features[chosen[-1:]])[:, 0].double().cpu().square()
        nearest = distances if len(chosen) == 1 else torch.minimum(nearest, distances)
    return features[chosen]
