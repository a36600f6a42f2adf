"""`evaluate`: the results of one or several methods against the truth of a dataset."""

from spinect.workflows.evaluate.cases import Outcome
from spinect.workflows.evaluate.options import EvaluateOptions
from spinect.workflows.evaluate.product import Evaluated, evaluate
from spinect.workflows.evaluate.run import Scores, score_results

__all__ = ["EvaluateOptions", "Evaluated", "Outcome", "Scores", "evaluate", "score_results"]
