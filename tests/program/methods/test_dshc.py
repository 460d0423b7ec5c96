"""DSHC: its loss against the definition, codes, predictions, the codes among its weights, and what it refuses."""

import math

import numpy as np
import pytest
import torch
from torch.nn.functional import log_softmax

import dshc_fast
from dshc.codebooks import build
from dshc.errors import InputError
from dshc.methods import DSHC, Spec, Step


def spec_of(n_classes=10, n_features=6):
    return Spec(n_classes, "ids", n_features)


def a_method(n_classes=10, **values):
    return DSHC.build(DSHC.Settings(**values), spec_of(n_classes))


def with_book(book, **values):
    return DSHC(DSHC.Settings(**values), spec_of(book.n_classes), book)


def step_of(labels):
    return Step(labels=torch.as_tensor(labels), items=torch.arange(len(labels)))


def test_it_is_built_as_its_settings_say():
    method = DSHC.build(DSHC.Settings(bits=32), spec_of(n_features=17))
    assert (method.n_bits, method.n_outputs, method.score, method.quality) == (32, 310, "hamming", "accuracy")
    assert method.codebook().construction == "cpbc"
    assert method.head(torch.zeros(2, 17)).shape == (2, 310)
    assert method.encode(torch.randn(3, 310)).shape == (3, 4)
    assert a_method().n_bits == 30
    assert a_method(construction="kbc", bits=10).n_outputs < 110
    assert (
        DSHC.build(DSHC.Settings(bits=30, head="identity"), spec_of(n_features=310)).head(torch.ones(1)) == 1
    )


