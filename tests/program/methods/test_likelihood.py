"""log(1 + exp(x)) without a gradient."""

import pytest
import torch

from dshc.methods.likelihood import softplus


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_softplus_is_exact_to_a_few_units_in_the_last_place(dtype: torch.dtype) -> None:
    x = torch.cat(
        [torch.linspace(-100, 100, 20_001, dtype=dtype), torch.linspace(-1e-3, 1e-3, 101, dtype=dtype)]
    )
    exact = torch.logaddexp(x.double(), torch.zeros((), dtype=torch.float64))
    found = softplus(x)
    assert found.dtype == dtype
    normal = exact >= torch.finfo(dtype).tiny
    off = ((found.double() - exact).abs() / exact)[normal]
    assert float(off.max()) < 4 * torch.finfo(dtype).eps
    assert (found >= 0).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_softplus_does_not_overflow(dtype: torch.dtype) -> None:
    most = torch.finfo(dtype).max
    x = torch.tensor([most, -most, float("inf"), -float("inf"), float("nan")], dtype=dtype)
    assert softplus(x)[:4].tolist() == [most, 0, float("inf"), 0]
    assert softplus(x)[4].isnan()
