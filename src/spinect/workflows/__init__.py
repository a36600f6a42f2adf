"""What the commands do, as functions: one case, many cases, the demo."""

from spinect.workflows.case import Outcome, Watcher, run_case
from spinect.workflows.engine import Engine, Result
from spinect.workflows.options import OUTPUTS, RunOptions
from spinect.workflows.planning import Case, Plan, plan
from spinect.workflows.record import RunRecord
from spinect.workflows.run import Summary, run_files, run_many

__all__ = [
    "OUTPUTS",
    "Case",
    "Engine",
    "Outcome",
    "Plan",
    "Result",
    "RunOptions",
    "RunRecord",
    "Summary",
    "Watcher",
    "plan",
    "run_case",
    "run_files",
    "run_many",
]
