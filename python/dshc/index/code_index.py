"""Exact search in the codes of one file."""

from __future__ import annotations

import functools
import os

import numpy as np

import dshc_fast
from dshc_fast import HammingDatabase, HammingRadius, HammingTopK

from ..storage.code_files import CodeFile, check_same_code, kind_of

__all__ = ["CodeIndex"]

_HISTOGRAM_CELLS = 1 << 22
"""Most counts that :meth:`CodeIndex.count_at` holds at a time: 32 MiB of each histogram."""


class CodeIndex:
    """Exact search over the codes of one file, on all threads torch may use.

    >>> import numpy as np
    >>> index = CodeIndex(CodeFile(np.array([[0b0011], [0b0111], [0b1100]], np.uint8), n_bits=4))
    >>> index.search(np.array([[0b0011]], np.uint8), k=2).indices.tolist()
    [[0, 1]]
    """

    def __init__(self, file: CodeFile) -> None:
        if not len(file):
            raise ValueError(f"{file.path or 'the database'}: must hold at least one code, got none")
        self.file = file

    @functools.cached_property
    def database(self) -> HammingDatabase:
        """The codes, prepared for search when the first one is made."""
        return HammingDatabase(self.file.codes)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> CodeIndex:
        """Open a code file; raises as :meth:`CodeFile.load` does, and ValueError where it holds no code."""
        return cls(CodeFile.load(path))

    def __len__(self) -> int:
        return len(self.file)

    def search(
        self,
        queries: np.ndarray | CodeFile,
        k: int,
        *,
        score: str | None = None,
        allowed: np.ndarray | None = None,
    ) -> HammingTopK:
        """The ``k`` nearest codes of each query, sorted by (distance, index).

        Args:
            queries: packed codes, uint8 ``(n_query, bytes)``, or a code file of the same length.
            k: 1..n.
            score: None takes the one the file was made for; ``"overlap"`` sorts by the AND count, descending.
            allowed: bool ``(n,)`` or ``(n_query, n)``: which codes may be answered.

        Returns:
            Named tuple (``distances`` int32, ``indices`` int64), each ``(n_query, k)``.

        Raises:
            ValueError, TypeError: k out of range, codes of another length or dtype.
        """
        codes = self._codes_of(queries)
        return dshc_fast.hamming_topk(
            codes, self.database, k, score=score or self.file.score, allowed=allowed
        )

    def within(
        self,
        queries: np.ndarray | CodeFile,
        radius: int,
        *,
        score: str | None = None,
        allowed: np.ndarray | None = None,
    ) -> HammingRadius:
        """All codes at distance <= ``radius`` (overlap: >=), as (``offsets``, ``indices``, ``distances``)."""
        codes = self._codes_of(queries)
        score = score or self.file.score
        return dshc_fast.hamming_radius(codes, self.database, radius, score=score, allowed=allowed)

    def count_at(
        self,
        queries: np.ndarray | CodeFile,
        distances: np.ndarray,
        *,
        score: str | None = None,
        allowed: np.ndarray | None = None,
    ) -> np.ndarray:
        """How many codes lie at exactly ``distances[q]`` from query ``q``: how long the tie is that a cut goes through.

        Args:
            queries, score, allowed: as in :meth:`search`.
            distances: integers ``(n_query,)``, such as the last column of :meth:`search`; overlap counts where
                the score is ``"overlap"``.

        Returns:
            int64 ``(n_query,)``; 0 at a distance that no code can have.

        Raises:
            ValueError, TypeError: distances of another shape or dtype, codes of another length or dtype.

        >>> import numpy as np
        >>> index = CodeIndex(CodeFile(np.array([[0b0001], [0b0010], [0b1111]], np.uint8), n_bits=4))
        >>> index.count_at(np.array([[0b0000]], np.uint8), np.array([1]))
        array([2])
        """
        codes = self._codes_of(queries)
        if not isinstance(distances, np.ndarray) or distances.dtype.kind not in "iu":
            raise TypeError(f"distances must be a numpy array of integers, got {kind_of(distances)}")
        if distances.shape != (len(codes),):
            raise ValueError(f"distances must have shape ({len(codes)},), got {distances.shape}")
        counts = np.zeros(len(codes), np.int64)
        one_class = np.zeros(len(self), np.int64)  # a histogram counts relevant items beside all
        width = 8 * codes.shape[1] + 1
        step = max(1, _HISTOGRAM_CELLS // width)
        for start in range(0, len(codes), step):
            part, wanted = codes[start : start + step], distances[start : start + step]
            per_query = allowed[start : start + step] if np.ndim(allowed) == 2 else allowed
            items = dshc_fast.hamming_histogram(
                part,
                self.database,
                one_class[:1].repeat(len(part)),
                one_class,
                score=score or self.file.score,
                allowed=per_query,
            ).items
            inside = np.flatnonzero((wanted >= 0) & (wanted < width))
            counts[start + inside] = items[inside, wanted[inside].astype(np.int64)]
        return counts

    def _codes_of(self, queries: np.ndarray | CodeFile) -> np.ndarray:
        if isinstance(queries, CodeFile):
            check_same_code(queries, self.file)
            return queries.codes
        if not isinstance(queries, np.ndarray) or queries.dtype != np.uint8:
            raise TypeError(f"queries must be a numpy array of uint8 or a CodeFile, got {kind_of(queries)}")
        if queries.ndim != 2 or queries.shape[1] != self.file.codes.shape[1]:
            raise ValueError(
                f"queries must have shape (n, {self.file.codes.shape[1]}) for codes of {self.file.n_bits} "
                f"bits, got {queries.shape}"
            )
        n_bits = self.file.n_bits
        if n_bits % 8 and queries.size and int(queries[:, -1].max()) >> (n_bits % 8):
            raise ValueError(
                f"queries must have padding bits of 0 (from bit {n_bits} on), got some that are set"
            )
        return queries
