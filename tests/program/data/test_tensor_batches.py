"""Where mean and deviation of a set come from: training items, or both of them given, and nothing else."""

from __future__ import annotations

import numpy as np
import pytest

from dshc.data.tensor_batches import check_statistics

ITEMS, MEAN, STD = np.arange(3), np.zeros(2), np.ones(2)


@pytest.mark.parametrize("given", [(ITEMS, None, None), (None, MEAN, STD)], ids=["items", "both"])
def test_one_origin_is_right(given):
    check_statistics(*given)


@pytest.mark.parametrize(
    ("given", "came"),
    [
        ((None, None, None), "neither"),
        ((None, MEAN, None), "mean"),
        ((None, None, STD), "std"),
        ((ITEMS, MEAN, None), "train_indices and mean"),
        ((ITEMS, None, STD), "train_indices and std"),
        ((ITEMS, MEAN, STD), "train_indices and mean and std"),
    ],
)
def test_none_half_or_two_are_refused(given, came):
    with pytest.raises(
        ValueError, match=f"either train_indices or both mean and std must be given, got {came}$"
    ):
        check_statistics(*given)
