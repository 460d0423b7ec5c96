"""A command whose flags are the settings of a run, generated from the settings' own descriptions.

The settings live beside what they set, and bring torch along. So that ``dshc --help`` does not wait for it, the flags
are made when the command itself is parsed or asked for its help.
"""

from __future__ import annotations

from typing import Any, ClassVar

from typer.core import TyperCommand

from .options import PANELS

__all__ = ["ComparisonCommand", "SettingsCommand", "given_settings"]

_KEY = "dshc.settings"


class SettingsCommand(TyperCommand):
    """Adds a flag for every setting to those that the command's function names; see :func:`given_settings`.

    A setting that the function names itself is the function's, and those in ``left_out`` have no flag.
    """

    left_out: ClassVar[frozenset[str]] = frozenset()

    def get_params(self, ctx: Any) -> list[Any]:
        from .settings_flags import options

        # In the order of the headings, which is that of the tables; arguments and --help have none.
        order = [None, *PANELS.values()]
        own = super().get_params(ctx)
        taken = {p.name for p in own} | self.without()
        flags = [p for p in options() if p.name not in taken]
        return sorted([*own, *flags], key=lambda p: order.index(getattr(p, "rich_help_panel", None)))

    def without(self) -> frozenset[str]:
        """The settings that have no flag here."""
        return self.left_out

    def invoke(self, ctx: Any) -> Any:
        named = {parameter.name for parameter in super().get_params(ctx)}
        ctx.meta[_KEY] = {name: ctx.params.pop(name) for name in [*ctx.params] if name not in named}
        return super().invoke(ctx)


class ComparisonCommand(SettingsCommand):
    """Without the settings that a comparison decides for each of its trainings, and those of methods."""

    left_out = frozenset({"seed"})

    def without(self) -> frozenset[str]:
        from .settings_flags import method_flags

        return self.left_out | method_flags()


def given_settings(context: Any) -> dict[str, Any]:
    """What the generated flags were given, by their names; None where one was not."""
    return context.meta[_KEY]
