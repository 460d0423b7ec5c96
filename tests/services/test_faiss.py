"""faiss reads what is exported, and its own flat search answers the same."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from exchange_cases import check_answers, exported

import dshc_fast
from dshc.exchange import export

pytestmark = pytest.mark.services
N_ITEMS = 20_000


@pytest.mark.parametrize("ids", ["rows", "numbers"])
def test_answers(n_bits: int, ids: str, tmp_path: Path) -> None:
    import faiss

    source = exported(N_ITEMS, n_bits, ids=ids)
    written = export(source, "faiss", tmp_path / "codes.faiss")
    index = faiss.read_index_binary(str(tmp_path / "codes.faiss"))
    assert index.ntotal == N_ITEMS and index.d == 8 * source.codes.shape[1]

    def ask(query: np.ndarray, k: int) -> list[tuple[object, float]]:
        distances, names = index.search(query[None], k)
        return list(zip(names[0], distances[0], strict=True))

    check_answers(source, ask)
    distances, _ = eval(written.search, {"faiss": faiss, "queries": source.codes[:3]})
    assert distances.shape == (3, 10) and not distances[:, 0].any()


def test_bits_are_where_faiss_puts_them(tmp_path: Path) -> None:
    """faiss packs signs itself: so must the index hold them."""
    import faiss

    signs = np.random.default_rng(0).standard_normal((100, 64)).astype(np.float32)
    packed = np.zeros((100, 8), np.uint8)
    faiss.fvecs2bitvecs(faiss.swig_ptr(signs), faiss.swig_ptr(packed), 64, 100)
    source = exported(100, 64)
    changed = type(source)(**{**vars(source), "codes": dshc_fast.pack_codes(signs)})
    export(changed, "faiss", tmp_path / "codes.faiss")
    index = faiss.read_index_binary(str(tmp_path / "codes.faiss"))
    assert np.array_equal(index.reconstruct_n(0, 100), packed)
