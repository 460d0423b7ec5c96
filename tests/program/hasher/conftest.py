"""Fixtures of frozen backbones."""

from frozen_backbones import cache, calls, dataset, folder, weights  # noqa: F401  (fixtures)
