"""The report of an evaluation: one HTML file with tables, plots, error maps, sliders, surfaces."""

from spinect.report.evaluation.page import Block, CaseView, Evaluation, write_evaluation
from spinect.report.evaluation.surfaces import choose_renderer

__all__ = ["Block", "CaseView", "Evaluation", "choose_renderer", "write_evaluation"]
