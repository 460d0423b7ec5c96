"""Codes to be exported, and what any engine must answer about them."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

import dshc_fast
from dshc.exchange import Exported

__all__ = ["CLASS_NAMES", "check_answers", "exported", "queries_of"]

CLASS_NAMES = ("a cat", 'a "dog"', "a\tbird")


def exported(
    n_items: int, n_bits: int, *, ids: str = "rows", labels: str = "", score: str = "hamming"
) -> Exported:
    """Random codes. ``ids``: ``rows`` (none), ``numbers`` (shuffled, with gaps) or ``names`` (with what SQL quotes);
    ``labels``: none, ``classes`` or ``several``."""
    rng = np.random.default_rng(n_bits)
    numbers = rng.permutation(3 * n_items)[:n_items].astype(np.int64)
    given = {"rows": None, "numbers": numbers, "names": tuple(f"é{i}\t\\ '\"{{,\n" for i in numbers.tolist())}
    kinds = {
        "": None,
        "classes": rng.integers(0, len(CLASS_NAMES), n_items),
        "several": (rng.random((n_items, len(CLASS_NAMES))) < 0.5).astype(np.uint8),
    }
    return Exported(
        codes=dshc_fast.pack_codes(rng.standard_normal((n_items, n_bits))),
        n_bits=n_bits,
        ids=given[ids],
        score=score,
        labels=kinds[labels],
        class_names=CLASS_NAMES if labels else (),
        model="a model",
    )


def queries_of(source: Exported, n_queries: int = 20) -> np.ndarray:
    """Half of the queries are codes of the source with some bits turned, half are random."""
    rng = np.random.default_rng(7)
    bits = dshc_fast.unpack_codes(source.codes[:n_queries], source.n_bits)
    bits[::2] ^= rng.random(bits[::2].shape) < 0.1
    bits[1::2] = rng.integers(0, 2, bits[1::2].shape)
    return np.packbits(bits, axis=1, bitorder="little")


def check_answers(
    source: Exported, ask: Callable[[np.ndarray, int], Sequence[tuple[object, float]]], k: int = 10
) -> None:
    """``ask(query, k)`` gives the (id, value) pairs that ``dshc_fast.hamming_topk`` gives: the same values in the same
    order, and the same ids within each value; of those tied with the last one, any."""
    queries = queries_of(source)
    names = list(range(len(source))) if source.ids is None else list(map(_plain, source.ids))
    rows = {name: row for row, name in enumerate(names)}
    values = dshc_fast.hamming_distance(queries, source.codes, score=source.score)
    want = dshc_fast.hamming_topk(queries, source.codes, k, score=source.score)
    for number, query in enumerate(queries):
        answer = [(_plain(name), float(value)) for name, value in ask(query, k)]
        assert [value for _, value in answer] == want.distances[number].tolist()
        assert len({name for name, _ in answer}) == k
        for name, value in answer:
            assert values[number, rows[name]] == value, f"{name} is not at {value}"
        last = want.distances[number, -1]
        found = {name for name, value in answer if value != last}
        pairs = zip(want.indices[number].tolist(), want.distances[number].tolist(), strict=True)
        assert found == {names[row] for row, value in pairs if value != last}


def _plain(name: object) -> object:
    return name if isinstance(name, str) else int(name)  # type: ignore[call-overload]
