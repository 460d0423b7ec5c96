"""Plots: each in a light and a dark dress, and the training where there is a loss."""

from __future__ import annotations

import numpy as np
from report_cases import evaluation_of, picture

from dshc.report.plots import DARK, LIGHT, draw, evaluation_plots, training_plot


def test_plots_in_both_dresses() -> None:
    plots = evaluation_plots(evaluation_of())
    assert len({plot.name for plot in plots}) == len(plots) > 1
    for plot in plots:
        light, dark = (np.asarray(picture(draw(plot, theme)).convert("RGBA")) for theme in (LIGHT, DARK))
        assert light.shape == dark.shape
        assert light[0, 0].tolist() == [255, 255, 255, 255] and dark[0, 0, 3] == 0, "dark has no background"
        assert plot.caption and plot.title


def test_training_plot_needs_a_loss() -> None:
    assert training_plot([]) is None
    assert training_plot([{"epoch": 1}]) is None
    plot = training_plot([{"epoch": 1, "loss": 2.0, "train_micro_f1": 0.1, "validation_map": None}])
    assert picture(draw(plot, LIGHT)).size[0] > 900
