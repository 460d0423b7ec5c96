"""Class ids that are none: refused by losses that look them up."""

from __future__ import annotations

import pytest
import torch

from dshc.methods.base import check_class_ids
from dshc.methods.csq import CSQLoss
from dshc.methods.dcwh import DCWHLoss
from dshc.methods.dpn import DPNLoss
from dshc.methods.mdsh import MDSHLoss
from dshc.methods.orthohash import OrthoHashLoss
from dshc.methods.relahash import RelaHashLoss

CENTERS = torch.tensor([[1, 1, 1], [-1, 1, -1], [1, -1, -1], [-1, -1, 1]], dtype=torch.int8)
LOSSES = {
    "csq": CSQLoss(),
    "dpn": DPNLoss(),
    "dcwh": DCWHLoss(),
    "mdsh": MDSHLoss(),
    "orthohash": OrthoHashLoss(),
    "relahash": RelaHashLoss(),
}


@pytest.mark.parametrize("name", LOSSES)
def test_losses(name: str) -> None:
    outputs = torch.randn(4, 3, generator=torch.Generator().manual_seed(0))
    centers = CENTERS.float() if name == "dcwh" else CENTERS
    for labels, kind, message in (
        ([0, -1, 1, 2], torch.int64, r"labels must lie in 0..3, got -1"),
        ([0, 4, 1, 2], torch.int64, r"labels must lie in 0..3, got 4"),
        ([0, 0, 1, 0], torch.uint8, "class ids must be int64, got uint8"),
        ([0, 0, 1, 0], torch.bool, "class ids must be int64, got bool"),
        ([0, 0, 1, 0], torch.int32, "class ids must be int64, got int32"),
    ):
        with pytest.raises((TypeError, ValueError), match=message):
            LOSSES[name](outputs, torch.tensor(labels, dtype=kind), centers)
    assert LOSSES[name](outputs, torch.tensor([0, 1, 2, 3]), centers).isfinite()


def test_transformed() -> None:
    """As where functions of one batch are mapped over several."""
    outputs = torch.randn(5, 4, 3, generator=torch.Generator().manual_seed(0))
    labels = torch.arange(20).reshape(5, 4) % 4
    found = torch.func.vmap(LOSSES["csq"], in_dims=(0, 0, None))(outputs, labels, CENTERS)
    want = [LOSSES["csq"](u, y, CENTERS) for u, y in zip(outputs, labels, strict=True)]
    torch.testing.assert_close(found, torch.stack(want))


def test_what_passes() -> None:
    check_class_ids(torch.zeros(0, dtype=torch.int64), 3)
    check_class_ids(torch.zeros(4, 3, dtype=torch.uint8), 3)
    check_class_ids(torch.tensor([2, 0]), 3)
