"""``dshc dedup``: groups of near-duplicates in an index, a code file and a folder of images."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
from cli_runs import dshc_fails, dshc_ok, write_images

from dshc import HashIndex
from dshc.storage import CodeFile


def with_duplicates() -> np.ndarray:
    """Ten codes far from each other; four near the third of them, in a chain, and one that equals the sixth."""
    codes = np.packbits(np.random.default_rng(0).random((15, 64)) < 0.5, axis=1, bitorder="little")
    for place, (of, bits) in {10: (2, 1), 11: (10, 2), 12: (11, 2), 13: (2, 3), 14: (5, 0)}.items():
        codes[place] = codes[of]
        codes[place, 0] ^= (1 << bits) - 1 << 2 * (place - 10) % 5
    return codes


def groups(output: str) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for line in output.splitlines():
        cells = line.split("\t")
        if len(cells) == 4 and cells[0].isdecimal():
            found.setdefault(cells[0], []).append(cells[1])
    return found


def test_of_codes_and_of_an_index(tmp_path: Path) -> None:
    codes = with_duplicates()
    names = tuple(f"n{i}" for i in range(15))
    CodeFile(codes, 64, ids=names, labels=np.arange(15) % 3, class_names=("a", "b", "c")).save(
        tmp_path / "c.safetensors"
    )
    with HashIndex.create(tmp_path / "index", bits=64, ids="text") as index:
        index.add(codes[:8], names[:8])
        index.add(codes[8:], names[8:])
        index.remove(["n13"])
    chain = ["n2", "n10", "n11", "n12"]
    output = dshc_ok("dedup", tmp_path / "c.safetensors", "--radius", 3)
    assert groups(output) == {"1": [*chain, "n13"], "2": ["n5", "n14"]}
    assert "2 groups of 7 of 15 items" in output and "n14\tc\t0" in output
    assert groups(dshc_ok("dedup", tmp_path / "index", "--radius", 3)) == {"1": chain, "2": ["n5", "n14"]}
    assert "1 group of 2 of 14 items; 1 pairs within 0 bits" in dshc_ok(
        "dedup", tmp_path / "index", "--radius", 0
    )
    shown = dshc_ok("dedup", tmp_path / "index", "--radius", 3, "--show", 1)
    assert list(groups(shown)) == ["1"] and "1 more groups not shown" in shown
    lines = [
        line
        for line in dshc_ok("dedup", tmp_path / "index", "--radius", 3, "--json").splitlines()
        if "{" in line
    ]
    assert [[item["id"] for item in json.loads(line)["items"]] for line in lines] == [chain, ["n5", "n14"]]
    whole = dshc_ok("dedup", tmp_path / "index", "--radius", 64)
    assert "1 group of 14 of 14 items; 91 pairs" in whole


def test_of_a_folder_of_images_with_a_picture(tmp_path: Path) -> None:
    photos = tmp_path / "photos"
    write_images(photos, per_class=30)
    run = tmp_path / "run"
    dshc_ok(
        "train",
        photos,
        "--method",
        "itq",
        "--bits",
        32,
        "--out",
        run,
        "--no-report",
        "--backbone",
        "small_net",
    )
    shutil.copy(photos / "red" / "03.png", photos / "red" / "copy.png")
    page = tmp_path / "groups.html"
    output = dshc_ok("dedup", photos, "--run", run, "--radius", 0, "--gallery", page)
    together = next(names for names in groups(output).values() if "red/copy.png" in names)
    assert "red/03.png" in together
    text = page.read_text()
    assert "Near-duplicates" in text and "data:image/" in text and "more are left out" in text
    dshc_ok("index", "create", tmp_path / "index", "--run", run)
    dshc_ok("index", "add", tmp_path / "index", photos)
    dshc_ok("dedup", tmp_path / "index", "--radius", 0, "--images", photos, "--gallery", page)
    assert page.read_text().count("data:image/") == text.count("data:image/")


def test_what_does_not_fit_is_named(tmp_path: Path) -> None:
    codes = tmp_path / "c.safetensors"
    CodeFile(with_duplicates(), 64).save(codes)
    HashIndex.create(tmp_path / "index", bits=8).close()
    for arguments, match in (
        ((codes, "--radius", "65"), "--radius must lie in 0..64 (the code length), got 65"),
        ((tmp_path, "--radius", "3"), "name the run that encodes it with --run RUN"),
        ((codes, "--radius", "3", "--gallery", tmp_path / "x.png"), "--gallery must name an .html file"),
        ((codes, "--radius", "3", "--images", tmp_path), "--images must go with an index"),
        (
            (tmp_path / "index", "--radius", "3", "--run", tmp_path),
            "--run must go with items that are yet to be encoded",
        ),
    ):
        assert match in dshc_fails("dedup", *arguments)
