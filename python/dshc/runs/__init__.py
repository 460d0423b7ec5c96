"""Runs: settings in, a folder with a trained hasher out; its data, its codes and its evaluation."""

from .evaluate import evaluate_files, evaluate_run, train_and_evaluate
from .run import Run, load_run
from .settings import RunSettings
from .train import train

__all__ = ["Run", "RunSettings", "evaluate_files", "evaluate_run", "load_run", "train", "train_and_evaluate"]
