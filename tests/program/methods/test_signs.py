"""The base of the methods whose code is a sign: nested lengths, rotations and thresholds, what is saved of them."""

from typing import Literal

import numpy as np
import pytest
import torch
from effort import examples
from hypothesis import given, settings
from hypothesis import strategies as st
from small_hashers import a_hasher
from torch import nn

from dshc import Hasher
from dshc.errors import InputError
from dshc.methods import Spec, Step
from dshc.methods.signs import SignMethod, SignSettings


class SmallSettings(SignSettings):
    name: Literal["small"] = "small"


class Small(SignMethod):
    """A classifier on top of the outputs, for every length, and centers with a bit per column."""

    name = "small"
    title = source = "of the tests"
    Settings = SmallSettings
    label_kinds = ("ids",)

    def __init__(self, settings, spec):
        super().__init__(settings, spec)
        self.head = nn.Linear(spec.n_features, self.n_bits)
        self.readers = nn.ModuleDict({str(n): nn.Linear(n, spec.n_classes) for n in self.lengths})
        self.register_buffer("centers", torch.randn(spec.n_classes, self.n_bits))
        self.seen = []

    def observe(self, outputs, step):
        self.seen.append(outputs)

    def code_loss(self, outputs, step):
        bits = outputs.shape[1]
        logits = self.readers[str(bits)](outputs) + outputs @ self.centers[:, :bits].T
        return nn.functional.cross_entropy(logits, step.labels)


def small(bits=8, lengths=None, seed=0):
    torch.manual_seed(seed)
    return Small(SmallSettings(bits=bits, lengths=lengths), Spec(3, "ids", 5, ("a", "b", "c")))


def rotation_of(n, seed=0):
    return torch.linalg.qr(torch.randn(n, n, generator=torch.Generator().manual_seed(seed)))[0]


def rows_of(n, n_bits, seed=0):
    return torch.randn(n, n_bits, generator=torch.Generator().manual_seed(seed))


def bits_of(codes, n_bits):
    return np.unpackbits(np.asarray(codes), axis=1, count=n_bits, bitorder="little").astype(bool)


# Lengths


@pytest.mark.parametrize(
    ("text", "known"), [(None, None), ("4", "4"), ("2,4", "2,4"), (" 2, 4 ", "2,4"), ("07", "7")]
)
def test_lengths_are_numbers_that_rise(text, known):
    assert SmallSettings(bits=8, lengths=text).lengths == known
    expected = (8,) if known is None else (*map(int, known.split(",")), 8)
    assert small(8, text).lengths == expected


@pytest.mark.parametrize("text", ["", "4,", "4;8", "four", "4.0", "4 8"])
def test_lengths_that_are_no_numbers_are_refused(text):
    with pytest.raises(InputError, match=f"lengths must be numbers of bits as in 16,32, got '{text}'"):
        SmallSettings(lengths=text)


@pytest.mark.parametrize("text", ["0,4", "-4", "8,4", "4,4"])
def test_lengths_that_do_not_rise_from_1_are_refused(text):
    with pytest.raises(InputError, match=f"lengths must be at least 1 and rise, got '{text}'"):
        SmallSettings(lengths=text)


@pytest.mark.parametrize(("bits", "text"), [(8, "8"), (8, "4,16"), (None, "32")])
def test_lengths_are_less_than_bits(bits, text):
    with pytest.raises(
        ValueError, match=f"lengths must be less than bits, which is {bits or 32}, got {text}"
    ):
        small(bits, text)


def test_bits_are_32_by_default_and_bounded():
    method = small(None)
    assert (method.n_bits, method.n_outputs, method.lengths) == (32, 32, (32,))
    with pytest.raises(InputError, match="bits must be at least 1 and at most 4096, got 0"):
        SmallSettings(bits=0)


def test_the_loss_is_the_sum_over_lengths_and_outputs_are_seen_once():
    method = small(8, "2,5")
    outputs = rows_of(6, 8).requires_grad_()
    step = Step(labels=torch.arange(6) % 3, items=torch.arange(6))
    parts = [method.code_loss(outputs[:, :bits], step) for bits in (2, 5, 8)]
    loss = method.loss(outputs, step)
    assert loss.ndim == 0 and loss.item() == pytest.approx(sum(part.item() for part in parts))
    assert len(method.seen) == 1 and torch.equal(method.seen[0], outputs)
    assert not method.seen[0].requires_grad
    (gradient,) = torch.autograd.grad(loss, outputs)
    assert torch.allclose(gradient, torch.autograd.grad(sum(parts), outputs)[0])


# Shortening


