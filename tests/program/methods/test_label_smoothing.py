"""Smoothed labels of DSHC against the formula: a share of the target on all sub-classes, the rest on the class's."""

import pytest
import torch

from dshc.methods import DSHC, Spec, Step


@pytest.mark.parametrize("share", [0.0, 0.1, 0.9])
def test_a_share_of_the_target_lies_on_every_sub_class(share):
    settings = DSHC.Settings(bits=20, label_smoothing=share)
    method = DSHC.build(settings, Spec(5, "ids", 7))
    torch.manual_seed(0)
    logits = (3 * torch.randn(11, method.n_outputs, dtype=torch.float64)).requires_grad_()
    labels = torch.randint(5, (11,))
    sizes = method.offsets.diff()
    target = torch.full_like(logits, share / method.n_outputs)
    for row, label in enumerate(labels.tolist()):
        start, end = method.offsets[label : label + 2].tolist()
        target[row, start:end] += (1 - share) / int(sizes[label])
    assert torch.allclose(target.sum(1), torch.ones(11, dtype=torch.float64))
    expected = -(target * logits.log_softmax(1)).sum(1).mean()
    (wanted,) = torch.autograd.grad(expected, logits)

    outputs = logits.detach().float().requires_grad_()
    loss = method.loss(outputs, Step(labels=labels, items=torch.arange(11)))
    loss.backward()
    torch.testing.assert_close(loss.double(), expected, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(outputs.grad.double(), wanted, rtol=1e-4, atol=1e-6)


def test_the_share_is_of_the_papers_targets_too():
    """Their sum is (H C + 1) / H."""
    logits = 3 * torch.randn(7, 4 * 13)
    step = Step(labels=torch.randint(4, (7,)), items=torch.arange(7))
    losses = [
        DSHC.build(DSHC.Settings(bits=12, label_smoothing=0.5, target=target), Spec(4, "ids", 7)).loss(
            logits, step
        )
        for target in ("paper", "normalized")
    ]
    torch.testing.assert_close(losses[0], losses[1] * 13 / 3)
