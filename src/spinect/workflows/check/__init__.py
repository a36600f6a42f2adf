"""`spinect check`: what is wrong with a dataset folder, and the mends that are safe."""

from spinect.workflows.check.findings import CODES, Finding, Report
from spinect.workflows.check.mending import fix
from spinect.workflows.check.walk import check

__all__ = ["CODES", "Finding", "Report", "check", "fix"]
