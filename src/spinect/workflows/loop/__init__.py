"""`spinect loop`: from a few marked series to a registered dataset, round by round."""

from spinect.workflows.loop.cases import Case
from spinect.workflows.loop.config import LoopConfig, load_loop, parse_loop
from spinect.workflows.loop.rounds import Decision, Trial
from spinect.workflows.loop.run import Ended, run_loop
from spinect.workflows.loop.state import StepRecord
from spinect.workflows.loop.steps import Models
from spinect.workflows.loop.table import round_rows

__all__ = [
    "Case",
    "Decision",
    "Ended",
    "LoopConfig",
    "Models",
    "StepRecord",
    "Trial",
    "load_loop",
    "parse_loop",
    "round_rows",
    "run_loop",
]
