"""A child forked after torch had run in parallel: torch's OpenMP hangs there, the ops must not."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from ops_table import OPS

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")

# Forks once for each case, so that a hang names it. Prints the cases that failed.
SCRIPT = """
import faulthandler, os, signal, sys, time, warnings
import numpy as np, torch
import dshc_fast

warnings.simplefilter("ignore")
torch.set_num_threads(2)
n, rng = 100_003, np.random.default_rng(0)
codes = torch.from_numpy(rng.integers(0, 256, (n, 7), dtype=np.uint8))
codes[:, 6] &= 0x0F  # 52 bits
few = codes[:5]
ids = torch.from_numpy(rng.integers(0, 10, n))
wide_ids, short_ids = ids + 2**40, ids.short()
hot = torch.from_numpy(rng.integers(0, 2, (n, 12)))
hot[:, 0] = 1
strided_hot = hot.t().contiguous().t()
allowed = torch.from_numpy(rng.integers(0, 2, n)).bool()
queried = torch.arange(n) < 5
logits = torch.randn(n, 6)
offsets, book = [0, 2, 6], codes[:6]
labels = torch.from_numpy(rng.integers(0, 2, n))
int_labels, strided_logits, leaf = labels.int(), logits.t().contiguous().t(), logits.clone().requires_grad_()
weights = torch.rand(2 * n)[::2]
features, weight, bias = torch.randn(n, 3), torch.randn(6, 3), torch.randn(6)
outputs = torch.randn(52, 5).t()
repeated = codes[torch.from_numpy(rng.integers(0, 300, n))]
database, grouped = dshc_fast.HammingDatabase(codes, ids), dshc_fast.HammingDatabase(repeated, hot)
strided = torch.empty(n, 14, dtype=torch.uint8)[:, ::2].copy_(codes)


def gradient(**more):
    loss = dshc_fast.class_softmax_loss(leaf, labels, offsets, **more)
    return torch.autograd.grad(loss, leaf, weights if loss.dim() else None)[0]


def metrics(f, **more):
    cases = {
        f"{f.__name__}": lambda: f(few, codes, ids[:5], ids, n_bits=52, **more),
        f"{f.__name__} of many queries": lambda: f(codes, few, ids, ids[:5], n_bits=52, **more),
        f"{f.__name__}, int16": lambda: f(few, codes, short_ids[:5], short_ids, **more),
        f"{f.__name__}, wide ids": lambda: f(few, codes, wide_ids[:5], wide_ids, **more),
        f"{f.__name__}, multi-hot": lambda: f(few, codes, hot[:5], hot, **more),
        f"{f.__name__}, strided multi-hot": lambda: f(few, codes, strided_hot[:5], strided_hot, **more),
        f"{f.__name__}, allowed": lambda: f(few, codes, ids[:5], ids, allowed=allowed, **more),
        f"{f.__name__}, prepared": lambda: f(few, database, ids[:5], n_bits=52, **more),
        f"{f.__name__}, grouped": lambda: f(few, grouped, hot[:5], **more),
    }
    return {f"{name} {more or ''}": case for name, case in cases.items()}


def collected(labels):
    metric = dshc_fast.HammingMAP(n_bits=52)
    metric.update(codes, labels, queried)
    return metric.compute()


