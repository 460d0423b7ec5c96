"""Exact search in codes."""

from .code_index import CodeIndex

__all__ = ["CodeIndex"]
