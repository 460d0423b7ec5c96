"""A setting of the whole process that several threads want at once: made by the first, taken back by the last."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator

__all__ = ["FirstAndLast"]


class FirstAndLast:
    """``begin()`` is called by the first thread that comes into :meth:`held`; it returns what the last to leave calls.

    ``n_inside``: how many are in it now.
    """

    def __init__(self, begin: Callable[[], Callable[[], object]]) -> None:
        self._begin = begin
        self._end: Callable[[], object] = lambda: None
        self._changing, self.n_inside = threading.Lock(), 0

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        with self._changing:
            if not self.n_inside:
                self._end = self._begin()
            self.n_inside += 1
        try:
            yield
        finally:
            with self._changing:
                self.n_inside -= 1
                if not self.n_inside:
                    self._end()
