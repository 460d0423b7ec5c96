"""The slow, obvious twin of every op, in plain PyTorch.

Each function takes the same arguments as the public function of the same name (tensors only, already valid)
and returns the same values. It is the oracle of the tests and the shortest exact statement of what an op
does; it builds the matrices and sorted lists that the kernels avoid.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

_POPCOUNT = torch.tensor([bin(byte).count("1") for byte in range(256)], dtype=torch.int32)
_BIT_VALUES = torch.tensor([1 << j for j in range(8)], dtype=torch.uint8)
DISTANCE_FILL = 2**31 - 1  # distance of an answer that does not exist (fewer than k items allowed)
OVERLAP_FILL = -1


# ---- codes ----


def pack_codes(values: Tensor) -> Tensor:
    bits = (values > 0).to(torch.uint8)
    n_bytes = (bits.shape[1] + 7) // 8
    bits = torch.nn.functional.pad(bits, (0, 8 * n_bytes - bits.shape[1]))
    return (bits.view(-1, n_bytes, 8) * _BIT_VALUES.to(values.device)).sum(dim=2, dtype=torch.uint8)


def unpack_codes(codes: Tensor, n_bits: int, *, signed: bool = False) -> Tensor:
    bits = codes.unsqueeze(2).bitwise_and(_BIT_VALUES.to(codes.device)).ne(0).flatten(1)[:, :n_bits]
    return bits.to(torch.int8) * 2 - 1 if signed else bits.to(torch.uint8)


def reverse_bit_order(codes: Tensor) -> Tensor:
    bits = codes.unsqueeze(2).bitwise_and(_BIT_VALUES.to(codes.device)).ne(0)
    return (bits.flip(2).to(torch.uint8) * _BIT_VALUES.to(codes.device)).sum(dim=2, dtype=torch.uint8)


def multilabel_codes(logits: Tensor, threshold: float | Tensor = 0.0) -> Tensor:
    if isinstance(threshold, Tensor):
        # Compared in the wider of the two types, so that no threshold is rounded to the logits' precision.
        wide = torch.promote_types(logits.dtype, threshold.dtype)
        return pack_codes(logits.to(wide) > threshold.to(wide))
    return pack_codes(logits.double() > threshold)


# ---- ranking ----


def hamming_distance(queries: Tensor, database: Tensor, *, score: str = "hamming") -> Tensor:
    popcount = _POPCOUNT.to(queries.device)
    combine = torch.bitwise_xor if score == "hamming" else torch.bitwise_and
    rows = [popcount[combine(query, database).long()].sum(1, dtype=torch.int32) for query in queries]
    return torch.stack(rows) if rows else database.new_empty((0, len(database)), dtype=torch.int32)


def allowed_matrix(allowed: Tensor | None, n_query: int, n_db: int, device: torch.device) -> Tensor:
    """`allowed` in any of its four forms as a bool matrix (n_query, n_db)."""
    if allowed is None:
        return torch.ones((n_query, n_db), dtype=torch.bool, device=device)
    if allowed.dtype == torch.uint8:
        allowed = (
            unpack_codes(allowed.reshape(-1, allowed.shape[-1]), n_db).bool().view(*allowed.shape[:-1], n_db)
        )
    return allowed.expand(n_query, n_db)


def _rank_keys(queries: Tensor, database: Tensor, score: str) -> tuple[Tensor, Tensor]:
    """Counts, and the same turned so that a smaller key is a better answer."""
    counts = hamming_distance(queries, database, score=score)
    return counts, counts if score == "hamming" else -counts


def hamming_topk(
    queries: Tensor, database: Tensor, k: int, *, score: str = "hamming", allowed: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    counts, keys = _rank_keys(queries, database, score)
    mask = allowed_matrix(allowed, len(queries), len(database), queries.device)
    keys = keys.masked_fill(~mask, DISTANCE_FILL)
    order = keys.argsort(dim=1, stable=True)[:, :k]
    taken = mask.gather(1, order)
    fill = DISTANCE_FILL if score == "hamming" else OVERLAP_FILL
    return counts.gather(1, order).masked_fill(~taken, fill), order.masked_fill(~taken, -1)


def hamming_radius(
    queries: Tensor, database: Tensor, radius: int, *, score: str = "hamming", allowed: Tensor | None = None
) -> tuple[Tensor, Tensor, Tensor]:
    counts, keys = _rank_keys(queries, database, score)
    inside = counts <= radius if score == "hamming" else counts >= radius
    inside &= allowed_matrix(allowed, len(queries), len(database), queries.device)
    offsets = torch.zeros(len(queries) + 1, dtype=torch.int64, device=queries.device)
    offsets[1:] = inside.sum(1).cumsum(0)
    order = keys.argsort(dim=1, stable=True)
    inside_in_order = inside.gather(1, order)
    return offsets, order[inside_in_order], counts.gather(1, order)[inside_in_order]


# ---- metrics ----


def relevance(query_labels: Tensor, database_labels: Tensor) -> Tensor:
    """bool (n_query, n_db): equal class ids, or at least one shared label of multi-hot rows."""
    if query_labels.dim() == 1:
        # As Python integers, which hold every id of every dtype.
        pairs = [[a == b for b in database_labels.tolist()] for a in query_labels.tolist()]
        return torch.tensor(pairs, dtype=torch.bool, device=query_labels.device).view(
            len(query_labels), len(database_labels)
        )
    return query_labels.double() @ database_labels.double().T > 0


def hamming_histogram(
    queries: Tensor,
    database: Tensor,
    query_labels: Tensor,
    database_labels: Tensor,
    *,
    score: str = "hamming",
    n_bits: int | None = None,
    allowed: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    n_bits = 8 * queries.shape[1] if n_bits is None else n_bits
    counts = hamming_distance(queries, database, score=score).long()
    mask = allowed_matrix(allowed, len(queries), len(database), queries.device)
    relevant = mask & relevance(query_labels, database_labels)
    shape = (len(queries), n_bits + 1)
    items = torch.zeros(shape, dtype=torch.int64, device=queries.device).scatter_add_(1, counts, mask.long())
    return items, torch.zeros_like(items).scatter_add_(1, counts, relevant.long())


def _expected_group(items: int, relevant: int, before: int, relevant_before: int, taken: int) -> float:
    """Expected sum of precisions at the relevant items among the first `taken` of a tie (McSherry & Najork,
    2008)."""
    slope = (relevant - 1) / (items - 1) if items > 1 else 0.0
    total = math.fsum((relevant_before + 1 + t * slope) / (before + t + 1) for t in range(taken))
    return relevant / items * total


def _average_precision_expected(items: list[int], relevant: list[int], k: int, denominator: str) -> float:
    total_relevant, before, relevant_before, precisions = sum(relevant), 0, 0, 0.0
    for n, p in zip(items, relevant, strict=True):
        if n == 0 or before >= k:
            continue
        taken = min(n, k - before)
        if taken < n and denominator == "retrieved":
            # The divisor depends on how many relevant items the cut lets in, which is hypergeometric.
            expected = 0.0
            for x in range(max(0, taken - (n - p)), min(p, taken) + 1):
                if relevant_before + x > 0:
                    chance = math.comb(p, x) * math.comb(n - p, taken - x) / math.comb(n, taken)
                    inside = _expected_group(taken, x, before, relevant_before, taken)
                    expected += chance * (precisions + inside) / (relevant_before + x)
            return expected
        precisions += _expected_group(n, p, before, relevant_before, taken)
        before, relevant_before = before + n, relevant_before + p
    return precisions / _divisor(relevant_before, total_relevant, k, denominator)


def _divisor(retrieved: int, total: int, k: int, denominator: str) -> int:
    divisor = {"retrieved": retrieved, "min": min(k, total), "relevant": total}[denominator]
    return max(divisor, 1)  # nothing retrieved: the sum of precisions is 0, and so is AP


def _average_precision_ordered(relevant_in_order: list[bool], k: int, denominator: str) -> float:
    hits, precisions = 0, []
    for rank, is_relevant in enumerate(relevant_in_order[:k], start=1):
        if is_relevant:
            hits += 1
            precisions.append(hits / rank)
    return math.fsum(precisions) / _divisor(hits, sum(relevant_in_order), k, denominator)


def average_precision(
    queries: Tensor,
    database: Tensor,
    query_labels: Tensor,
    database_labels: Tensor,
    *,
    k: int | None = None,
    ties: str = "expected",
    denominator: str = "retrieved",
    score: str = "hamming",
    n_bits: int | None = None,
    allowed: Tensor | None = None,
) -> Tensor:
    _, keys = _rank_keys(queries, database, score)
    keys = keys + (8 * queries.shape[1] if score == "overlap" else 0)
    mask = allowed_matrix(allowed, len(queries), len(database), queries.device)
    relevant = relevance(query_labels, database_labels) & mask
    result = []
    for query_keys, query_relevant, query_mask in zip(keys, relevant, mask, strict=True):
        key, hit = query_keys[query_mask].long(), query_relevant[query_mask]
        cut = len(key) if k is None else min(k, len(key))
        if not hit.any():
            result.append(math.nan)
        elif ties == "expected":
            width = int(key.max()) + 1
            result.append(
                _average_precision_expected(
                    torch.bincount(key, minlength=width).tolist(),
                    torch.bincount(key[hit], minlength=width).tolist(),
                    cut,
                    denominator,
                )
            )
        else:
            # Inside a tie: by index, or relevant items first (best), or last (worst).
            inside_tie = {"index": 0, "best": (~hit).long(), "worst": hit.long()}[ties]
            order = (2 * key + inside_tie).argsort(stable=True)
            result.append(_average_precision_ordered(hit[order].tolist(), cut, denominator))
    return torch.tensor(result, dtype=torch.float64, device=queries.device)


# ---- loss ----


def class_softmax_loss(
    logits: Tensor,
    labels: Tensor,
    class_offsets: Tensor,
    *,
    target: str | float = "normalized",
    reduction: str = "mean",
    ignore_index: int = -100,
) -> Tensor:
    wide = logits if logits.dtype == torch.float64 else logits.float()
    labels, class_offsets = labels.long(), class_offsets.to(logits.device).long()
    kept = labels != ignore_index
    true_class = labels[kept]
    first, last = class_offsets[true_class], class_offsets[true_class + 1]
    position = torch.arange(logits.shape[1], device=logits.device)
    in_run = (position >= first[:, None]) & (position < last[:, None])
    weight = 1.0 / (last - first).to(wide.dtype) if target == "normalized" else float(target)
    log_p = torch.log_softmax(wide[kept], dim=1)
    # Selected, not multiplied by a 0/1 target: probability 0 outside the run must not turn into 0 * inf.
    # Added in float64: a sum over thousands of sub-classes would round to more than their mean does.
    sums = torch.where(in_run, log_p, torch.zeros_like(log_p)).sum(1, dtype=torch.float64)
    kept_loss = (-weight * sums).to(wide.dtype)
    if reduction == "none":
        return torch.zeros(len(labels), dtype=wide.dtype, device=logits.device).masked_scatter(
            kept, kept_loss
        )
    return kept_loss.sum() if reduction == "sum" else kept_loss.mean()


def class_softmax_linear_loss(
    features: Tensor, weight: Tensor, bias: Tensor | None, labels: Tensor, class_offsets: Tensor, **options
) -> Tensor:
    return class_softmax_loss(
        torch.nn.functional.linear(features, weight, bias), labels, class_offsets, **options
    )


# ---- codes from logits ----


def codes_from_logits(logits: Tensor, codebook: Tensor, k: int, *, weighting: str = "mean") -> Tensor:
    wide = logits if logits.dtype == torch.float64 else logits.float()
    values, order = wide.sort(dim=1, descending=True, stable=True)
    values, order = values[:, :k], order[:, :k]
    signs = unpack_codes(codebook, 8 * codebook.shape[1], signed=True)[order]  # (n, k, bits)
    if weighting == "probability":
        # A common factor does not change the sign, so the soft-max is relative to the largest logit.
        top = values[:, :1]
        weights = torch.where(values == top, torch.ones_like(values), (values - top).exp())
        votes = torch.zeros(signs[:, 0].shape, dtype=wide.dtype, device=logits.device)
        for rank in range(k):
            votes += weights[:, rank, None] * signs[:, rank].to(wide.dtype)
    else:
        votes = signs.sum(dim=1, dtype=torch.int64)
    return pack_codes(torch.where(votes == 0, signs[:, 0].to(votes.dtype), votes))


def codes_from_features(
    features: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    codebook: Tensor,
    k: int,
    *,
    weighting: str = "mean",
) -> Tensor:
    logits = torch.nn.functional.linear(features, weight, bias)
    return codes_from_logits(logits, codebook, k, weighting=weighting)


def center_codes_from_logits(logits: Tensor, class_offsets: Tensor, centers: Tensor) -> Tensor:
    wide = logits if logits.dtype == torch.float64 else logits.float()
    runs = [
        wide[:, first:last]
        for first, last in zip(class_offsets[:-1].tolist(), class_offsets[1:].tolist(), strict=True)
    ]
    scores = torch.stack([run.logsumexp(dim=1) for run in runs], dim=1)
    best = scores.sort(dim=1, descending=True, stable=True).indices[:, 0]
    return centers[best]


# ---- composites ----


def mean_average_precision(
    queries: Tensor,
    database: Tensor,
    query_labels: Tensor,
    database_labels: Tensor,
    *,
    empty: str = "zero",
    **options,
) -> Tensor:
    precisions = average_precision(queries, database, query_labels, database_labels, **options)
    precisions = precisions.nan_to_num(nan=0.0) if empty == "zero" else precisions[~precisions.isnan()]
    return precisions.mean()


def retrieval_curves(
    queries: Tensor,
    database: Tensor,
    query_labels: Tensor,
    database_labels: Tensor,
    *,
    ranks: list[int] | None = None,
    score: str = "hamming",
    n_bits: int | None = None,
    empty: str = "zero",
    allowed: Tensor | None = None,
) -> tuple[Tensor, ...]:
    n_bits = 8 * queries.shape[1] if n_bits is None else n_bits
    if ranks is None:
        ranks = [rank for rank in (1, 5, 10, 50, 100, 500, 1000, 5000) if rank <= len(database)]
    counts = hamming_distance(queries, database, score=score)
    mask = allowed_matrix(allowed, len(queries), len(database), queries.device)
    hits = relevance(query_labels, database_labels) & mask
    if empty == "skip":
        kept = hits.any(1)
        counts, mask, hits = counts[kept], mask[kept], hits[kept]
    all_relevant = hits.sum(1).double()

    def recall_of(found: Tensor) -> Tensor:
        return found / all_relevant.clamp(min=1)

    radius = range(n_bits + 1) if score == "hamming" else range(n_bits, -1, -1)
    columns = []
    for r in radius:
        ball = (counts <= r if score == "hamming" else counts >= r) & mask
        inside, found = ball.sum(1).double(), (ball & hits).sum(1).double()
        columns.append(
            [
                (found / inside.clamp(min=1)).mean(),
                recall_of(found).mean(),
                found.sum() / inside.sum().clamp(min=1) if len(counts) else math.nan,
                found.sum() / all_relevant.sum().clamp(min=1) if len(counts) else math.nan,
                (inside == 0).double().mean(),
            ]
        )
    precision, recall, precision_micro, recall_micro, empty_balls = torch.tensor(
        columns, dtype=torch.float64
    ).T

    # Expected over the orders inside a tie: an item's chance to be among the first k.
    keys = counts if score == "hamming" else -counts
    at_rank = []
    for k in ranks:
        found = torch.zeros(len(counts), dtype=torch.float64)
        for row, key in enumerate(keys.long()):
            before = torch.tensor([(key[mask[row]] < value).sum() for value in key])
            tied = torch.tensor([(key[mask[row]] == value).sum() for value in key])
            chance = ((k - before).double() / tied.clamp(min=1)).clamp(0, 1)
            found[row] = chance[hits[row]].sum()
        at_rank.append([(found / k).mean(), recall_of(found).mean()])
    precision_at_rank, recall_at_rank = torch.tensor(at_rank, dtype=torch.float64).reshape(-1, 2).T
    return (
        torch.tensor(list(radius), dtype=torch.float64),
        precision,
        recall,
        precision_micro,
        recall_micro,
        empty_balls,
        torch.tensor(ranks, dtype=torch.float64),
        precision_at_rank,
        recall_at_rank,
    )
