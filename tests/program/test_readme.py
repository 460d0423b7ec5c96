"""The README's example of the program runs."""

from pathlib import Path

README = Path(__file__).resolve().parents[2] / "README.md"


def test_the_programs_example(tmp_path, monkeypatch, capsys):
    blocks = README.read_text(encoding="utf-8").split("```python\n")[1:]
    (example,) = [block.split("```")[0] for block in blocks if block.startswith("import dshc\n")]
    monkeypatch.chdir(tmp_path)
    names: dict = {}
    exec(compile(example, "README.md", "exec"), names)
    assert "mAP@all" in capsys.readouterr().out
    assert names["codes"].shape == (5, 4) and names["ready"].n_bits == 10
