"""Training: a plan that is checked, the loop, and what listens to it."""

from .callbacks import Callback
from .plan import Plan, make_plan
from .processes import Processes
from .settings import OptimSettings, RuntimeSettings
from .stop_signals import Interrupted
from .trainer import Trainer

__all__ = [
    "Callback",
    "Interrupted",
    "OptimSettings",
    "Plan",
    "Processes",
    "RuntimeSettings",
    "Trainer",
    "make_plan",
]
