"""The slow, obvious twin of every op, in plain PyTorch.

Each function takes the same arguments as the public function of the same name (tensors only, already valid)
and returns the same values. It is the oracle of the tests and the shortest exact statement of what an op
does; it builds the matrices and sorted lists that the kernels avoid.
"""

from .codes import multilabel_codes, pack_codes, reverse_bit_order, unpack_codes
from .losses import (
    center_codes_from_logits,
    class_softmax_linear_loss,
    class_softmax_loss,
    codes_from_features,
    codes_from_logits,
)
from .metrics import (
    average_precision,
    hamming_histogram,
    mean_average_precision,
    relevance,
    retrieval_curves,
)
from .ranking import (
    allowed_matrix,
    asymmetric_distances,
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

__all__ = [
    "allowed_matrix",
    "asymmetric_distances",
    "asymmetric_topk",
    "average_precision",
    "average_precision_at_r",
    "center_codes_from_logits",
    "class_softmax_linear_loss",
    "class_softmax_loss",
    "codes_from_features",
    "codes_from_logits",
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
    "relevance",
    "retrieval_curves",
    "retrieval_metric",
    "reverse_bit_order",
    "unpack_codes",
]
