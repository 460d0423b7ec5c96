"""The seam between the Python files and the compiled module: versions and signatures."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import dshc_fast
from dshc_fast import _native

RECORD = Path(__file__).with_name("abi_signatures.json")


def signatures(module: ModuleType) -> dict[str, str]:
    """First docstring line of every function and constructor of a native module: its name and argument
    types."""
    found = {}
    for name in sorted(vars(module)):
        item = getattr(module, name)
        if isinstance(item, type):
            found[name] = item.__init__.__doc__.splitlines()[0]
        elif callable(item):
            found[name] = item.__doc__.splitlines()[0]
    return found


def test_signatures_and_abi_change_together() -> None:
    """A changed signature needs a new ABI number, on both sides and in the record.

    Write the record anew with `python tests/native/test_abi.py`.
    """
    record = json.loads(RECORD.read_text())
    native = _native.native
    assert native.ABI == _native.ABI
    found = {"signatures": signatures(native)}
    if native.CUDA:  # a build without CUDA does not have them to compare
        found["cuda"] = signatures(native.cuda)
    same = {name: record[name] for name in found} == found
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


if __name__ == "__main__":  # a build without CUDA leaves that part as it was
    found = {"signatures": signatures(_native.native)}
    found["cuda"] = (
        signatures(_native.native.cuda) if _native.native.CUDA else json.loads(RECORD.read_text())["cuda"]
    )
    RECORD.write_text(json.dumps({"abi": _native.ABI, **found}, indent=1) + "\n")
