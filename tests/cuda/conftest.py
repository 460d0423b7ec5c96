"""What the tests of CUDA kernels share."""

from __future__ import annotations

import pytest
from simt import ORDERS


@pytest.fixture(params=ORDERS)
def order(request: pytest.FixtureRequest) -> str:
    return request.param
