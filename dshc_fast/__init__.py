"""dshc_fast: exact Hamming ranking and retrieval metrics for packed hash codes, and the loss and codes of
DSHC."""

from typing import TYPE_CHECKING

from . import _cuda_ops as _cuda_ops  # registers the CUDA implementations
from . import _linear_ops as _linear_ops
from . import reference
from ._native import build_info, get_simd_level, set_simd_level
from .codes import (
    center_codes_from_logits,
    codes_from_features,
    codes_from_logits,
    multilabel_codes,
    pack_codes,
    reverse_bit_order,
    unpack_codes,
)
from .database import HammingDatabase
from .loss_modules import ClassSoftmaxLinearLoss, ClassSoftmaxLoss
from .losses import class_softmax_linear_loss, class_softmax_loss
from .metrics import (
    HammingHistogram,
    RetrievalCurves,
    average_precision,
    hamming_histogram,
    mean_average_precision,
    retrieval_curves,
)
from .ranking import (
    AsymmetricTopK,
    HammingRadius,
    HammingTopK,
    asymmetric_topk,
    hamming_distance,
    hamming_pairs,
    hamming_radius,
    hamming_topk,
)
from .retrieval_metrics import (
    average_precision_at_r,
    hit_rate,
    ndcg,
    precision,
    r_precision,
    recall,
    reciprocal_rank,
    retrieval_metric,
)

__version__ = "0.1.0"

__all__ = [
    "AsymmetricTopK",
    "ClassSoftmaxLinearLoss",
    "ClassSoftmaxLoss",
    "HammingDatabase",
    "HammingHistogram",
    "HammingHitRate",
    "HammingMAP",
    "HammingMAPAtR",
    "HammingMRR",
    "HammingNDCG",
    "HammingPrecision",
    "HammingRPrecision",
    "HammingRadius",
    "HammingRecall",
    "HammingTopK",
    "RetrievalCurves",
    "asymmetric_topk",
    "average_precision",
    "average_precision_at_r",
    "build_info",
    "center_codes_from_logits",
    "class_softmax_linear_loss",
    "class_softmax_loss",
    "codes_from_features",
    "codes_from_logits",
    "get_simd_level",
    "hamming_distance",
    "hamming_histogram",
    "hamming_pairs",
    "hamming_radius",
    "hamming_topk",
    "hit_rate",
    "mean_average_precision",
    "multilabel_codes",
    "ndcg",
    "pack_codes",
    "precision",
    "r_precision",
    "recall",
    "reciprocal_rank",
    "reference",
    "retrieval_curves",
    "retrieval_metric",
    "reverse_bit_order",
    "set_simd_level",
    "unpack_codes",
]


if TYPE_CHECKING:  # at run time they are imported when one is asked for, with torchmetrics
    from .hamming_metrics import HammingMAP as HammingMAP
    from .hamming_retrieval_metrics import HammingHitRate as HammingHitRate
    from .hamming_retrieval_metrics import HammingMAPAtR as HammingMAPAtR
    from .hamming_retrieval_metrics import HammingMRR as HammingMRR
    from .hamming_retrieval_metrics import HammingNDCG as HammingNDCG
    from .hamming_retrieval_metrics import HammingPrecision as HammingPrecision
    from .hamming_retrieval_metrics import HammingRecall as HammingRecall
    from .hamming_retrieval_metrics import HammingRPrecision as HammingRPrecision


_RETRIEVAL_METRICS = (
    "HammingHitRate",
    "HammingMAPAtR",
    "HammingMRR",
    "HammingNDCG",
    "HammingPrecision",
    "HammingRPrecision",
    "HammingRecall",
)


def __getattr__(name: str) -> object:
    if name == "HammingMAP":
        from .hamming_metrics import HammingMAP

        return HammingMAP
    if name in _RETRIEVAL_METRICS:
        from . import hamming_retrieval_metrics

        return getattr(hamming_retrieval_metrics, name)
    raise AttributeError(f"module 'dshc_fast' has no attribute {name!r}")
