"""How the items of a search are ordered, where not by the codes of its queries alone, and what can be had of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from ..errors import InputError
from ..methods import SignCoding

if TYPE_CHECKING:
    from .served import Served

__all__ = ["Kind", "Ranking", "has_outputs", "rescored_kinds"]

Kind = Literal["ids", "codes", "vectors", "images"]
"""What the queries of a request are given as."""


@dataclass(frozen=True)
class Ranking:
    """``rescore``: the so many times k nearest by their codes are ordered by ``metric`` of their vectors.
    ``asymmetric``: items are ordered by the real-valued outputs of the queries. ``n_variants``: a query is so many
    codes, and an item's distance the least of theirs."""

    rescore: int | None = None
    metric: str | None = None
    asymmetric: bool = False
    n_variants: int = 1

    def by(self, score: str) -> str:
        """What the distances of an answer are."""
        if self.rescore is not None:
            return self.metric or "inner_product"
        return "asymmetric" if self.asymmetric else score

    def check(self, served: Served, kind: Kind, *, n: int, k: int | None, most: int) -> None:
        """Raises :class:`InputError` naming what a search of ``n`` codes by ``kind`` cannot have here.

        ``k`` is None where a radius is asked for; ``most``: candidates of a query.
        """
        layout = served.index.layout
        if n % self.n_variants:
            raise InputError(f"n_variants must divide the number of queries, got {self.n_variants} for {n}")
        if self.n_variants > 1 and layout.score != "hamming":
            raise InputError(
                "variants of a query must be ranked by Hamming distance, this index ranks by overlap"
            )
        if self.metric is not None and self.rescore is None:
            raise InputError("metric must go with rescore, got no rescore")
        if self.rescore is not None:
            self._check_rescore(served, kind, k, self.rescore, most)
        if self.asymmetric:
            self._check_asymmetric(served, kind, k)

    def _check_rescore(self, served: Served, kind: Kind, k: int | None, rescore: int, most: int) -> None:
        layout, hasher = served.index.layout, served.hasher
        if not served.is_one_index:
            raise InputError("rescore must go with one index, shards are ranked by codes alone")
        if layout.vectors == "none":
            raise InputError("rescore must go with an index that has vectors, this one has none")
        if k is None:
            raise InputError("rescore must go with k, got a radius or a precision")
        if k * rescore > most:
            raise InputError(f"k * rescore must be at most {most}, got {k} * {rescore}")
        if kind not in rescored_kinds(served):
            wanted, what = layout.n_dimensions, "the hasher has none"
            if hasher is not None:
                what = f"those of the hasher have {_n_dimensions(hasher)}"
            raise InputError(f"rescore must go with {kind} whose vectors have {wanted} dimensions, {what}")

    def _check_asymmetric(self, served: Served, kind: Kind, k: int | None) -> None:
        if kind in ("ids", "codes"):
            raise InputError(f"asymmetric must go with images or vectors, got {kind}, which have no outputs")
        if self.rescore is not None or self.n_variants > 1:
            other = "rescore" if self.rescore is not None else "variants"
            raise InputError(f"one of asymmetric and {other} must be given, got both")
        if k is None:
            raise InputError("asymmetric must go with k, got a radius or a precision")
        if served.index.score != "hamming":
            raise InputError(
                "asymmetric must go with an index that ranks by hamming, this one does by overlap"
            )
        if not served.is_one_index:
            raise InputError("asymmetric must go with one index, shards are ranked by codes alone")
        if served.hasher is None:
            raise InputError("asymmetric must go with an index that has a hasher, this one has none")
        if not has_outputs(served):
            name = served.hasher.method.name
            raise InputError(
                f"asymmetric must go with a hasher whose codes are the signs of its outputs, {name} has others"
            )


def has_outputs(served: Served) -> bool:
    """Whether queries that are encoded can be ranked by their outputs."""
    if not served.is_one_index or served.hasher is None or served.index.score != "hamming":
        return False
    return isinstance(served.hasher.method, SignCoding)


def rescored_kinds(served: Served) -> list[Kind]:
    """The kinds of queries that can be rescored: those that come with vectors like the ones that are kept."""
    layout, hasher = served.index.layout, served.hasher
    if layout.vectors == "none":
        return []
    kinds: list[Kind] = ["ids", "codes"]
    if hasher is not None and _n_dimensions(hasher) == layout.n_dimensions:
        kinds.append("vectors" if hasher.kind == "features" else "images")
    return kinds


def _n_dimensions(hasher: object) -> int:
    """Of what an index keeps of its items: features as they came, of images those of the backbone."""
    if hasher.kind == "features":  # type: ignore[attr-defined]
        return int(hasher.item_shape[0])  # type: ignore[attr-defined]
    return int(hasher.method.spec.n_features)  # type: ignore[attr-defined]
