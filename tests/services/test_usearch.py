"""usearch maps what is exported, and its own exact search answers the same."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from exchange_cases import check_answers, exported

from dshc.exchange import export

pytestmark = pytest.mark.services
N_ITEMS = 20_000


@pytest.mark.parametrize("ids", ["rows", "numbers"])
def test_answers(n_bits: int, ids: str, tmp_path: Path) -> None:
    import usearch.index

    source = exported(N_ITEMS, n_bits, ids=ids)
    written = export(source, "usearch", tmp_path / "codes.usearch")
    index = usearch.index.Index.restore(str(tmp_path / "codes.usearch"), view=True)
    assert len(index) == N_ITEMS and index.ndim == 8 * source.codes.shape[1]

    def ask(query: np.ndarray, k: int) -> list[tuple[object, float]]:
        found = index.search(query, k, exact=True)
        return list(zip(found.keys, found.distances, strict=True))

    check_answers(source, ask)
    names = np.arange(N_ITEMS) if source.ids is None else source.ids
    assert np.array_equal(np.stack(list(index.get(names[:500].astype(np.uint64)))), source.codes[:500])
    found = eval(written.search, {"usearch": usearch, "queries": source.codes[:3]})
    assert found.keys.shape == (3, 10) and not found.distances[:, 0].any()
