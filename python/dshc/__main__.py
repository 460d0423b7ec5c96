"""The command ``dshc``, and ``python -m dshc``."""

import os


def main() -> None:
    # By default torch's OpenMP threads spin while they wait for each other. On a machine with other work that
    # makes a training several times slower than it need be; asleep they cost an idle machine next to nothing.
    # Read once, when torch is loaded, so it is set before anything here imports torch.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    from .cli.app import app

    app(prog_name="dshc")


if __name__ == "__main__":
    main()
