"""Codes out to the databases that people run, and in from files (docs/databases.md)."""

from .exported import Exported
from .exporting import TARGETS, Written, export
from .layouts import bit_texts, words
from .loading import SOURCES, load

__all__ = ["SOURCES", "TARGETS", "Exported", "Written", "bit_texts", "export", "load", "words"]
