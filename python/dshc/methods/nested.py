"""Several lengths from one network: the settings of the methods that can train so."""

from __future__ import annotations

from pydantic import field_validator

from ..settings import setting
from .base import MethodSettings

__all__ = ["NestedSettings"]


class NestedSettings(MethodSettings):
    """Settings of a method whose first bits can be codes too."""

    lengths: str | None = setting(
        None, "shorter lengths trained at once, as in 16,32: the first so many bits are a code too"
    )

    @field_validator("lengths")
    @classmethod
    def _lengths(cls, text: str | None) -> str | None:
        if text is None:
            return None
        try:
            lengths = [int(part) for part in text.split(",")]
        except ValueError:
            raise ValueError(f"lengths must be numbers of bits as in 16,32, got {text!r}") from None
        if min(lengths) < 1 or lengths != sorted(set(lengths)):
            raise ValueError(f"lengths must be at least 1 and rise, got {text!r}")
        return ",".join(map(str, lengths))

    def shorter(self, bits: int) -> tuple[int, ...]:
        """The lengths below ``bits``, rising; raises ``ValueError`` where one is not below."""
        shorter = tuple(int(part) for part in self.lengths.split(",")) if self.lengths else ()
        if shorter and shorter[-1] >= bits:
            raise ValueError(f"lengths must be less than bits, which is {bits}, got {self.lengths}")
        return shorter
