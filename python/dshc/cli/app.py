"""The command line, whole: names, flags and help of every command. What they do is in the modules beside this one.

Commands import their work when they run, so that ``dshc --help`` does not wait for torch.
"""

from __future__ import annotations

# Imported for what they add to the application, in the order of the help.
from . import (
    codes_commands,  # noqa: F401
    exchange_commands,  # noqa: F401
    index_commands,  # noqa: F401
    service_commands,  # noqa: F401
    training_commands,  # noqa: F401, I001
)
from .root import app

__all__ = ["app"]

if __name__ == "__main__":
    app()
