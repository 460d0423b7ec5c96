"""Retrieval evaluation: numbers with the conventions they were computed under, of codes and of real outputs."""

from .conventions import METRICS, Conventions, Denominator, Empty, Gains, Score, Ties, check_cut
from .evaluation import SCHEMA, Evaluation
from .measure import evaluate
from .real_valued import OutputsEvaluation, evaluate_outputs
from .statistics import CodeStatistics, TieStatistics, class_accuracy, code_statistics

__all__ = [
    "METRICS",
    "SCHEMA",
    "CodeStatistics",
    "Conventions",
    "Denominator",
    "Empty",
    "Evaluation",
    "Gains",
    "OutputsEvaluation",
    "Score",
    "TieStatistics",
    "Ties",
    "check_cut",
    "class_accuracy",
    "code_statistics",
    "evaluate",
    "evaluate_outputs",
]
