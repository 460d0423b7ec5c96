"""What a type checker makes of a user's code: mypy reads this file (`make lint`), nothing runs it. numpy in, numpy out;
torch in, torch out."""

from __future__ import annotations

from typing import Any, TypeAlias, assert_type

import numpy as np
import torch
from torch import Tensor

import dshc_fast

Numpy: TypeAlias = np.ndarray


def of_torch(values: Tensor, codes: Tensor, labels: Tensor) -> None:
    assert_type(dshc_fast.pack_codes(values), Tensor)
    assert_type(dshc_fast.unpack_codes(codes, 64, signed=True), Tensor)
    assert_type(dshc_fast.hamming_distance(codes, codes), Tensor)
    assert_type(dshc_fast.hamming_topk(codes, codes, 10).indices, Tensor)
    assert_type(dshc_fast.hamming_radius(codes, codes, 2).offsets, Tensor)
    assert_type(dshc_fast.asymmetric_topk(codes.float(), codes, 10).distances, Tensor)
    assert_type(dshc_fast.hamming_pairs(codes, 2).offsets, Tensor)
    database = dshc_fast.HammingDatabase(codes, labels)
    assert_type(dshc_fast.average_precision(codes, database, labels), Tensor)
    assert_type(dshc_fast.mean_average_precision(codes, codes, labels, labels), Tensor)
    assert_type(dshc_fast.retrieval_curves(codes, codes, labels, labels, ranks=[1, 5]).precision, Tensor)
    assert_type(dshc_fast.hamming_histogram(codes, codes, labels, labels).items, Tensor)
    assert_type(dshc_fast.class_softmax_loss(values, labels, [0, 3, 6]), Tensor)
    assert_type(dshc_fast.class_softmax_linear_loss(values, values, None, labels, [0, 3, 6]), Tensor)
    assert_type(dshc_fast.codes_from_logits(values, codes, 5), Tensor)
    assert_type(dshc_fast.codes_from_features(values, values, None, codes, 5), Tensor)
    assert_type(dshc_fast.center_codes_from_logits(values, [0, 3, 6], codes), Tensor)
    assert_type(dshc_fast.multilabel_codes(values, 0.5), Tensor)
    assert_type(dshc_fast.retrieval_metric(codes, codes, labels, labels, "recall", k=10), Tensor)
    assert_type(dshc_fast.ndcg(codes, database, labels, gains="exponential"), Tensor)
    ndcg: dshc_fast.HammingNDCG = dshc_fast.HammingNDCG(k=100)
    ndcg.update(codes, labels, is_query=True)
    metric = dshc_fast.HammingMAP(k=100)
    metric.update(codes, labels, is_query=True)
    assert_type(dshc_fast.ClassSoftmaxLoss([0, 3, 6])(values, labels), Any)  # nn.Module.__call__


def of_numpy(values: Numpy, codes: Numpy, labels: Numpy) -> None:
    assert_type(dshc_fast.pack_codes(values), Numpy)
    assert_type(dshc_fast.hamming_distance(codes, codes), Numpy)
    top = dshc_fast.hamming_topk(codes, dshc_fast.HammingDatabase(codes), 10, allowed=labels > 0)
    assert_type(top.distances, Numpy)
    assert_type(dshc_fast.mean_average_precision(codes, codes, labels, labels, ties="index"), float)
    assert_type(dshc_fast.retrieval_curves(codes, codes, labels, labels).radius, Numpy)
    assert_type(dshc_fast.reciprocal_rank(codes, codes, labels, labels, k=10), Numpy)
    assert_type(dshc_fast.codes_from_logits(values, codes, 5), Numpy)


def what_is_refused(codes: Tensor) -> None:
    dshc_fast.hamming_topk([[1]], codes, 10)  # type: ignore[type-var]
    dshc_fast.hamming_topk(codes, codes, "10")  # type: ignore[arg-type]
    dshc_fast.pack_codes(codes, nonsense=1)  # type: ignore[call-arg]


def settings() -> None:
    dshc_fast.set_simd_level(None)
    assert_type(dshc_fast.get_simd_level(), str)
    assert_type(torch.get_num_threads(), int)
