"""codes_from_features: the codes of the whole logits, at every size of a chunk."""

from __future__ import annotations

import math

import numpy as np
import oracles
import pytest
import torch
from callers import to_torch
from comparisons import assert_same_array
from hypothesis import given
from hypothesis import strategies as st
from strategies import make_codes, seeds

import dshc_fast
from dshc_fast import _arguments, _linear_ops, reference

DTYPES = (torch.float32, torch.float64, torch.bfloat16, torch.float16)


def layer_of(logits: np.ndarray, dtype, device: str) -> list[torch.Tensor]:
    """Features and weight whose product is exactly these logits: one feature a row."""
    n = len(logits)
    return [
        torch.eye(n, dtype=dtype, device=device),
        torch.from_numpy(logits.T.copy()).to(dtype).to(device),
        None,
    ]


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@given(
    data=st.data(),
    seed=seeds(),
    n=st.integers(0, 6),
    n_subclasses=st.integers(1, 80),
    chunk=st.one_of(st.none(), st.integers(1, 90)),
    ties=st.booleans(),
)
def test_plain_mean(dtype, data, seed, n, n_subclasses, chunk, ties, backend) -> None:
    """Equal to the bit; with equal logits all over the chunks, the lower index first."""
    rng = np.random.default_rng(seed)
    k = data.draw(st.integers(1, n_subclasses), label="k")
    codebook = make_codes(rng, n_subclasses, 5)
    logits = rng.integers(-2, 3, (n, n_subclasses)) if ties else rng.standard_normal((n, n_subclasses))
    layer = layer_of(logits.astype(np.float64), dtype, backend.device)
    codes = dshc_fast.codes_from_features(*layer, to_torch(codebook, backend.device), k, chunk=chunk)
    values = layer[1].t().double().cpu().numpy()
    assert_same_array(codes.cpu().numpy(), oracles.codes_from_logits(values, codebook, k), np.uint8)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("k", (1, 5, 29, 93))
