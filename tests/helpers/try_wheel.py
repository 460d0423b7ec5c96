"""Installs a wheel into an environment of its own, where no compiler can be found, and tries it there.

    python tests/helpers/try_wheel.py WHEEL --dependencies SITE_PACKAGES [--cuda] [--env FOLDER]

`--dependencies` is a folder of packages that has torch and the others the wheel needs: the environment sees them behind
its own, so that they need not be fetched again. `--cuda`: the wheel must have CUDA kernels; without a driver they are
only loaded.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import venv
from pathlib import Path

COMPILERS = ("cc", "c++", "gcc", "g++", "clang", "nvcc", "cmake", "ninja")


def install(wheel: Path, dependencies: Path, env: Path) -> Path:
    """The environment's Python."""
    shutil.rmtree(env, ignore_errors=True)
    venv.create(env, with_pip=True)
    python = env / "bin" / "python"
    pip = [str(python), "-m", "pip", "install", "--disable-pip-version-check", "--quiet"]
    subprocess.run([*pip, "--no-index", "--no-deps", str(wheel)], check=True)
    packages = subprocess.run(
        [str(python), "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"],
        check=True,
        capture_output=True,
        text=True,
    ).stdout.strip()
    (Path(packages) / "dependencies.pth").write_text(f"{dependencies.resolve()}\n")
    return python


def inside(cuda: bool) -> None:
    """Every op once, against its twin; then what `python -m dshc_fast` checks."""
    import runpy

    found = [name for name in COMPILERS if shutil.which(name)]
    assert not found, f"no compiler must be found here, got {found}"

    import numpy as np
    import torch

    import dshc_fast
    from dshc_fast import reference

    assert Path(dshc_fast.__file__).is_relative_to(sys.prefix), dshc_fast.__file__
    from dshc_fast._native import native

    assert bool(native.CUDA) == cuda, f"CUDA kernels must be {'there' if cuda else 'absent'}"
    rng = np.random.default_rng(0)
    values = rng.standard_normal((300, 64)).astype(np.float32)
    packed = dshc_fast.pack_codes(values)
    assert (dshc_fast.unpack_codes(packed, 64).astype(bool) == (values > 0)).all()
    codes, labels = torch.from_numpy(packed), torch.from_numpy(rng.integers(0, 4, 300))
    queries = codes[:20]
    for ours, twin in (
        (dshc_fast.hamming_distance(queries, codes), reference.hamming_distance(queries, codes)),
        *zip(
            dshc_fast.hamming_topk(queries, codes, 9), reference.hamming_topk(queries, codes, 9), strict=True
        ),
    ):
        assert np.array_equal(np.asarray(ours), np.asarray(twin))
    precisions = dshc_fast.average_precision(queries, codes, labels[:20], labels)
    assert np.allclose(
        precisions, reference.average_precision(queries, codes, labels[:20], labels), atol=1e-12
    )
    logits = torch.randn(5, 12, requires_grad=True)
    dshc_fast.class_softmax_loss(logits, torch.tensor([0, 1, 2, 0, 1]), [0, 4, 8, 12]).backward()
    assert torch.isfinite(logits.grad).all()
    runpy.run_module("dshc_fast", run_name="__main__")
    import dshc

    assert "dshc" in dshc.methods.available()


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("wheel", type=Path)
    parser.add_argument("--dependencies", type=Path)
    parser.add_argument("--env", type=Path, default=Path("build/wheels/env"))
    parser.add_argument("--cuda", action="store_true")
    parser.add_argument("--inside", action="store_true", help="what the environment's Python runs")
    options = parser.parse_args()
    if options.inside:
        inside(options.cuda)
        return 0
    if not (options.dependencies and options.dependencies.is_dir()):
        parser.error(f"--dependencies must be a folder of packages, got {options.dependencies}")
    python = install(options.wheel, options.dependencies, options.env.resolve())
    command = [str(python), __file__, str(options.wheel), "--inside", *(["--cuda"] if options.cuda else [])]
    kept = {name: value for name, value in os.environ.items() if name in ("HOME", "LANG", "TMPDIR")}
    return subprocess.run(
        command, env={**kept, "PATH": str(python.parent), "PYTHONSAFEPATH": "1"}, cwd="/", check=False
    ).returncode


if __name__ == "__main__":
    raise SystemExit(main())
