"""Which items share a label, and how many of either's: packed on the CPU, a product of matrices beyond one code."""

import pytest
import torch

from dshc.methods.similarity import jaccard, similar


@pytest.mark.parametrize("n_labels", [1, 7, 64, 374, 4096, 4097])
@pytest.mark.parametrize("dtype", [torch.uint8, torch.int64, torch.float32, torch.bool])
def test_several_labels_are_those_counted_one_by_one(n_labels: int, dtype: torch.dtype) -> None:
    draw = torch.Generator().manual_seed(n_labels)
    labels, others = (torch.rand(n, n_labels, generator=draw) < min(0.5, 3 / n_labels) for n in (5, 9))
    labels[0] = False  # no label at all
    common = torch.tensor([[int((a & b).sum()) for b in others] for a in labels])
    either = torch.tensor([[int((a | b).sum()) for b in others] for a in labels])
    given = labels.to(dtype), others.to(dtype)
    assert torch.equal(similar(*given), common > 0)
    torch.testing.assert_close(jaccard(*given), common / either.clamp(min=1), rtol=1e-6, atol=0)


def test_classes() -> None:
    labels, others = torch.tensor([3, 1]), torch.tensor([1, 3, 2])
    assert similar(labels, others).tolist() == [[False, True, False], [True, False, False]]
    assert jaccard(labels, others).tolist() == [[0, 1, 0], [1, 0, 0]]


@pytest.mark.parametrize("n", [0, 1])
def test_nothing_to_compare_with(n: int) -> None:
    labels = torch.ones(n, 4, dtype=torch.uint8)
    none = torch.ones(0, 4, dtype=torch.uint8)
    assert similar(labels, none).shape == (n, 0)
    assert similar(none, labels).shape == (0, n)
