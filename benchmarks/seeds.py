"""Mean and spread over seeds of a training: mAP of the held-out queries and class accuracy.

    python benchmarks/seeds.py digits [--seeds 5] [--name digits-seeds] [-- TABLE.NAME=VALUE ...]

Trains SOURCE with the seeds 0, 1, ... (the seed draws the split, the weights and the order) by
`dshc.experiment.over_seeds`, and writes docs/results/<name>.json and .md.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path

from timing import RESULTS, machine, made_on, write_page

from dshc.cli.settings_flags import as_values
from dshc.experiment import over_seeds
from dshc.runs import RunSettings, train_and_evaluate


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("source")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--name")
    parser.add_argument("settings", nargs="*", help="settings as dshc train --set takes them, after --")
    options = parser.parse_intermixed_args()
    name = options.name or f"{Path(options.source).stem}-seeds"
    settings = RunSettings.of(source=options.source).with_values(**as_values({}, options.settings))
    with tempfile.TemporaryDirectory() as folder:
        table = over_seeds(settings, range(options.seeds), train=train_and_evaluate, folder=Path(folder))
    about = machine()
    given = f" -- {' '.join(options.settings)}" if options.settings else ""
    command = f"python benchmarks/seeds.py {options.source} --seeds {options.seeds}{given}"
    content = {"machine": about, "command": command, **table.to_dict()}
    RESULTS.mkdir(parents=True, exist_ok=True)
    (RESULTS / f"{name}.json").write_text(json.dumps(content, indent=1) + "\n")
    print(table.to_markdown())
    write_page(name, name, f"`{command}`; {made_on()}", "", table.to_markdown().splitlines())


if __name__ == "__main__":
    main()