@pytest.mark.parametrize("n_bits", [30, 60, 65])
def test_the_papers_loss_is_the_normalized_one_times_m_over_h(n_bits):
    logits, step = torch.randn(5, 10 * (n_bits // 10 * 10 + 1)), step_of([0, 3, 9, 9, 1])
    normalized = a_method(bits=n_bits).loss(logits, step)
    paper = a_method(bits=n_bits, target="paper").loss(logits, step)
    per_class = n_bits // 10
    assert paper.item() == pytest.approx(normalized.item() * (10 * per_class + 1) / per_class, rel=1e-5)


def test_the_loss_of_equal_logits_is_the_log_of_their_number():
    assert a_method(bits=30).loss(torch.zeros(2, 310), step_of([1, 2])).item() == pytest.approx(math.log(310))


@pytest.mark.parametrize("share", [0.1, 0.75])
def test_label_smoothing_spreads_a_share_of_the_target(share):
    book = build("kbc", 5, 8, seed=2)
    labels, sizes = [0, 4, 4, 2], np.diff(book.class_offsets)
    outputs = torch.randn(
        4, book.n_subclasses, dtype=torch.float64, generator=torch.Generator().manual_seed(0)
    )
    target = torch.full_like(outputs, share / book.n_subclasses)
    for row, c in enumerate(labels):
        target[row, book.class_offsets[c] : book.class_offsets[c + 1]] += (1 - share) / sizes[c]
    expected = -(target * log_softmax(outputs, 1)).sum(1).mean()
    found = with_book(book, label_smoothing=share).loss(outputs, step_of(labels))
    assert found.item() == pytest.approx(expected.item(), rel=1e-12)


def test_codes_follow_the_likeliest_sub_class_or_the_center():
    book = build("cpbc", 4, 12)
    logits = torch.zeros(1, book.n_subclasses)
    logits[0, 13 * 2 + 5] = 3.0  # class 2, bit 4 flipped
    code, center = torch.from_numpy(book.codes[31:32]), torch.from_numpy(book.centers[2:3])
    assert torch.equal(with_book(book, topk=1).encode(logits), code)
    assert torch.equal(with_book(book, topk=0).encode(logits), center)
    logits[0, 26:39] += 1
    assert torch.equal(with_book(book, topk=3).encode(logits), center)
    assert with_book(book).predict(logits).tolist() == [2]


@pytest.mark.parametrize("temperature", [1.0, 0.4])
def test_dithered_codes_lie_between_classes_as_their_probabilities_do(temperature):
    book = build("separated", 6, 64, seed=1)
    method = with_book(book, rounding="dithered", temperature=temperature)
    bits = dshc_fast.unpack_codes(torch.from_numpy(book.codes), 64, signed=True).float()
    rng = torch.Generator().manual_seed(0)
    logits = 3 * torch.randn(50, book.n_subclasses, generator=rng)
    mean = (logits / temperature).softmax(1) @ bits
    golden = [2 * ((i + 1) * (5**0.5 - 1) / 2 % 1) - 1 for i in range(64)]
    expected = dshc_fast.pack_codes((mean > torch.tensor(golden)).to(torch.uint8))
    assert torch.equal(method.encode(logits), expected) and torch.equal(method.relaxed(logits), mean)
    # From one class to another bits change one after the other, as evenly as their thresholds lie.
    a, b = (torch.full((book.n_subclasses,), -torch.inf) for _ in range(2))
    a[book.class_offsets[1]], b[book.class_offsets[4]] = 0, 0
    ends = method.encode(torch.stack([a, b]))
    apart = int(dshc_fast.hamming_distance(ends[:1], ends[1:])[0, 0])
    assert apart >= 25
    before = 0
    for share in np.linspace(0.05, 0.95, 19):
        between = torch.logaddexp(a + np.log(1 - share), b + np.log(share))
        code = method.encode(temperature * between[None].float())
        far = [int(dshc_fast.hamming_distance(code, end)[0, 0]) for end in (ends[:1], ends[1:])]
        assert sum(far) == apart and far[0] >= before and abs(far[0] / apart - share) < 0.15
        before = far[0]


def test_thresholds_of_the_first_bits_are_spread_too():
    method = a_method(bits=64, construction="separated", rounding="dithered")
    for n_bits in (8, 16, 32, 64):
        places = torch.sort((method.dithering[:n_bits].double() + 1) / 2).values
        gaps = torch.diff(places, prepend=torch.zeros(1), append=torch.ones(1))
        assert gaps.max() * n_bits < 2.7 and gaps[1:-1].min() * n_bits > 0.4
    assert "dithering" not in method.state_dict()


def test_only_a_dithered_rounding_has_a_weight_to_tune():
    assert DSHC.weight_to_tune(DSHC.Settings()) is None
    assert DSHC.weight_to_tune(DSHC.Settings(rounding="dithered")) == "temperature"
    assert DSHC.Settings(rounding="dithered").temperature == 1


def test_the_predicted_class_is_the_one_with_the_largest_sum():
    book = build("kbc", 5, 8, seed=2)
    method = with_book(book, construction="kbc", bits=8)
    logits = 2 * torch.randn(200, book.n_subclasses, generator=torch.Generator().manual_seed(0)).double()
    parts = logits.split(np.diff(book.class_offsets).tolist(), dim=1)
    expected = torch.stack([part.logsumexp(1) for part in parts], 1).argmax(1)
    predictions = method.predict(logits)
    assert predictions.dtype == torch.int64 and torch.equal(predictions, expected)
    assert method.tally(predictions, expected).tolist() == [200, 200]
    assert method.predict(logits[:0]).shape == (0,)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"bits": 9, "construction": "cpbc"}, "n_bits must be at least one per class for cpbc"),
        ({"bits": 30, "topk": 311}, r"topk must be at most 310 \(the number of sub-classes\), got 311"),
        ({"bits": 10, "construction": "kbc", "target": "paper"}, "target must be 'normalized' with kbc"),
        (
            {"bits": 30, "rounding": "dithered", "topk": 2},
            r"topk and weighting must be left out with rounding = 'dithered'.* got 2 and 'mean'",
        ),
        ({"bits": 30, "temperature": 2}, r"temperature must be 1 with rounding = 'majority', got 2\.0"),
        ({"bits": 30, "head": "identity"}, "head must be 'linear' where 6 features are not 310 sub-classes"),
    ],
)
def test_what_does_not_fit_is_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        a_method(**settings)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"topk": -1}, "topk must be at least 0, got -1"),
        ({"temperature": 0}, "temperature must be more than 0, got 0"),
        ({"construction": "best"}, "construction must be one of cpbc, kbc, separated or nothing, got 'best'"),
        ({"label_smoothing": 1.0}, "label_smoothing must be at least 0 and less than 1, got 1.0"),
        ({"bits": 4097}, "bits must be at least 1 and at most 4096, got 4097"),
        ({"name": "itq"}, "name must be"),
    ],
)
def test_settings_out_of_bounds_are_refused(settings, message):
    with pytest.raises(InputError, match=message):
        DSHC.Settings(**settings)


def test_a_codebook_of_other_classes_or_bits_is_refused():
    with pytest.raises(ValueError, match="codebook must have 10 classes, got 5"):
        DSHC(DSHC.Settings(bits=15), spec_of(10), build("cpbc", 5, 15))
    with pytest.raises(ValueError, match="bits must be 15 for this codebook, got 30"):
        DSHC(DSHC.Settings(bits=30), spec_of(5), build("cpbc", 5, 15))


