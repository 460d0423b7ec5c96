"""--cluster: what is refused before any cluster is asked."""

from __future__ import annotations

from pathlib import Path

import pytest
from cli_runs import dshc_fails


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("search", "x", "y", "--partial"), "--partial must go with --cluster"),
        (("evaluate", "x", "y", "--partial"), "--partial must go with --cluster"),
        (("encode", "x", "y", "--shard-items", "5"), "--shard-items must go with --cluster"),
        (("encode", "x", "y", "--cluster", "local", "--out", "a.safetensors"), "--out must name a folder"),
        (("search", "x", "--cluster", "local", "--item", "3"), "--item must go without --cluster"),
        (("search", "x", "--cluster", "local"), "give a QUERY"),
        (("evaluate", "x", "--cluster", "local"), "DATABASE must be given with --cluster"),
        (("evaluate", "x", "y", "--cluster", "local"), "x: no such file or folder"),
        (("search", "x", "y", "--cluster", "nowhere"), "x: no such file or folder"),
        (("serve", "x", "--run", "y"), "--run must go with --cluster"),
        (("serve", "x", "--partial"), "--partial must go with --cluster"),
        (("serve", "x", "--copies", "2"), "--copies must go with --cluster"),
        (("serve", "x", "--hedge", "0.9"), "--hedge must go with --cluster"),
        (("serve", "x", "--cluster", "nowhere"), "address must be auto, local, HOST:PORT or ray://HOST:PORT"),
        (("serve", "x", "--cluster", "local", "--host", "0.0.0.0"), "where no --api-key-file is given"),
    ],
)
def test_refused(
    arguments: tuple[str, ...], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert message in dshc_fails(*arguments)
    assert not list(tmp_path.iterdir())
