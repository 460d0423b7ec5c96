"""Retrieval evaluation: numbers with the conventions they were computed under, of codes and of real outputs."""

from .conventions import Conventions, Denominator, Empty, Score, Ties, check_cut
from .evaluation import SCHEMA, Evaluation
from .measure import evaluate
from .real_valued import OutputsEvaluation, evaluate_outputs
from .statistics import CodeStatistics, TieStatistics, class_accuracy, code_statistics

__all__ = [
    "SCHEMA",
    "CodeStatistics",
    "Conventions",
    "Denominator",
    "Empty",
    "Evaluation",
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
