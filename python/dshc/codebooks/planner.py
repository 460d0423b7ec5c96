"""Codes of any length from known ones: blocks side by side, superfluous bits punctured, spare bits repeated.

Words of two codes side by side are as far apart as their parts together; deleting a bit costs at most 1. The best
such plan for all lengths at once is an unbounded knapsack over the lengths. With the Hadamard blocks it contains
Levenshtein's construction, which meets Plotkin's bound wherever the matrices it needs are known.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from .blocks import Block, catalogue

__all__ = ["Plan", "plan"]


@dataclass(frozen=True)
class Plan:
    """``blocks`` side by side, the last ``punctured`` bits deleted, ``spare`` bits left over; words are at least
    ``distance`` apart.
    """

    blocks: tuple[Block, ...]
    distance: int
    punctured: int
    spare: int

    @property
    def name(self) -> str:
        """How the code is made, in words."""
        parts = []
        for block in dict.fromkeys(self.blocks):
            n = self.blocks.count(block)
            parts.append(f"{n} x {block.name}" if n > 1 else block.name)
        text = " + ".join(parts)
        if self.punctured:
            text += f", {self.punctured} bits deleted" if self.punctured > 1 else ", 1 bit deleted"
        if self.spare:
            text += f", {self.spare} bits repeated" if self.spare > 1 else ", 1 bit repeated"
        return text

    def words(self, count: int) -> np.ndarray:
        """The first ``count`` words, bool ``(count, n_bits)``."""
        table = np.concatenate([block.make(count) for block in self.blocks], axis=1)
        kept = np.arange(table.shape[1] - self.punctured)
        return table[:, np.concatenate([kept, np.resize(kept, self.spare)])]


def plan(n_words: int, n_bits: int) -> Plan:
    """The best plan for ``n_words`` words of ``n_bits`` bits; takes milliseconds, makes no code.

    Raises ``ValueError`` where there are not that many words.

    >>> plan(10, 10).distance
    5
    """
    if n_words > 2**n_bits:
        raise ValueError(f"n_words must be at most {2**n_bits}, all words of {n_bits} bits, got {n_words}")
    reached, first, blocks = _knapsack(n_words, n_bits + max(8, n_bits // 8))
    length = max(range(n_bits, len(reached)), key=lambda n: reached[n] - (n - n_bits))
    punctured, spare = length - n_bits, 0
    taken: list[Block] = []
    rest = length
    while rest:
        if first[rest] == -1 or reached[rest] == reached[rest - 1]:
            rest, spare = rest - 1, spare + 1
        else:
            taken.append(blocks[first[rest]])
            rest -= taken[-1].length
    return Plan(tuple(taken), reached[length] - punctured, punctured, spare)


@lru_cache(maxsize=32)
def _knapsack(n_words: int, longest: int) -> tuple[list[int], list[int], list[Block]]:
    """For every length up to ``longest`` the distance of the best blocks that fit, and the first of them (-1: none)."""
    blocks = catalogue(n_words, longest)
    lengths = np.array([block.length for block in blocks])
    gains = np.array([block.distance for block in blocks])
    reached = np.zeros(longest + 1, dtype=np.int64)
    first = np.full(longest + 1, -1)
    for n in range(1, longest + 1):
        fitting = int(np.searchsorted(lengths, n, side="right"))
        reached[n], first[n] = reached[n - 1], first[n - 1]
        if fitting:
            totals = reached[n - lengths[:fitting]] + gains[:fitting]
            last = fitting - 1 - int(totals[::-1].argmax())  # equal ones: the longest block, hence the fewest
            if totals[last] > reached[n]:
                reached[n], first[n] = totals[last], last
    return reached.tolist(), first.tolist(), blocks
