"""Several trainings as one experiment: the same settings over seeds, and grids of settings."""

from .seeds import SeedRow, SeedTable, Spread, grid, over_seeds

__all__ = ["SeedRow", "SeedTable", "Spread", "grid", "over_seeds"]
