"""The law of the house: who may include and import whom, and that every op is there in every layer."""

from __future__ import annotations

import ast
import doctest
import re
import subprocess
import sys
from pathlib import Path

import pytest
from ops_table import OPS, TEST_FILES

import dshc_fast
from dshc_fast import reference

ROOT = Path(__file__).resolve().parents[1]
CSRC, CORE_PYTHON, PROGRAM, TESTS = (
    ROOT / "csrc",
    ROOT / "dshc_fast",
    ROOT / "python" / "dshc",
    ROOT / "tests",
)
C_SUFFIXES = {".h", ".hpp", ".cpp", ".cc", ".c", ".cu", ".cuh", ".inc"}
INCLUDE = re.compile(r'^\s*#\s*include\s*([<"][^>"]+[>"])', re.MULTILINE)
CLASSES = (
    "ClassSoftmaxLinearLoss",
    "ClassSoftmaxLoss",
    "HammingDatabase",
    "HammingHitRate",
    "HammingMAP",
    "HammingMAPAtR",
    "HammingMRR",
    "HammingNDCG",
    "HammingPrecision",
    "HammingRPrecision",
    "HammingRecall",
)
OTHERS = ("set_simd_level", "get_simd_level", "build_info", "__version__")
# Files and packages of the program, from the ground up: each knows itself and those before it.
LAYERS = (
    "errors",
    "settings",
    "progress",
    "machine",
    "first_and_last",
    "kept_memory",
    "torch_defaults",
    "storage",
    "codebooks",
    "data",
    "backbones",
    "methods",
    "hasher",
    "evaluation",
    "training",
    "runs",
    "method_checks",
    "experiment",
    "report",
    "index",
    "exchange",
    "cluster",
    "paper",
    "service",
    "cli",
)
MAX_LINES = 400


def includes(path: Path) -> list[str]:
    return INCLUDE.findall(path.read_text(encoding="utf-8"))


def c_files(*folders: str) -> list[Path]:
    files = [p for folder in folders for p in (CSRC / folder).rglob("*") if p.suffix in C_SUFFIXES]
    assert files, f"no C++ files under {folders}: has the tree moved?"
    return files


def imports(path: Path) -> list[str]:
    """Every module a file imports, `from x import y` as x.y; relative ones resolved to the package."""
    names = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            names += [f"{node.module}.{alias.name}" for alias in node.names]
    return names


def test_no_torch_or_python_under_csrc() -> None:
    forbidden = re.compile(r'[<"](torch/|ATen/|c10/|pybind11|Python\.h|numpy/)')
    for path in c_files("."):
        if (CSRC / "bind") in path.parents:
            continue
        bad = [name for name in includes(path) if forbidden.match(name)]
        assert not bad, f"{path.relative_to(ROOT)} includes {bad}"
    for path in c_files("bind"):
        bad = [name for name in includes(path) if re.match(r'[<"](torch/|ATen/|c10/)', name)]
        assert not bad, f"{path.relative_to(ROOT)} includes {bad}"


def test_core_headers_include_nothing() -> None:
    """Nothing but <cstdint>, <cstddef> and each other."""
    own = {f'"{path.name}"' for path in c_files("core")}
    for path in c_files("core"):
        extra = set(includes(path)) - {"<cstdint>", "<cstddef>"} - own
        assert not extra, f"{path.relative_to(ROOT)} includes {sorted(extra)}"


def test_back_ends_do_not_include_the_binding() -> None:
    for path in c_files("core", "common", "cpu", "cuda"):
        assert not [n for n in includes(path) if "bind/" in n], path.name


def test_kernels_know_cuda_through_one_header() -> None:
    """launch.h alone includes CUDA's headers, so that csrc/simt can stand in for them."""
    for path in c_files("cuda"):
        if path.name in ("launch.h", "device.cpp"):
            continue
        bad = [n for n in includes(path) if re.match(r'[<"](cuda|cooperative|cub/|thrust/)', n)]
        assert not bad, f"{path.name} includes {bad}"


def test_core_does_not_know_the_program() -> None:
    for path in CORE_PYTHON.rglob("*.py"):
        bad = [name for name in imports(path) if name.split(".")[0] == "dshc"]
        assert not bad, f"{path.name} imports {bad}"


def test_only_ops_touches_pointers() -> None:
    for path in [*CORE_PYTHON.rglob("*.py"), *PROGRAM.rglob("*.py")]:
        if "data_ptr" in path.read_text(encoding="utf-8"):
            owners = [
                CORE_PYTHON / name
                for name in (
                    "_ops.py",
                    "_asymmetric_ops.py",
                    "_metric_ops.py",
                    "_cuda_ops.py",
                    "_cuda_loss_ops.py",
                    "_cuda_metric_ops.py",
                    "_arguments.py",
                    "_label_arguments.py",
                    "_logit_arguments.py",
                    "_tables.py",
                )  # fmt: skip
            ]
            assert path in owners, f"data_ptr in {path.relative_to(ROOT)}"