cases = {
    "HammingMAP": lambda: collected(ids),
    "HammingMAP, multi-hot": lambda: collected(hot),
    "pack_codes": lambda: dshc_fast.pack_codes(logits),
    "pack_codes, strided": lambda: dshc_fast.pack_codes(strided_logits),
    "unpack_codes": lambda: dshc_fast.unpack_codes(codes, 52),
    "reverse_bit_order": lambda: dshc_fast.reverse_bit_order(codes),
    "hamming_distance": lambda: dshc_fast.hamming_distance(few, codes),
    "hamming_topk": lambda: dshc_fast.hamming_topk(few, codes, 100),
    "hamming_topk, strided": lambda: dshc_fast.hamming_topk(few, strided, 100),
    "hamming_topk, prepared": lambda: dshc_fast.hamming_topk(few, database, 100),
    "hamming_topk of many queries": lambda: dshc_fast.hamming_topk(strided, few, 2),
    "hamming_topk of many queries, prepared": lambda: dshc_fast.hamming_topk(codes, dshc_fast.HammingDatabase(few), 2),
    "hamming_topk, allowed": lambda: dshc_fast.hamming_topk(few, codes, 100, allowed=allowed[None].expand(5, n)),
    "asymmetric_topk": lambda: dshc_fast.asymmetric_topk(outputs, strided, 100),
    "hamming_radius": lambda: dshc_fast.hamming_radius(few, codes, 20),
    "hamming_pairs": lambda: dshc_fast.hamming_pairs(codes, 2),
    "hamming_pairs, strided": lambda: dshc_fast.hamming_pairs(strided[:1000], 20),
    "HammingDatabase": lambda: dshc_fast.hamming_topk(few, dshc_fast.HammingDatabase(codes, ids), 5),
    "HammingDatabase, grouped": lambda: dshc_fast.hamming_topk(few, dshc_fast.HammingDatabase(repeated, hot), 5),
    "HammingDatabase, wide ids": lambda: dshc_fast.average_precision(
        few, dshc_fast.HammingDatabase(repeated, wide_ids), wide_ids[:5]),
    "class_softmax_loss": lambda: dshc_fast.class_softmax_loss(logits, int_labels, offsets),
    "class_softmax_loss, gradient": lambda: gradient(),
    "class_softmax_loss, gradient of rows": lambda: gradient(reduction="none"),
    "class_softmax_linear_loss": lambda: dshc_fast.class_softmax_linear_loss(
        features, weight, bias, labels, offsets, chunk=4),
    "class_softmax_linear_loss, one chunk": lambda: dshc_fast.class_softmax_linear_loss(
        features, weight, bias, labels, offsets),
    "codes_from_features": lambda: dshc_fast.codes_from_features(features, weight, bias, book, 2, chunk=4),
    "codes_from_logits": lambda: dshc_fast.codes_from_logits(logits, book, 2),
    "center_codes_from_logits": lambda: dshc_fast.center_codes_from_logits(logits, offsets, codes[:2]),
    "multilabel_codes": lambda: dshc_fast.multilabel_codes(logits),
    **metrics(dshc_fast.hamming_histogram),
    **metrics(dshc_fast.average_precision),
    **metrics(dshc_fast.average_precision, ties="index"),
    **metrics(dshc_fast.mean_average_precision),
    **metrics(dshc_fast.mean_average_precision, empty="skip"),
    **metrics(dshc_fast.retrieval_curves),
    **metrics(dshc_fast.retrieval_metric),
    **metrics(dshc_fast.retrieval_metric, metric="reciprocal_rank", ties="index"),
}


def numbers(answer):
    parts = answer if isinstance(answer, tuple) else (answer,)
    return [np.array(part.detach()) if isinstance(part, torch.Tensor) else np.array(part) for part in parts]


expected = {name: numbers(case()) for name, case in cases.items()}
torch.ones(4_000_000).sum()


def in_child(case, expected):
    pid = os.fork()
    if pid == 0:
        signal.alarm(10)
        code = 3
        try:
            n_threads = torch.get_num_threads()
            same = all(np.allclose(a, b, rtol=1e-5, equal_nan=True)
                       for a, b in zip(numbers(case()), expected, strict=True))
            code = 0 if same and torch.get_num_threads() == n_threads else 1
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


failed = {name: code for name in cases if (code := in_child(cases[name], expected[name])) != 0}
print(*{name.split(",")[0].split(" ")[0] for name in cases})
print("failed:", failed)
"""


@pytest.mark.deep
def test_every_op_in_the_child() -> None:
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT], capture_output=True, text=True, timeout=230, check=False
    )
    assert done.returncode == 0, done.stderr[-4000:]
    called, failed = done.stdout.splitlines()[-2:]
    assert failed == "failed: {}", done.stderr[-2000:]
    assert set(called.split()) == {*OPS, "HammingDatabase", "HammingMAP"}
