"""What every item of an index has: code, id, and label, metadata and vector where the index keeps them."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

from ..errors import InputError, one_of

__all__ = ["IdKind", "LabelKind", "Layout", "VectorKind"]

IdKind = Literal["int64", "text"]
LabelKind = Literal["none", "ids", "multi-hot"]
VectorKind = Literal["none", "float16", "int8"]
MAX_BITS = 4096


@dataclass(frozen=True)
class Layout:
    """Fixed when an index is created.

    Args:
        n_bits: code length, 1 to 4096.
        score: what ranks, ``"hamming"`` or ``"overlap"``.
        ids: ``"int64"`` or ``"text"``.
        labels: ``"none"``, ``"ids"`` (class ids, -1: not known) or ``"multi-hot"`` (rows of 0 and 1, a column per class
            name).
        class_names: names of the classes or labels; empty: not known.
        vectors: ``"none"``, ``"float16"``, or ``"int8"`` with a float32 scale per vector.
        n_dimensions: of the vectors; 0 without them.
        metadata: the columns by name and Arrow type, such as ``(("year", "int32"),)``; empty: none are kept.
        model: what made the codes; codes of another model are refused. Empty: not known.

    Raises:
        InputError, TypeError: a field out of range or of another type; the message names it.
    """

    n_bits: int
    score: str = "hamming"
    ids: IdKind = "int64"
    labels: LabelKind = "none"
    class_names: tuple[str, ...] = ()
    vectors: VectorKind = "none"
    n_dimensions: int = 0
    metadata: tuple[tuple[str, str], ...] = ()
    model: str = ""

    def __post_init__(self) -> None:
        if isinstance(self.n_bits, bool) or not isinstance(self.n_bits, int):
            raise TypeError(f"bits must be an int, got {type(self.n_bits).__name__}")
        if not 1 <= self.n_bits <= MAX_BITS:
            raise InputError(f"bits must be between 1 and {MAX_BITS}, got {self.n_bits}")
        for name, known in (
            ("score", ("hamming", "overlap")),
            ("ids", ("int64", "text")),
            ("labels", ("none", "ids", "multi-hot")),
            ("vectors", ("none", "float16", "int8")),
        ):
            if getattr(self, name) not in known:
                raise one_of(name, getattr(self, name), known)
        if self.labels == "multi-hot" and not self.class_names:
            raise InputError("class_names must name the columns of multi-hot labels, got none")
        if self.class_names and self.labels == "none":
            raise InputError("class_names must go with labels='ids' or 'multi-hot', got labels='none'")
        if (self.n_dimensions > 0) != (self.vectors != "none"):
            raise InputError(
                f"dimensions must be given with vectors, and only then, got vectors={self.vectors!r} and "
                f"dimensions={self.n_dimensions}"
            )
        names = [name for name, _ in self.metadata]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise InputError(f"metadata must name each column once, got {twice[0]!r} twice")

    @property
    def n_bytes(self) -> int:
        return (self.n_bits + 7) // 8

    @property
    def n_labels(self) -> int:
        """Columns of multi-hot labels."""
        return len(self.class_names) if self.labels == "multi-hot" else 0

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, content: dict[str, Any]) -> Layout:
        return cls(
            **{
                **content,
                "class_names": tuple(content["class_names"]),
                "metadata": tuple((name, kind) for name, kind in content["metadata"]),
            }
        )
