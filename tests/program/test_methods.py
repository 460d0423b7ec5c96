"""The methods: targets, codes, predictions and what they refuse."""

import math

import numpy as np
import pytest
import torch

from dshc import methods
from dshc.codebooks import build
from dshc.config import Config
from dshc.methods import DSHC, DSHCMultiLabel


def bits_of(codes, n_bits):
    return np.unpackbits(codes.numpy(), axis=1, count=n_bits, bitorder="little")


def test_the_table_of_methods():
    assert methods.available() == ("dshc", "dshc-multilabel")
    for name in methods.available():
        method = methods.get(name)
        assert method.name == name and issubclass(method, methods.Method)
    with pytest.raises(ValueError, match="method: got 'dpsh', expected one of dshc, dshc-multilabel"):
        methods.get("dpsh")


def test_dshc_is_built_as_configured():
    method = DSHC.build(Config(bits=32), 10)
    assert (method.n_bits, method.n_outputs, method.score) == (32, 310, "hamming")
    assert method.codebook().construction == "cpbc"
    assert method.head(17)(torch.zeros(2, 17)).shape == (2, 310)
    assert method.encode(torch.randn(3, 310)).shape == (3, 4)
    assert DSHC.build(Config(), 10).n_bits == 30
    assert DSHC.build(Config(construction="kbc", bits=10), 10).n_outputs < 110


@pytest.mark.parametrize("n_bits", [30, 60, 65])
def test_the_papers_loss_is_the_normalized_one_times_m_over_h(n_bits):
    logits, labels = torch.randn(5, 10 * (n_bits // 10 * 10 + 1)), torch.tensor([0, 3, 9, 9, 1])
    normalized = DSHC.build(Config(bits=n_bits), 10).loss(logits, labels)
    paper = DSHC.build(Config(bits=n_bits, target="paper"), 10).loss(logits, labels)
    per_class = n_bits // 10
    assert paper.item() == pytest.approx(normalized.item() * (10 * per_class + 1) / per_class, rel=1e-5)


def test_the_loss_of_equal_logits_is_the_log_of_their_number():
    method = DSHC.build(Config(bits=30), 10)
    assert method.loss(torch.zeros(2, 310), torch.tensor([1, 2])).item() == pytest.approx(math.log(310))


def test_codes_follow_the_likeliest_sub_class_or_the_center():
    book = build("cpbc", 4, 12)
    logits = torch.zeros(1, book.n_subclasses)
    logits[0, 13 * 2 + 5] = 3.0  # class 2, bit 4 flipped
    code, center = torch.from_numpy(book.codes[31:32]), torch.from_numpy(book.centers[2:3])
    assert torch.equal(DSHC(book, topk=1).encode(logits), code)
    assert torch.equal(DSHC(book, topk=0).encode(logits), center)
    logits[0, 26:39] += 1
    assert torch.equal(DSHC(book, topk=3).encode(logits), center)
    assert DSHC(book).predict(logits).tolist() == [2]


def test_the_predicted_class_is_the_one_with_the_largest_sum():
    book = build("kbc", 5, 8, seed=2)
    method = DSHC(book)
    logits = 2 * torch.randn(200, book.n_subclasses, generator=torch.Generator().manual_seed(0)).double()
    parts = logits.split(np.diff(book.class_offsets).tolist(), dim=1)
    expected = torch.stack([part.logsumexp(1) for part in parts], 1).argmax(1)
    predictions = method.predict(logits)
    assert predictions.dtype == torch.int64 and torch.equal(predictions, expected)
    assert method.tally(predictions, expected).tolist() == [200, 200]
    assert method.predict(logits[:0]).shape == (0,)


@pytest.mark.parametrize(
    ("settings", "n_classes", "message"),
    [
        ({"bits": 9}, 10, "n_bits: cpbc needs at least one bit a class"),
        ({"bits": 30, "topk": 311}, 10, "topk: got 311, expected 0 to 310"),
        (
            {"bits": 10, "construction": "kbc", "target": "paper"},
            10,
            "target: got 'paper', but 1/H is cpbc's",
        ),
    ],
)
def test_dshc_refuses(settings, n_classes, message):
    with pytest.raises(ValueError, match=message):
        DSHC.build(Config(**settings), n_classes)
    with pytest.raises(ValueError, match="codebook: got 5 classes of 15 bits, expected 10 of 30"):
        DSHC.build(Config(bits=30), 10, codebook=build("cpbc", 5, 15))


def test_weights_hold_no_codebook():
    assert not DSHC.build(Config(), 10).state_dict()


def test_multilabel_codes_are_the_predicted_labels():
    method = DSHCMultiLabel.build(Config(method="dshc-multilabel"), 10)
    assert (method.n_bits, method.n_outputs, method.score) == (10, 10, "overlap")
    logits = torch.randn(6, 10)
    logits[0, 0] = 0.0  # not more than the threshold
    predictions = method.predict(logits)
    assert np.array_equal(bits_of(method.encode(logits), 10), predictions.numpy())
    assert not predictions[0, 0] and method.codebook() is None
    higher = DSHCMultiLabel.build(Config(label_threshold=1.5), 10)
    assert torch.equal(higher.predict(logits), logits > 1.5)


def test_multilabel_loss_is_the_papers_mean_over_labels_and_items():
    logits = torch.tensor([[2.0, -1.0], [0.0, 3.0]])
    labels = torch.tensor([[1, 0], [1, 0]], dtype=torch.uint8)
    sigma = torch.sigmoid(logits)
    expected = -(labels * sigma.log() + (1 - labels) * (1 - sigma).log()).mean()
    assert DSHCMultiLabel(2).loss(logits, labels).item() == pytest.approx(expected.item(), rel=1e-6)


def test_multilabel_tally_gives_micro_f1():
    predictions = torch.tensor([[True, True, False], [False, False, True]])
    labels = torch.tensor([[1, 0, 0], [0, 1, 1]], dtype=torch.uint8)
    assert DSHCMultiLabel(3).tally(predictions, labels).tolist() == [4, 6]  # 2 right of 3 predicted, 3 true


def test_multilabel_refuses():
    with pytest.raises(ValueError, match="bits: got 32, dshc-multilabel takes one bit a label, here 10"):
        DSHCMultiLabel.build(Config(bits=32), 10)
    with pytest.raises(ValueError, match="codebook"):
        DSHCMultiLabel.build(Config(), 10, codebook=build("cpbc", 10, 30))


def test_a_label_takes_a_bit_and_codes_have_an_end():
    assert DSHCMultiLabel.build(Config(), 4096).n_bits == 4096
    with pytest.raises(ValueError, match="bits: dshc-multilabel .* at most 4096, got 4097 labels"):
        DSHCMultiLabel.build(Config(), 4097)
