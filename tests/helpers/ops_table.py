"""One good call of every public op, by name: what registration, error and thread tests start from."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from strategies import make_codes

OFFSETS = [0, 3, 4, 9]
# Where an op's tests live, where not in the file of its own name.
TEST_FILES = {"unpack_codes": "pack_codes", "reverse_bit_order": "pack_codes"}
RANKING = (
    "hamming_distance",
    "hamming_topk",
    "hamming_radius",
    "hamming_histogram",
    "average_precision",
    "mean_average_precision",
    "retrieval_curves",
    "retrieval_metric",
)  # with queries and a database
LABELLED = RANKING[3:]


def good_calls(
    seed: int = 0, n_query: int = 3, n_db: int = 20, n_bytes: int = 3
) -> dict[str, dict[str, Any]]:
    """Op name to keyword arguments, arrays in numpy."""
    rng = np.random.default_rng(seed)
    codes = {
        "queries": make_codes(rng, n_query, n_bytes, "near"),
        "database": make_codes(rng, n_db, n_bytes, "near"),
    }
    ids = rng.integers(0, 3, n_query), np.arange(n_db) % 3  # every query has something relevant
    labelled = {**codes, "query_labels": ids[0], "database_labels": ids[1]}
    logits = rng.standard_normal((n_query, 9)).astype(np.float32)
    layer = {
        "features": rng.standard_normal((n_query, 6)).astype(np.float32),
        "weight": rng.standard_normal((9, 6)).astype(np.float32),
        "bias": rng.standard_normal(9).astype(np.float32),
    }
    rng_outputs = np.random.default_rng([seed, 1])  # its own, so that the other calls are what they were
    return {
        "pack_codes": {"values": rng.standard_normal((n_query, 8 * n_bytes - 3)).astype(np.float32)},
        "unpack_codes": {"codes": codes["queries"], "n_bits": 8 * n_bytes - 3},
        "reverse_bit_order": {"codes": codes["queries"]},
        "hamming_distance": dict(codes),
        "hamming_topk": {**codes, "k": 5},
        "hamming_radius": {**codes, "radius": 4 * n_bytes},
        "asymmetric_topk": {
            "outputs": rng_outputs.standard_normal((n_query, 8 * n_bytes - 3)).astype(np.float32),
            "database": codes["database"],
            "k": 5,
        },
        "hamming_pairs": {"codes": codes["database"], "radius": 4 * n_bytes},
        "hamming_histogram": dict(labelled),
        "average_precision": dict(labelled),
        "mean_average_precision": dict(labelled),
        "retrieval_curves": dict(labelled),
        "retrieval_metric": {**labelled, "metric": "ndcg"},
        "class_softmax_loss": {"logits": logits, "labels": ids[0], "class_offsets": OFFSETS},
        "class_softmax_linear_loss": {
            **layer,
            "labels": ids[0],
            "class_offsets": OFFSETS,
            "chunk": 4,
        },
        "codes_from_features": {**layer, "codebook": make_codes(rng, 9, n_bytes), "k": 2, "chunk": 4},
        "codes_from_logits": {"logits": logits, "codebook": make_codes(rng, 9, n_bytes), "k": 2},
        "center_codes_from_logits": {
            "logits": logits,
            "class_offsets": OFFSETS,
            "centers": make_codes(rng, 3, n_bytes),
        },
        "multilabel_codes": {"logits": logits},
    }


OPS = tuple(good_calls())
DATA_SIZED = ("hamming_radius", "hamming_pairs")  # how much they find is known at the end


def tensors(call: dict[str, Any], device: str = "cpu") -> dict[str, Any]:
    """The call with its arrays as tensors."""
    return {
        k: torch.from_numpy(np.array(v)).to(device) if isinstance(v, np.ndarray) else v
        for k, v in call.items()
    }


def leaves(answer: Any) -> list[Any]:
    """The parts of an answer: the fields of a named tuple, or the one value."""
    return list(answer) if isinstance(answer, tuple) else [answer]


def same_answer(a: Any, b: Any) -> bool:
    """Equal to the bit, in dtype and shape too; NaN equal to NaN."""
    parts = [[np.asarray(leaf) for leaf in leaves(answer)] for answer in (a, b)]
    return len(parts[0]) == len(parts[1]) and all(
        x.dtype == y.dtype and np.array_equal(x, y, equal_nan=x.dtype.kind == "f")
        for x, y in zip(*parts, strict=True)
    )
