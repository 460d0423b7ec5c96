"""What other programs get: outputs as the hasher gives them, for any number of items, and codes by the written rule."""

import numpy as np
import pytest
import torch
from effort import deep
from extras import needs
from small_hashers import VALUES, a_hasher, items_of

from dshc.errors import InputError
from dshc.hasher import from_classifier

TIE = 1e-4
needs_onnx = needs("onnx", "onnxscript", "onnxruntime")
KIND_NAMES = ("images", "features")
KINDS = pytest.mark.parametrize("kind", KIND_NAMES)


def nearness_of_ties(hasher, outputs):
    """How near each item's outputs are to a tie of its method's rule, ``(n,)``."""
    if hasher.method.name != "dshc":
        threshold = getattr(hasher.method.settings, "label_threshold", 0.0)
        return np.abs(outputs - threshold).min(1)
    best = np.sort(outputs, axis=1)
    return best[:, -1] - best[:, -2]


def check(hasher, run, kind):
    """Outputs and codes of an exported hasher, ``run``, for batches of several sizes."""
    for n in (1, 2, 3, 17, 64):
        items = items_of(kind, n, seed=n)
        expected, outputs = hasher.outputs(items).numpy(), run(items)
        assert outputs.dtype == np.float32 and outputs.shape == expected.shape
        assert np.abs(outputs - expected).max() <= 1e-5 * np.abs(expected).max()
        clear = nearness_of_ties(hasher, expected) > TIE
        assert clear.mean() > 0.5 or n < 17
        codes = hasher.method.encode(torch.from_numpy(outputs)).numpy()
        assert np.array_equal(codes[clear], hasher.encode(items)[clear])


def loaded_program(path):
    module = torch.export.load(path).module()
    return lambda items: module(torch.from_numpy(items)).detach().numpy()


def loaded_onnx(path):
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    assert [one.name for one in session.get_inputs()] == ["items"]
    assert [one.name for one in session.get_outputs()] == ["outputs"]
    return lambda items: session.run(None, {"items": items})[0]


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("itq", "features"),
        *deep(*((n, k) for n in VALUES for k in KIND_NAMES if (n, k) != ("itq", "features"))),
    ],
)
def test_torch_export_gives_the_hashers_outputs(name, kind, tmp_path):
    hasher = a_hasher(name, kind)
    path = hasher.export(tmp_path / "one.pt2")
    assert path == tmp_path / "one.pt2" and [p.name for p in tmp_path.iterdir()] == ["one.pt2"]
    check(hasher, loaded_program(path), kind)


@needs_onnx
@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("dshc", "images"),
        *deep(*((n, k) for n in VALUES for k in KIND_NAMES if (n, k) != ("dshc", "images"))),
    ],
)
def test_onnx_gives_the_hashers_outputs(name, kind, tmp_path):
    hasher = a_hasher(name, kind)
    path = hasher.export(tmp_path / "one.onnx")
    assert path == tmp_path / "one.onnx" and [p.name for p in tmp_path.iterdir()] == ["one.onnx"]
    check(hasher, loaded_onnx(path), kind)


@KINDS
def test_the_graph_is_a_copy_in_evaluation_mode(kind):
    hasher, items = a_hasher(kind=kind).train(), items_of(kind)
    graph = hasher.graph()
    assert hasher.training and not any(module.training for module in graph.modules())
    with torch.no_grad():
        assert torch.allclose(graph(torch.from_numpy(items)), hasher.outputs(items), rtol=1e-5, atol=1e-6)
        before = graph(torch.from_numpy(items))
        hasher.method.head.weight.zero_()
        assert torch.equal(graph(torch.from_numpy(items)), before)


def test_an_export_is_float32_whatever_the_training_was(tmp_path):
    half, items = a_hasher(precision="bf16"), items_of("features")
    outputs = loaded_program(half.export(tmp_path / "one.pt2"))(items)
    assert np.allclose(outputs, a_hasher().outputs(items).numpy(), rtol=1e-5, atol=1e-6)


def test_a_hasher_of_a_classifier_is_exported(tmp_path):
    torch.manual_seed(0)
    layers = torch.nn.Conv2d(3, 5, 3), torch.nn.Flatten(), torch.nn.Linear(80, 7)
    hasher = from_classifier(torch.nn.Sequential(*layers), item_shape=(3, 6, 6))
    items = torch.randn(5, 3, 6, 6).numpy()
    outputs = loaded_program(hasher.export(tmp_path / "one.pt2"))(items)
    assert np.allclose(outputs, hasher.outputs(items).numpy(), rtol=1e-5, atol=1e-6)


def test_other_suffixes_and_missing_packages_are_named(tmp_path, monkeypatch):
    with pytest.raises(InputError, match=r"path must end in .onnx or .pt2, got .*one\.pt"):
        a_hasher().export(tmp_path / "one.pt")
    monkeypatch.setitem(__import__("sys").modules, "onnx", None)
    with pytest.raises(ImportError, match=r"pip install 'dshc-fast\[onnx\]'"):
        a_hasher().export(tmp_path / "one.onnx")
    assert not list(tmp_path.iterdir())