@pytest.mark.parametrize("bits", [2, 5, 8])
def test_a_shortened_method_has_the_first_bits_and_the_same_loss(bits):
    method = small(8, "2,5").eval()
    method.set_transform(thresholds=rows_of(1, 8, seed=3)[0])
    short = method.shortened(bits)
    assert (short.n_bits, short.n_outputs, short.lengths) == (bits, bits, (bits,))
    assert (short.settings.bits, short.settings.lengths, short.spec) == (bits, None, method.spec)
    assert not short.training and small().shortened(8).training
    features = rows_of(20, 5, seed=1)
    outputs = method.head(features)
    assert torch.allclose(short.head(features), outputs[:, :bits], atol=1e-6)
    whole = bits_of(method.encode(outputs), 8)
    assert np.array_equal(bits_of(short.encode(outputs[:, :bits]), bits), whole[:, :bits])
    step = Step(labels=torch.arange(20) % 3, items=torch.arange(20))
    assert torch.equal(short.loss(outputs[:, :bits], step), method.code_loss(outputs[:, :bits], step))


def test_a_shortened_method_shares_nothing():
    method = small(8, "2")
    method.set_transform(thresholds=torch.ones(8))
    before = {name: value.clone() for name, value in method.state_dict().items()}
    for value in method.shortened(2).state_dict().values():
        value.fill_(9)
    for value in method.shortened(8).state_dict().values():
        value.fill_(9)
    assert all(torch.equal(value, before[name]) for name, value in method.state_dict().items())


def test_shortening_refuses_what_was_not_trained():
    with pytest.raises(ValueError, match="bits must be one of 2, 5, 8, got 4"):
        small(8, "2,5").shortened(4)
    with pytest.raises(ValueError, match="bits must be one of 8, got 4"):
        small(8).shortened(4)


def test_a_rotated_method_keeps_its_length():
    method = small(8)
    method.set_transform(rotation=rotation_of(8), thresholds=torch.ones(8))
    outputs = rows_of(9, 8)
    assert torch.equal(method.shortened(8).encode(outputs), method.encode(outputs))
    nested = small(8, "2")
    nested.rotation = rotation_of(8)  # past set_transform, which refuses it
    with pytest.raises(ValueError, match="codes must not be rotated where bits are left out, got a rotation"):
        nested.shortened(2)


# Rotations and thresholds


def test_a_bit_is_1_above_its_threshold_behind_the_rotation():
    method = small(2)
    outputs = torch.tensor([[3.0, 1.0], [0.0, 1e-30], [2.0, 2.0], [-1.0, 2.0]])
    assert bits_of(method.encode(outputs), 2).tolist() == [[1, 1], [0, 1], [1, 1], [0, 1]]
    method.set_transform(thresholds=torch.tensor([2.0, 1.0]))
    assert method.relaxed(outputs).tolist() == [[1, 0], [-2, -1], [0, 1], [-3, 1]]
    assert bits_of(method.encode(outputs), 2).tolist() == [[1, 0], [0, 0], [0, 1], [0, 1]]
    quarter = torch.tensor([[0.0, -1.0], [1.0, 0.0]])  # (x, y) becomes (y, -x)
    method.set_transform(rotation=quarter, thresholds=torch.tensor([2.0, 1.0]))
    assert method.relaxed(outputs).tolist() == [[0, -1], [-1, 2], [1, 0], [1, 3]]
    assert bits_of(method.encode(outputs), 2).tolist() == [[0, 0], [0, 1], [1, 0], [1, 1]]
    method.set_transform(rotation=quarter)
    assert method.relaxed(outputs).tolist() == [[1, -3], [pytest.approx(1e-30), 0], [2, -2], [2, 1]]
    method.set_transform()
    assert torch.equal(method.relaxed(outputs), outputs)


@settings(deadline=None, max_examples=examples(40))
@given(n_bits=st.integers(1, 20), seed=st.integers(0, 10**6), shifted=st.booleans(), turned=st.booleans())
def test_codes_are_the_signs_of_what_is_relaxed(n_bits, seed, shifted, turned):
    method = small(n_bits)
    thresholds = rows_of(1, n_bits, seed + 1)[0] if shifted else None
    method.set_transform(rotation=rotation_of(n_bits, seed) if turned else None, thresholds=thresholds)
    outputs = rows_of(11, n_bits, seed)
    relaxed = method.relaxed(outputs)
    assert np.array_equal(bits_of(method.encode(outputs), n_bits), (relaxed > 0).numpy())
    expected = outputs.double() - (0 if thresholds is None else thresholds.double())
    expected = expected @ rotation_of(n_bits, seed).double() if turned else expected
    assert torch.allclose(relaxed.double(), expected, atol=1e-5)


def test_half_precision_outputs_are_turned_in_single():
    method = small(8)
    outputs = rows_of(30, 8).bfloat16()
    assert method.relaxed(outputs).dtype == torch.bfloat16  # nothing to compute
    method.set_transform(rotation=rotation_of(8))
    assert torch.equal(method.relaxed(outputs), outputs.float() @ method.rotation)
    assert method.relaxed(outputs.double()).dtype == torch.float64


