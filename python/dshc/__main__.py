"""The command ``dshc``, and ``python -m dshc``."""

import os
import sys


def main() -> None:
    # By default torch's OpenMP threads spin for milliseconds while they wait for each other. On a machine with other
    # work that makes a training several times slower than it need be. Asleep at once, as PASSIVE has it, a network of
    # many small layers trains a fifth slower than with GNU's threads looking around for some microseconds first, which
    # costs nobody else anything. Read once, when torch is loaded, so it is set before anything here imports torch.
    if not any(name.startswith(("OMP_WAIT", "GOMP_SPIN")) for name in os.environ):
        os.environ.update(OMP_WAIT_POLICY="PASSIVE", GOMP_SPINCOUNT="1000")
    try:
        from .cli.app import app
    except KeyboardInterrupt:  # from here on the application answers it
        sys.exit(130)
    app(prog_name="dshc")


if __name__ == "__main__":
    main()
