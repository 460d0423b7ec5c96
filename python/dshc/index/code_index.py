"""Exact search in the codes of one file."""

from __future__ import annotations

import functools
import os

import numpy as np

import dshc_fast
from dshc_fast import HammingDatabase, HammingRadius, HammingTopK

from ..storage.code_files import CodeFile, check_same_code, kind_of

__all__ = ["CodeIndex"]


class CodeIndex:
    """Exact search over the codes of one file, on all threads torch may use.

    >>> import numpy as np
    >>> index = CodeIndex(CodeFile(np.array([[0b0011], [0b0111], [0b1100]], np.uint8), n_bits=4))
    >>> index.search(np.array([[0b0011]], np.uint8), k=2).indices.tolist()
    [[0, 1]]
    """

    def __init__(self, file: CodeFile) -> None:
        if not len(file):
            raise ValueError(f"the database {file.path or 'of codes'} is empty; at least one code is needed")
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
        return queries
