"""What methods that predict share: losses over class scores, predictions, their tally, what a warm start keeps."""

import math

import pytest
import torch
from torch.nn.functional import cross_entropy

from dshc.methods import DCWH, SSDH, VMF, CrossEntropy, GreedyHash, Spec, Step
from dshc.methods.classifiers import cross_entropy_loss, softmax_loss

METHODS = [DCWH, VMF, SSDH, GreedyHash, CrossEntropy]
WITH_CLASSIFIER = [SSDH, GreedyHash, CrossEntropy]
HOT = torch.tensor([[1, 0, 1], [0, 1, 0], [0, 0, 0]], dtype=torch.uint8)


def method_of(cls, kind="ids", bits=5, names=("a", "b", "c"), **values):
    return cls.build(cls.Settings(bits=bits, **values), Spec(len(names), kind, 4, names, seed=3))


def test_soft_max_by_hand():
    scores = torch.log(torch.tensor([[2.0, 1.0, 1.0], [1.0, 8.0, 1.0], [1.0, 1.0, 1.0]]))
    # -log of 1/2 and 1/4, averaged over the first item's labels; of 4/5; nothing of the third.
    expected = (0.5 * (math.log(2) + math.log(4)) + math.log(1.25)) / 3
    assert softmax_loss(scores, HOT).item() == pytest.approx(expected, rel=1e-6)
    ids = torch.tensor([0, 1, 2])
    expected = (math.log(2) + math.log(1.25) + math.log(3)) / 3
    assert softmax_loss(scores, ids).item() == pytest.approx(expected, rel=1e-6)
    assert softmax_loss(scores, torch.eye(3)[ids]).item() == pytest.approx(expected, rel=1e-6)


def test_cross_entropy_by_hand():
    scores = torch.tensor([[math.log(3), -math.log(3), 0.0]])
    labels = torch.tensor([[1, 1, 0]])
    expected = -(math.log(3 / 4) + math.log(1 / 4) + math.log(1 / 2)) / 3
    assert cross_entropy_loss(scores, labels).item() == pytest.approx(expected, rel=1e-6)
    ids = torch.tensor([1])
    assert cross_entropy_loss(scores, ids).item() == cross_entropy(scores, ids).item()


@pytest.mark.parametrize("loss", [softmax_loss, cross_entropy_loss])
@pytest.mark.parametrize("labels", [torch.tensor([0, 2, 1]), HOT])
def test_losses_at_extreme_scores_and_their_gradients(loss, labels):
    scores = torch.tensor([[1e4, -1e4, 0], [0, 0, 0], [-1e4, 1e4, 1e4]], requires_grad=True)
    value = loss(scores, labels)
    value.backward()
    assert value.isfinite() and scores.grad.isfinite().all()
    mild = torch.linspace(-1, 1, 9, dtype=torch.float64).view(3, 3).requires_grad_()
    assert torch.autograd.gradcheck(lambda s: loss(s, labels), mild)


@pytest.mark.parametrize("loss", [softmax_loss, cross_entropy_loss])
def test_labels_that_do_not_fit_are_refused(loss):
    with pytest.raises(ValueError, match=r"labels must have shape \(3,\) or \(3, 3\), got \(3, 2\)"):
        loss(torch.zeros(3, 3), HOT[:, :2])
    with pytest.raises(ValueError, match=r"labels must have shape \(3,\) or \(3, 3\), got \(2,\)"):
        loss(torch.zeros(3, 3), torch.zeros(2, dtype=torch.int64))
    with pytest.raises(ValueError, match="outputs must have at least one row, got none"):
        loss(torch.zeros(0, 3), torch.zeros(0, dtype=torch.int64))


@pytest.mark.parametrize("cls", METHODS)
def test_quality_is_of_the_kind_of_labels(cls):
    ids, hot = method_of(cls), method_of(cls, "multi-hot")
    outputs = torch.randn(6, 5, generator=torch.Generator().manual_seed(0))
    assert cls.label_kinds == ("ids", "multi-hot") and ids.quality == cls.quality == "accuracy"
    predictions = ids.predict(outputs)
    assert predictions.dtype == torch.int64 and predictions.shape == (6,)
    assert torch.equal(predictions, ids.class_scores(outputs).argmax(1))
    assert ids.tally(predictions, (predictions + torch.tensor([0, 0, 0, 0, 1, 2])) % 3).tolist() == [4, 6]
    if cls in WITH_CLASSIFIER:
        assert hot.quality == "micro_f1"
        predictions = hot.predict(outputs)
        assert predictions.dtype == torch.bool and torch.equal(predictions, hot.class_scores(outputs) > 0)
        # One label right, two predicted, three true.
        predictions = torch.tensor([[True, False, True], [False, False, False]])
        tally = hot.tally(predictions, torch.tensor([[1, 1, 0], [0, 0, 1]], dtype=torch.uint8))
        assert tally.tolist() == [2 * 1, 2 + 3]
    else:
        assert hot.quality is None and hot.predict(outputs) is None
        with pytest.raises(ValueError, match="predicts nothing"):
            hot.tally(torch.zeros(1, 3, dtype=torch.bool), HOT[:1])
    assert ids.quality == "accuracy", "another instance does not change it"


