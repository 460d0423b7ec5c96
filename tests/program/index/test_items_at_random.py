"""Items of an index drawn at random."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from dshc.errors import InputError
from dshc.index import HashIndex


def test_items_at_random(tmp_path: Path) -> None:
    """Any number of them, each once, in their order; never a removed one."""
    with HashIndex.create(tmp_path / "index", bits=8, ids="text") as index:
        assert index.sample(3).tolist() == []
        names = [f"item-{i}" for i in range(60)]
        for start in range(0, 60, 20):
            index.add(np.zeros((20, 1), np.uint8), names[start : start + 20])
        index.remove(names[::7])
        left = [name for i, name in enumerate(names) if i % 7]
        assert index.sample(60).tolist() == left and index.sample(0).tolist() == []
        drawn = index.sample(20, seed=1).tolist()
        assert drawn == index.sample(20, seed=1).tolist() == [name for name in left if name in set(drawn)]
        assert len(set(drawn)) == 20
        assert {name for seed in range(40) for name in index.sample(9, seed=seed).tolist()} == set(left)
        with pytest.raises(InputError, match="n must be at least 0, got -1"):
            index.sample(-1)
