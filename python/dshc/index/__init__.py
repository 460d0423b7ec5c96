"""Exact search in codes: of one file, and of an index that is changed while it is used."""

from .code_index import CodeIndex
from .filters import Filter
from .hash_index import HashIndex, RadiusResult, SearchResult
from .index_items import Items
from .layout import Layout
from .metadata_files import MetadataRows, read_metadata
from .sources import Added, Source, add_source, read_source

__all__ = [
    "Added",
    "CodeIndex",
    "Filter",
    "HashIndex",
    "Items",
    "Layout",
    "MetadataRows",
    "RadiusResult",
    "SearchResult",
    "Source",
    "add_source",
    "read_metadata",
    "read_source",
]
