"""Several trainings as one experiment: settings over seeds, grids of settings, and methods compared."""

from .comparison import Grid, compare
from .comparison_table import ComparisonTable
from .seeds import SeedRow, SeedTable, Spread, grid, over_seeds

__all__ = ["ComparisonTable", "Grid", "SeedRow", "SeedTable", "Spread", "compare", "grid", "over_seeds"]
