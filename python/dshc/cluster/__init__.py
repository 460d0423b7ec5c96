"""More than one machine: shards of codes searched and measured as one, and items encoded, on a cluster of Ray.

Ray is an extra (``pip install 'dshc-fast[cluster]'``) and imported when a cluster is asked for.
"""

from .connection import Connection
from .encoding import EncodedShards, encode_shards
from .histograms import average_precision_of, curves_of
from .holders import MissingShards
from .merged_evaluation import MergedEvaluation
from .merging import merge_radius, merge_topk, sum_histograms
from .ray_holders import RayHolders
from .shard_list import read_shards
from .sharded_index import ShardedIndex, ShardedRadius, ShardedTopK
from .sharded_items import ShardedItems

__all__ = [
    "Connection",
    "EncodedShards",
    "MergedEvaluation",
    "MissingShards",
    "RayHolders",
    "ShardedIndex",
    "ShardedItems",
    "ShardedRadius",
    "ShardedTopK",
    "average_precision_of",
    "curves_of",
    "encode_shards",
    "merge_radius",
    "merge_topk",
    "read_shards",
    "sum_histograms",
]