@pytest.mark.parametrize("cls", METHODS)
@pytest.mark.parametrize("kind", ["ids", "multi-hot"])
def test_half_precision_is_predicted_as_single(cls, kind):
    method = method_of(cls, kind)
    outputs = torch.randn(6, 5).bfloat16()
    half, single = method.predict(outputs), method.predict(outputs.float())
    assert half is None or torch.equal(half, single)


@pytest.mark.parametrize("cls", WITH_CLASSIFIER)
def test_every_length_has_a_classifier_that_learns(cls):
    method = method_of(cls, bits=6, lengths="2,4")
    assert list(method.classifiers) == ["2", "4", "6"]
    assert [layer.weight.shape for layer in method.classifiers.values()] == [(3, 2), (3, 4), (3, 6)]
    outputs = torch.randn(5, 6, requires_grad=True)
    step = Step(labels=torch.tensor([0, 1, 2, 0, 1]), items=torch.arange(5))
    method.loss(outputs, step).backward()
    for layer in method.classifiers.values():
        assert layer.weight.grad.any() and layer.bias.grad.any()
    # The first bits are in all codes: they get the gradient of every length.
    short = method_of(cls, bits=2)
    short.load_state_dict(method.shortened(2).state_dict())
    first = outputs.detach()[:, :2].clone().requires_grad_()
    total = short.loss(first, step)
    for n in (4, 6):
        rows = torch.cat([first, outputs.detach()[:, 2:n]], 1)
        total = total + method.class_loss(rows, step.labels, method.classifier(n))
    total.backward()
    assert torch.allclose(outputs.grad[:, :2], first.grad, atol=1e-6)


@pytest.mark.parametrize("cls", METHODS)
def test_a_shortened_method_predicts_as_its_length_was_trained(cls):
    method = method_of(cls, bits=6, lengths="4")
    # As drawn, some classifiers say one class of all these items; so, each class has an output of its own.
    with torch.no_grad():
        for tensor in method.state_dict().values():
            if tensor.is_floating_point():
                tensor.copy_(torch.eye(*tensor.shape) if tensor.ndim == 2 else torch.zeros(tensor.shape))
    short = method.shortened(4)
    outputs = torch.randn(40, 6)
    assert short.n_bits == 4 and short.lengths == (4,) and short.quality == "accuracy"
    step = Step(labels=torch.arange(40) % 3, items=torch.arange(40))
    whole = method.code_loss(outputs[:, :4], step)
    assert short.loss(outputs[:, :4], step).item() == whole.item()
    if cls in WITH_CLASSIFIER:
        layer = method.classifier(4)
        expected = layer(short.visible(outputs[:, :4])).argmax(1)
    else:
        centers = method.centers[:, :4] if cls is DCWH else method.directions(4)
        expected = (
            short.class_loss.scores(outputs[:, :4], centers) if cls is DCWH else outputs[:, :4] @ centers.T
        )
        expected = expected.argmax(1)
    assert torch.equal(short.predict(outputs[:, :4]), expected) and len(expected.unique()) > 1


@pytest.mark.parametrize("cls", METHODS)
def test_a_warm_start_keeps_what_is_known_of_the_same_classes(cls):
    earlier = method_of(cls)
    with torch.no_grad():
        for tensor in earlier.state_dict().values():
            tensor.normal_()
    earlier.set_transform(thresholds=torch.ones(5))
    settings, spec = cls.Settings(bits=5), earlier.spec
    head = {"head.weight", "head.bias"}
    kept = cls.build(settings, spec, earlier=earlier).state_dict()
    assert set(kept) == set(earlier.state_dict()) - {"thresholds"} and len(kept) > len(head)
    for name, tensor in kept.items():
        assert torch.equal(tensor, earlier.state_dict()[name]) == (name not in head)
    # Another length, other classes: another space. The other methods know nothing of it.
    other = method_of(GreedyHash if cls is SSDH else SSDH)
    for new, old in (
        (Spec(3, "ids", 4, ("a", "b", "d")), earlier),
        (spec, method_of(cls, bits=6)),
        (spec, other),
    ):
        torch.manual_seed(1)
        alone = cls.build(settings, new).state_dict()
        torch.manual_seed(1)
        beside = cls.build(settings, new, earlier=old).state_dict()
        assert all(torch.equal(tensor, beside[name]) for name, tensor in alone.items())
    saved = cls.build(settings, spec, saved=earlier.state_dict(), earlier=earlier)
    saved.load_state_dict(earlier.state_dict())
    assert torch.equal(saved.thresholds, torch.ones(5))
