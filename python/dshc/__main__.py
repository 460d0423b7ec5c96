"""``python -m dshc`` is ``dshc``."""

from .cli import app

app(prog_name="dshc")