@pytest.mark.parametrize("n_subclasses", (93, 101, 301, 640))
def test_chunks_of_cuda(dtype, k: int, n_subclasses: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """A last chunk filled up to a multiple of eight columns, which no answer names, whatever ranks last."""
    monkeypatch.setattr(_arguments, "on_cuda", lambda tensor: True)
    monkeypatch.setattr(_linear_ops, "CHUNK", 100)
    monkeypatch.setattr(_linear_ops, "CUDA_LOGITS", 1000)
    rng = np.random.default_rng(k)
    codebook = make_codes(rng, n_subclasses, 5)
    kinds = (
        rng.integers(-2, 3, (20, n_subclasses)),
        *(
            rng.choice(values, (20, n_subclasses))
            for values in ((-math.inf, 0.0), (math.nan, -math.inf, 1.0))
        ),
    )
    for logits in kinds:
        layer = [torch.zeros(20, 1), torch.zeros(n_subclasses, 1), None]
        if np.isfinite(logits).all():
            layer = layer_of(logits.astype(np.float64), dtype, "cpu")
        else:  # the same for each row
            logits = np.repeat(logits[:1], 20, 0)
            layer = [t.to(dtype) for t in (*layer[:2], torch.from_numpy(logits[0]))]
        for chunk in (None, 40, 100):
            codes = dshc_fast.codes_from_features(
                *layer, to_torch(codebook, "cpu"), k, chunk=chunk, check=False
            )
            if np.isnan(logits).any():  # ranks last
                logits = np.where(np.isnan(logits), -1e300, np.where(np.isinf(logits), -1e299, logits))
            wanted = oracles.codes_from_logits(logits, codebook, k)
            assert_same_array(codes.numpy(), wanted, np.uint8, f"chunk={chunk}")


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@given(
    data=st.data(),
    seed=seeds(),
    n_subclasses=st.integers(1, 60),
    chunk=st.integers(1, 70),
    ties=st.booleans(),
)
def test_probability(dtype, data, seed, n_subclasses, chunk, ties, backend) -> None:
    rng = np.random.default_rng(seed)
    k = data.draw(st.integers(1, n_subclasses), label="k")
    codebook = to_torch(make_codes(rng, n_subclasses, 3), backend.device)
    logits = rng.integers(-2, 3, (4, n_subclasses)) if ties else rng.standard_normal((4, n_subclasses))
    layer = layer_of(logits.astype(np.float64), dtype, backend.device)
    codes = dshc_fast.codes_from_features(*layer, codebook, k, chunk=chunk, weighting="probability")
    whole = dshc_fast.codes_from_logits(layer[1].t(), codebook, k, weighting="probability")
    assert torch.equal(codes, whole)


@pytest.mark.parametrize("k", (1, 2, 8, 9, 40))
def test_ties_across_chunks(k: int, backend) -> None:
    """All logits equal, then one later and larger, then -inf in front."""
    codebook = np.eye(40, dtype=np.uint8)
    for logits in (np.zeros((1, 40)), np.where(np.arange(40) == 37, 1.0, 0.0)[None],
                   np.where(np.arange(40) < 30, -math.inf, 0.0)[None]):  # fmt: skip
        wanted = oracles.codes_from_logits(logits, codebook, k)
        weight = to_torch(logits.T.copy(), backend.device)
        for chunk in (1, 7, 39, 40):
            codes = dshc_fast.codes_from_features(
                torch.zeros_like(weight[:1]), torch.zeros_like(weight), weight[:, 0],
                to_torch(codebook, backend.device), k, chunk=chunk,
            )  # fmt: skip
            assert_same_array(codes.cpu().numpy(), wanted, np.uint8, f"chunk={chunk}")


@pytest.mark.parametrize("chunk", (None, 1000, 64))
@pytest.mark.parametrize("k", (1, 5, 8, 31, 100))
def test_as_the_whole_product(chunk, k: int, backend) -> None:
    """Where no two logits are within rounding: the codes of the twin, which multiplies everything out."""
    rng = np.random.default_rng(2)
    layer = [to_torch(v, backend.device) for v in (rng.standard_normal((17, 12)), rng.standard_normal((9000, 12)),
                                                   rng.standard_normal(9000))]  # fmt: skip
    codebook = to_torch(make_codes(rng, 9000, 8), backend.device)
    codes = dshc_fast.codes_from_features(*layer, codebook, k, chunk=chunk)
    assert torch.equal(codes, reference.codes_from_features(*layer, codebook, k))


@pytest.mark.parametrize("n_subclasses", (1000, 1003))
@pytest.mark.parametrize("k", (1, 5, 100))
def test_small_default_chunks(n_subclasses: int, k: int, backend, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a device does by itself with many sub-classes, at sizes of a test."""
    monkeypatch.setattr(_linear_ops, "CHUNK", 100)
    monkeypatch.setattr(_linear_ops, "CUDA_LOGITS", 20_000)
    monkeypatch.setattr(_linear_ops, "ROW_LOGITS", 3000)
    rng = np.random.default_rng(k)
    layer = [to_torch(rng.standard_normal(shape), backend.device) for shape in ((70, 12), (n_subclasses, 12))]
    codebook = to_torch(make_codes(rng, n_subclasses, 8), backend.device)
    codes = dshc_fast.codes_from_features(*layer, None, codebook, k)
    assert torch.equal(codes, reference.codes_from_features(*layer, None, codebook, k))


@pytest.mark.parametrize(
    ("n", "rows"), ((0, []), (1, [1]), (29, [29]), (30, [15, 15]), (100, [25, 25, 25, 25]))
)
def test_blocks_of_rows(n: int, rows: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    """Few rows of logits exist at a time, in blocks of about equal size, and a NaN is found in each."""
    monkeypatch.setattr(_linear_ops, "ROW_LOGITS", 29 * 40)
    seen, write = [], _linear_ops._write_codes_of_rows

    def noted(layer, *arguments):
        assert layer.memory.numel() <= 29 * 40
        seen.append(layer.n)
        write(layer, *arguments)

    monkeypatch.setattr(_linear_ops, "_write_codes_of_rows", noted)
    rng = np.random.default_rng(n)
    features, weight = (torch.from_numpy(rng.standard_normal(shape)) for shape in ((n, 5), (90, 5)))
    codebook = to_torch(make_codes(rng, 90, 3), "cpu")
    codes = dshc_fast.codes_from_features(features, weight, None, codebook, 4, chunk=40)
    assert seen == rows
    assert torch.equal(codes, reference.codes_from_features(features, weight, None, codebook, 4))
    for row in range(0, n, 14):
        spoiled = features.clone()
        spoiled[row] = torch.nan
        with pytest.raises(ValueError, match=rf"logits\[{row}\] must hold numbers and infinities, got NaN"):
            dshc_fast.codes_from_features(spoiled, weight, None, codebook, 4, chunk=40)
        infinite = weight.clone()
        spoiled[row], spoiled[row, 0], infinite[77, 0] = 0, 1e300, 1e10
        with pytest.raises(ValueError, match=rf"logits\[{row}\] must hold numbers and -inf .*, got \+inf"):
            dshc_fast.codes_from_features(
                spoiled, infinite, None, codebook, 4, chunk=40, weighting="probability"
            )


@pytest.mark.parametrize("chunk", (2, 9))
def test_values(chunk: int, backend) -> None:
    """NaN raises where checked and ranks last where not; +inf only with "probability"."""
    rng = np.random.default_rng(1)
    weight, features = torch.zeros(9, 2, device=backend.device), torch.zeros(3, 2, device=backend.device)
    codebook = to_torch(make_codes(rng, 9, 2), backend.device)
    bias = torch.arange(9.0, device=backend.device)
    bias[4] = math.nan
    with pytest.raises(ValueError, match=r"logits\[0\] must hold .*got NaN"):
        dshc_fast.codes_from_features(features, weight, bias, codebook, 2, chunk=chunk, check=True)
    codes = dshc_fast.codes_from_features(features, weight, bias, codebook, 9, chunk=chunk, check=False)
    bias[4] = -math.inf
    last = dshc_fast.codes_from_features(features, weight, bias, codebook, 9, chunk=chunk)
    assert torch.equal(codes, last)
    bias[4] = math.inf
    assert torch.equal(
        dshc_fast.codes_from_features(features, weight, bias, codebook, 1, chunk=chunk),
        codebook[4].repeat(3, 1),
    )
    with pytest.raises(ValueError, match=r"\+inf"):
        dshc_fast.codes_from_features(
            features, weight, bias, codebook, 2, chunk=chunk, weighting="probability", check=True
        )


def test_autocast_and_gradients(device: str) -> None:
    """Products in autocast's dtype; codes need no gradient."""
    rng = np.random.default_rng(3)
    layer = [torch.nn.Parameter(to_torch(rng.standard_normal(shape).astype(np.float32), device))
             for shape in ((7, 6), (50, 6), (50,))]  # fmt: skip
    codebook = to_torch(make_codes(rng, 50, 3), device)
    with torch.autocast(device, dtype=torch.bfloat16):
        codes = dshc_fast.codes_from_features(*layer, codebook, 3, chunk=11)
    low = [t.detach().bfloat16() for t in layer]
    assert not codes.requires_grad
    assert torch.equal(codes, dshc_fast.codes_from_features(*low, codebook, 3, chunk=11))
