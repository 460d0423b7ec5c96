"""The hasher: everything that turns an input into a code, in one object that is saved and loaded."""

from .classifier import from_classifier
from .hasher import Hasher

__all__ = ["Hasher", "from_classifier"]