@pytest.mark.deep
def test_import_brings_little() -> None:
    """Neither the program nor torchmetrics comes with the core; the latter with its Metric."""
    code = (
        "import sys, dshc_fast; bad = {'torchmetrics', 'dshc'} & set(sys.modules); assert not bad, bad;"
        "dshc_fast.HammingMAP; assert 'torchmetrics' in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_program_uses_public_names_only() -> None:
    public = {*dshc_fast.__all__, "__version__"}
    for path in PROGRAM.rglob("*.py"):
        where = path.relative_to(ROOT)
        for name in imports(path):
            if name == "dshc_fast" or not name.startswith("dshc_fast."):
                continue
            assert name.split(".")[1] in public and name.count(".") == 1, f"{where} imports {name}"
        tree = ast.parse(path.read_text(encoding="utf-8"))
        aliases = {
            alias.asname or alias.name
            for node in ast.walk(tree)
            if isinstance(node, ast.Import)
            for alias in node.names
            if alias.name == "dshc_fast"
        }
        for node in ast.walk(tree):
            if (
                isinstance(node, ast.Attribute)
                and isinstance(node.value, ast.Name)
                and node.value.id in aliases
            ):
                assert node.attr in public, f"{where} uses dshc_fast.{node.attr}"
        assert "_dshc_fast" not in path.read_text(encoding="utf-8"), where
        assert "torch.ops.dshc_fast" not in path.read_text(encoding="utf-8"), where


def layer_of(path: Path) -> str:
    """The layer that a file of the program belongs to; "" for the program's own two files."""
    name = path.relative_to(PROGRAM).parts[0].removesuffix(".py")
    return "" if name in ("__init__", "__main__") else name


def program_imports(path: Path) -> list[tuple[int, str]]:
    """Line and module of every import of the program's own, wherever it stands, without the leading "dshc"."""
    package = path.relative_to(PROGRAM).parts[:-1]
    found = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            modules = [tuple(alias.name.split(".")) for alias in node.names]
            found += [(node.lineno, module[1:]) for module in modules if module[0] == "dshc"]
        elif isinstance(node, ast.ImportFrom):
            module = tuple(node.module.split(".")) if node.module else ()
            if node.level:
                base = package[: len(package) + 1 - node.level]
                found += [(node.lineno, (*base, *module, alias.name)) for alias in node.names]
            elif module[0] == "dshc":
                found += [(node.lineno, (*module[1:], alias.name)) for alias in node.names]
    return [(line, ".".join(module)) for line, module in found]


def test_every_file_of_the_program_is_in_a_layer() -> None:
    found = {layer_of(path) for path in PROGRAM.rglob("*.py")} - {""}
    assert found == set(LAYERS)


@pytest.mark.parametrize("layer", LAYERS)
def test_a_layer_knows_those_below_it_only(layer: str) -> None:
    """Imports for type checking count too: they tie two layers together as any others do."""
    allowed = set(LAYERS[: LAYERS.index(layer) + 1])
    files = [path for path in PROGRAM.rglob("*.py") if layer_of(path) == layer]
    assert files
    bad = [
        f"{path.relative_to(PROGRAM)}:{line} imports dshc.{module}"
        for path in files
        for line, module in program_imports(path)
        if module.split(".")[0] not in allowed
    ]
    assert not bad, "\n".join(bad)


def test_files_of_the_program_are_short() -> None:
    lengths = {path: len(path.read_text(encoding="utf-8").splitlines()) for path in PROGRAM.rglob("*.py")}
    long = {str(path.relative_to(PROGRAM)): n for path, n in lengths.items() if n > MAX_LINES}
    assert not long, f"more than {MAX_LINES} lines: {long}"


@pytest.mark.parametrize("op", OPS)
def test_every_op_in_every_layer(op: str) -> None:
    assert op in dshc_fast.__all__
    assert (getattr(dshc_fast, op).__doc__ or "").strip(), "a public docstring"
    assert ">>>" in getattr(dshc_fast, op).__doc__, "one runnable example"
    assert callable(getattr(reference, op)), "a twin in reference/"
    assert (TESTS / "core" / f"test_{TEST_FILES.get(op, op)}.py").is_file()


def test_public_names() -> None:
    for name in (*OPS, *CLASSES, *OTHERS, *dshc_fast.__all__):
        assert hasattr(dshc_fast, name), name
        assert name == "__version__" or not name.startswith("_"), name
    missing = {*OPS, *CLASSES, *OTHERS} - {*dshc_fast.__all__, "__version__"}
    assert not missing, f"not in __all__: {sorted(missing)}"


def test_build_info() -> None:
    info = dshc_fast.build_info()
    assert isinstance(info, dict) and {"simd_levels", "cuda"} <= set(info)


def test_docstring_examples_run() -> None:
    """The one runnable example of each docstring runs and prints what it says."""
    runner = doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS)
    for name in (*OPS, *CLASSES):
        function = getattr(dshc_fast, name)
        parser = doctest.DocTestParser()
        example = parser.get_doctest(function.__doc__ or "", {}, name, None, None)
        output: list[str] = []
        runner.run(example, out=output.append)
        assert not runner.failures, "".join(output)
