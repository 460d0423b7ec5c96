"""When a question is asked a second time: once it has taken longer than most of its kind did lately.

Source: J. Dean, L. A. Barroso, The Tail at Scale, CACM 56 (2013), "hedged requests".
"""

from __future__ import annotations

import math
import threading
from collections import defaultdict, deque
from collections.abc import Hashable

from ..errors import InputError

__all__ = ["Pace"]

_KEPT = 256
"""Answers of a kind whose times are kept."""
_FEWEST = 16
"""Answers of a kind before any is asked for twice."""


class Pace:
    """How long answers took lately, by the kind of the question.

    ``quantile``: the share of answers that are not waited for any longer; 0.95 asks one in twenty a second time.

    >>> pace = Pace(0.9)
    >>> for milliseconds in range(1, 101):
    ...     pace.told("topk", milliseconds / 1000)
    >>> pace.after("topk"), pace.after("radius")
    (0.091, inf)
    """

    def __init__(self, quantile: float) -> None:
        if isinstance(quantile, bool) or not isinstance(quantile, (int, float)) or not 0 < quantile < 1:
            raise InputError(f"hedge must be a quantile between 0 and 1, such as 0.95, got {quantile!r}")
        self._quantile = quantile
        self._lock = threading.Lock()
        self._seconds: defaultdict[Hashable, deque[float]] = defaultdict(lambda: deque(maxlen=_KEPT))

    def told(self, kind: Hashable, seconds: float) -> None:
        """An answer took so long; one that was not waited for, longer than this."""
        with self._lock:
            self._seconds[kind].append(seconds)

    def after(self, kind: Hashable) -> float:
        """Seconds after which a question of this kind is asked a second time; infinite while too few are known."""
        with self._lock:
            known = sorted(self._seconds[kind])
        if len(known) < _FEWEST:
            return math.inf
        return known[min(len(known) - 1, int(self._quantile * len(known)))]
