"""`spinect compare`: presets on the same data, split and budget, and the tables of the papers."""

from spinect.workflows.compare.config import Experiment, load_experiment, parse_experiment
from spinect.workflows.compare.plan import STAGES, Plan
from spinect.workflows.compare.run import run_compare
from spinect.workflows.compare.status import Status
from spinect.workflows.compare.tools import Tools

__all__ = [
    "STAGES",
    "Experiment",
    "Plan",
    "Status",
    "Tools",
    "load_experiment",
    "parse_experiment",
    "run_compare",
]
