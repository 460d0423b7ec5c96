"""DSHC for several labels per item: loss, codes, micro F1, and what it refuses."""

import numpy as np
import pytest
import torch
from torch.nn.functional import binary_cross_entropy_with_logits

from dshc.errors import InputError
from dshc.methods import DSHCMultiLabel, Spec, Step


def a_method(n_labels=10, **values):
    return DSHCMultiLabel.build(DSHCMultiLabel.Settings(**values), Spec(n_labels, "multi-hot", 6))


def bits_of(codes, n_bits):
    return np.unpackbits(codes.numpy(), axis=1, count=n_bits, bitorder="little")


def loss_of(method, logits, labels):
    return method.loss(logits, Step(labels=labels, items=torch.arange(len(labels)))).item()


def test_codes_are_the_predicted_labels():
    method = a_method()
    assert (method.n_bits, method.n_outputs, method.score, method.quality) == (10, 10, "overlap", "micro_f1")
    assert method.head(torch.zeros(2, 6)).shape == (2, 10)
    logits = torch.randn(6, 10)
    logits[0, 0] = 0.0  # not more than the threshold
    predictions = method.predict(logits)
    assert np.array_equal(bits_of(method.encode(logits), 10), predictions.numpy())
    assert not predictions[0, 0]
    higher = a_method(label_threshold=1.5)
    assert torch.equal(higher.predict(logits), logits > 1.5)
    assert np.array_equal(bits_of(higher.encode(logits), 10), (logits > 1.5).numpy())


def test_the_loss_is_the_papers_mean_over_labels_and_items():
    logits = torch.tensor([[2.0, -1.0], [0.0, 3.0]])
    labels = torch.tensor([[1, 0], [1, 0]], dtype=torch.uint8)
    sigma = torch.sigmoid(logits)
    expected = -(labels * sigma.log() + (1 - labels) * (1 - sigma).log()).mean()
    assert loss_of(a_method(2), logits, labels) == pytest.approx(expected.item(), rel=1e-6)


def test_label_smoothing_moves_targets_towards_a_half():
    logits, labels = torch.randn(4, 3), torch.eye(4, 3, dtype=torch.uint8)
    expected = binary_cross_entropy_with_logits(logits, torch.where(labels == 1, 0.9, 0.1))
    assert loss_of(a_method(3, label_smoothing=0.2), logits, labels) == pytest.approx(
        expected.item(), rel=1e-6
    )


def test_the_tally_gives_micro_f1():
    predictions = torch.tensor([[True, True, False], [False, False, True]])
    labels = torch.tensor([[1, 0, 0], [0, 1, 1]], dtype=torch.uint8)
    assert a_method(3).tally(predictions, labels).tolist() == [4, 6]  # 2 right of 3 predicted, 3 true


def test_what_does_not_fit_is_refused():
    with pytest.raises(
        ValueError, match=r"bits must be 10 for dshc-multilabel \(one bit per label\), got 32"
    ):
        a_method(bits=32)
    with pytest.raises(ValueError, match="must be given several labels per item, got one class per item"):
        DSHCMultiLabel.build(DSHCMultiLabel.Settings(), Spec(10, "ids", 6))
    with pytest.raises(InputError, match="unknown setting 'subclass'"):
        DSHCMultiLabel.Settings(subclass="learned")


def test_a_label_takes_a_bit_and_codes_have_an_end():
    assert a_method(4096).n_bits == 4096
    with pytest.raises(ValueError, match=r"at most 4096 labels \(one bit per label\), got 4097"):
        a_method(4097)
