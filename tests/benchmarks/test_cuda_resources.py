"""Names of kernels in the table of what the compiler made of them (benchmarks/cuda_resources.py)."""

from __future__ import annotations

import cuda_resources
import pytest


@pytest.mark.parametrize(
    ("demangled", "name"),
    (
        (
            "void dshc::cuda::(anonymous namespace)::order_kernel<1, 4, (dshc::cuda::Walk)0>(dshc::Pairs, Plan)",
            "order_kernel<1, 4, 0>",
        ),
        ("void dshc::cuda::(anonymous namespace)::count_kernel<unsigned long, (bool)1>(unsigned long)",
         "count_kernel<unsigned long, 1>"),
        ("dshc::cuda::(anonymous namespace)::start_kernel(int (*)(int), long)", "start_kernel"),
    ),
)  # fmt: skip
def test_shorter_names(demangled: str, name: str) -> None:
    assert cuda_resources.shorter(demangled) == name
