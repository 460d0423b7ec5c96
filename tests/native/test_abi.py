"""The seam between the Python files and the compiled module: versions and signatures."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import dshc_fast
from dshc_fast import _native

RECORD = Path(__file__).with_name("abi_signatures.json")
BIND = Path(__file__).resolve().parents[2] / "csrc" / "bind"
# What a `def` of pybind11 binds: a name, or a constructor, then a lambda's parameters or the function that has them.
BOUND = re.compile(
    r'(?:\.|\bm\.)def\(\s*(?:"(?P<name>\w+)", |(?P<init>py::init\())|class_<[^>]*>\(m, "(?P<type>\w+)"\)'
)
LAMBDA = re.compile(r"\[[^]]*\]\s*\((?P<parameters>[^)]*)\)")


def signatures(source: str) -> dict[str, str]:
    """The parameters, types and names, of everything that a file of csrc/bind gives to Python. From the text: what
    pybind11 writes into docstrings changes with its version."""
    text, found, owner = " ".join(source.split()), {}, ""
    for bound in BOUND.finditer(text):
        if bound["type"]:
            owner = bound["type"]
            continue
        rest = text[bound.end() :]
        if of_lambda := LAMBDA.match(rest):
            parameters = of_lambda["parameters"]
        elif of_function := re.match(r"&(?:\w+::)*(\w+)", rest):
            declared = re.search(rf"[\w:]+ {of_function[1]}\(([^)]*)\)\s*{{", text)
            parameters = declared[1] if declared else ""
        else:
            parameters = ""
        name = bound["name"] or f"{owner}()"
        found[f"{owner}.{name}" if name in ("n_found", "write") else name] = parameters.strip()
    return found


def all_signatures() -> dict[str, dict[str, str]]:
    return {path.name: signatures(path.read_text(encoding="utf-8")) for path in sorted(BIND.glob("*.cpp"))}


def test_signatures_are_read() -> None:
    """The reading finds everything that the module has."""
    of_files = all_signatures()
    of_cuda = of_files.pop("cuda.cpp")
    read = {name: parameters for each in of_files.values() for name, parameters in each.items()}
    native = _native.native
    of_module = {
        name
        for name in vars(native)
        if callable(getattr(native, name)) and not isinstance(getattr(native, name), type)
    }
    assert {name for name in read if name.isidentifier()} == of_module
    assert {f"{name}()" for name in vars(native) if isinstance(getattr(native, name), type)} <= set(read)
    assert read["Pairs()"].startswith("Address queries, Address database, int64_t n_query")
    assert (
        read["hamming_topk"]
        == "const Pairs& pairs, int64_t k, Address counts, Address indices, int n_threads"
    )
    if native.CUDA:
        assert set(of_cuda) == {name for name in vars(native.cuda) if callable(getattr(native.cuda, name))}


def test_signatures_and_abi_change_together() -> None:
    """A changed signature needs a new ABI number, on both sides and in the record.

    Write the record anew with `python tests/native/test_abi.py`.
    """
    record = json.loads(RECORD.read_text())
    assert _native.native.ABI == _native.ABI
    same = record["signatures"] == all_signatures()
    assert same or _native.ABI != record["abi"], "signatures changed: raise ABI in _native.py and module.cpp"
    assert same and _native.ABI == record["abi"], "write the record anew"


def test_a_module_of_another_abi_is_refused(tmp_path: Path) -> None:
    (tmp_path / "_dshc_fast.py").write_text("ABI = -1\n")
    code = f"import sys; sys.path.insert(0, {str(tmp_path)!r}); import dshc_fast"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert run.returncode != 0
    assert (
        f"have ABI {_native.ABI}" in run.stderr
        and "has ABI -1" in run.stderr
        and "pip install ." in run.stderr
    )


def test_version_is_one() -> None:
    assert _native.native.VERSION == dshc_fast.__version__


if __name__ == "__main__":
    RECORD.write_text(json.dumps({"abi": _native.ABI, "signatures": all_signatures()}, indent=1) + "\n")