@pytest.mark.parametrize("kind", ["multi-hot", "none"])
def test_other_kinds_of_labels_are_refused(kind):
    with pytest.raises(ValueError, match="method dshc must be given one class per item, got"):
        DSHC.build(DSHC.Settings(), Spec(10, kind, 6))


def test_weights_hold_the_codes_and_nothing_is_searched_for_again(monkeypatch):
    method = a_method(bits=10, construction="kbc")
    state = method.state_dict()
    assert set(state) == {"codes", "centers", "offsets", "head.weight", "head.bias"}

    def searched(*arguments, **values):
        raise AssertionError("a codebook was searched for")

    monkeypatch.setattr("dshc.codebooks.build", searched)
    again = DSHC.build(method.settings, method.spec, saved=state)
    again.load_state_dict(state)
    outputs = torch.randn(50, method.n_outputs)
    assert torch.equal(again.encode(outputs), method.encode(outputs))
    assert torch.equal(again.predict(outputs), method.predict(outputs))
    with pytest.raises(ValueError, match="must hold the codes of sub-classes, 'offsets' is missing"):
        DSHC.build(method.settings, method.spec, saved={"codes": state["codes"]})


def test_uniform_sub_classes_keep_no_training_state():
    method = a_method()
    assert method.training_state() == {}
    with pytest.raises(ValueError, match="dshc keeps no training state, got assigned"):
        method.load_training_state({"assigned": torch.zeros(1)})


def test_nested_lengths_are_in_the_codebook_and_leave_the_loss_alone():
    spec = Spec(10, "ids", 6, tuple("abcdefghij"))
    method = DSHC.build(DSHC.Settings(bits=32, lengths="8,16"), spec)
    assert method.settings.construction == "separated" and method.n_bits == 32
    centers = dshc_fast.unpack_codes(method.centers, 32)
    for length, least in ((8, 3), (16, 7), (32, 16)):
        apart = (centers[:, None, :length] != centers[None, :, :length]).sum(2)
        assert int(apart[~torch.eye(10, dtype=torch.bool)].min()) >= least
    outputs, labels = torch.randn(5, method.n_outputs), torch.arange(5)
    step = Step(labels=labels, items=labels)
    plain = DSHC.build(DSHC.Settings(bits=32, construction="separated"), spec)
    assert method.loss(outputs, step) == plain.loss(outputs, step)
    for settings, message in [
        (
            {"bits": 32, "lengths": "8", "construction": "cpbc"},
            "construction must be 'separated' where lengths",
        ),
        ({"bits": 16, "lengths": "16"}, "lengths must be less than bits, which is 16, got 16"),
    ]:
        with pytest.raises(ValueError, match=message):
            DSHC.build(DSHC.Settings(**settings), spec)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_dithered_codes_of_no_numbers_are_refused(value):
    method = a_method(bits=30, rounding="dithered")
    outputs = torch.zeros(2, 310)
    outputs[1, 5] = value
    with pytest.raises(ValueError, match="must hold numbers and infinities, got NaN"):
        method.encode(outputs)


NAMES = tuple("abcdefghij")


@pytest.mark.parametrize(
    ("old", "new", "extends"),
    [
        ({}, {}, True),
        ({}, {"radius": 0}, False),
        ({}, {"per_class": 3}, False),
        ({}, {"sub_codes": 2}, False),
        ({"sub_codes": 2}, {"sub_codes": 2}, True),
        ({"per_class": 3}, {"per_class": 3}, True),
        ({"radius": 0}, {"radius": 0}, True),
        ({"radius": 0}, {}, False),
    ],
)
def test_codes_are_those_that_are_asked_for_and_new_classes_have_as_many(old, new, extends):
    common = {"bits": 33, "construction": "separated"}
    before = DSHC.build(DSHC.Settings(**common, **old), Spec(10, "ids", 6, NAMES))
    spec = Spec(11, "ids", 6, (*NAMES, "k"))
    after = DSHC.build(DSHC.Settings(**common, **new), spec, earlier=before)
    sizes = after.codebook().class_offsets
    fresh = DSHC.build(DSHC.Settings(**common, **new), spec)
    assert np.array_equal(np.diff(sizes), np.diff(fresh.codebook().class_offsets))
    assert torch.equal(after.codes[: sizes[10]], before.codes) == extends
    assert extends or torch.equal(after.codes, fresh.codes)
