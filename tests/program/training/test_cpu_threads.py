"""CPU threads are set inside and put back."""

from __future__ import annotations

import pytest
import torch

from dshc.training.cpu_threads import cpu_threads


def test_set_inside_and_put_back() -> None:
    before = torch.get_num_threads()
    with pytest.raises(KeyError), cpu_threads(before + 1):
        assert torch.get_num_threads() == before + 1
        raise KeyError
    assert torch.get_num_threads() == before
    with cpu_threads(None):
        assert torch.get_num_threads() == before
        torch.set_num_threads(before + 1)
    assert torch.get_num_threads() == before