def test_a_transform_that_does_not_fit_is_refused_and_changes_nothing():
    method = small(4)
    method.set_transform(thresholds=torch.ones(4))
    with pytest.raises(ValueError, match=r"rotation must have shape \(4, 4\), got \(4, 3\)"):
        method.set_transform(rotation=torch.zeros(4, 3))
    with pytest.raises(ValueError, match=r"thresholds must have shape \(4,\), got \(1, 4\)"):
        method.set_transform(rotation=torch.eye(4), thresholds=torch.zeros(1, 4))
    assert method.thresholds.tolist() == [1, 1, 1, 1] and not method.rotation.numel()


def test_a_transform_is_a_copy():
    method, rotation, thresholds = small(4), rotation_of(4), torch.ones(4)
    method.set_transform(rotation=rotation, thresholds=thresholds)
    before = method.relaxed(rows_of(3, 4))
    rotation.zero_(), thresholds.zero_()
    assert torch.equal(method.relaxed(rows_of(3, 4)), before)
    method.set_transform(rotation=rotation_of(4).double().requires_grad_())
    assert method.rotation.dtype == torch.float32 and not method.rotation.requires_grad


def test_a_rotation_is_refused_with_several_lengths_and_thresholds_are_not():
    method = small(4, "2")
    with pytest.raises(ValueError, match=r"a rotation must be of codes of one length, got lengths \(2, 4\)"):
        method.set_transform(rotation=torch.eye(4))
    method.set_transform(thresholds=torch.ones(4))
    assert method.shortened(2).thresholds.tolist() == [1, 1]


# What is saved


def test_what_was_not_found_is_in_no_state_dict():
    method = small(4)
    plain = list(method.state_dict())
    assert not {"rotation", "thresholds"} & set(plain)
    method.set_transform(thresholds=torch.ones(4))
    assert set(method.state_dict()) - set(plain) == {"thresholds"}
    method.set_transform(rotation=torch.eye(4), thresholds=torch.ones(4))
    assert set(method.state_dict()) - set(plain) == {"rotation", "thresholds"}
    method.set_transform()
    assert list(method.state_dict()) == plain


@pytest.mark.parametrize("before", [{}, {"thresholds": torch.ones(4)}, {"rotation": torch.eye(4)}])
@pytest.mark.parametrize("after", [{}, {"thresholds": 2 * torch.ones(4), "rotation": rotation_of(4)}])
def test_a_state_dict_brings_its_transform_or_its_lack(before, after):
    source, target = small(4, seed=1), small(4)
    source.set_transform(**after)
    target.set_transform(**before)
    # Within another module, as a hasher holds it.
    nn.ModuleDict({"method": target}).load_state_dict(nn.ModuleDict({"method": source}).state_dict())
    outputs = rows_of(9, 4)
    assert torch.equal(target.relaxed(outputs), source.relaxed(outputs))
    assert list(target.state_dict()) == list(source.state_dict())


def test_loading_stays_strict():
    method = small(4)
    state = method.state_dict()
    with pytest.raises(RuntimeError, match="Missing key.*head.bias"):
        method.load_state_dict({name: value for name, value in state.items() if name != "head.bias"})
    with pytest.raises(RuntimeError, match="size mismatch for rotation"):
        method.load_state_dict({**state, "rotation": torch.eye(3)})
    with pytest.raises(RuntimeError, match="Unexpected key.*rotations"):
        method.load_state_dict({**state, "rotations": torch.eye(4)})


@pytest.mark.parametrize("name", ["dpsh", "hashnet"])
@pytest.mark.parametrize("found", ["rotation", "thresholds", "both", "neither"])
def test_a_hasher_with_a_transform_is_saved_and_loaded(name, found, tmp_path):
    hasher = a_hasher(name, bits=11)
    items = np.random.default_rng(0).normal(size=(40, 12)).astype(np.float32)
    plain = hasher.encode(items)
    with torch.no_grad():
        outputs = hasher(torch.from_numpy(items))
    hasher.method.set_transform(
        rotation=rotation_of(11) if found in ("rotation", "both") else None,
        thresholds=outputs.median(0).values if found in ("thresholds", "both") else None,
    )
    codes = hasher.encode(items)
    assert np.array_equal(codes, plain) == (found == "neither")
    hasher.save(tmp_path / "saved")
    loaded = Hasher.load(tmp_path / "saved", device="cpu")
    assert np.array_equal(loaded.encode(items), codes)
    assert loaded.method.state_dict().keys() == hasher.method.state_dict().keys()


def test_a_method_without_quality_tallies_nothing():
    with pytest.raises(ValueError, match="small predicts nothing"):
        small().tally(torch.zeros(2), torch.zeros(2))
    method = small()
    method.quality = "accuracy"
    assert method.tally(torch.tensor([0, 1, 1]), torch.tensor([0, 2, 1])).tolist() == [2, 3]
