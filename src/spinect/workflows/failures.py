"""What many cases say of themselves when some of them fail."""

import logging
from collections.abc import Sequence

from spinect.errors import SpinectError

log = logging.getLogger(__name__)


def exit_code(statuses: Sequence[str]) -> int:
    """0 nothing "failed", 1 the only one or every one failed, 3 some of several failed."""
    failed = sum(status == "failed" for status in statuses)
    if failed == 0:
        return 0
    return 1 if failed == len(statuses) else 3


def reason(problem: Exception, name: str, memory: str) -> str:
    """One line for whatever stopped a case; traces of what nobody foresaw go to the log.

    Args:
        name: Of the input, which every line names.
        memory: What to say, and to do, when memory ran out.
    """
    text = " ".join(str(problem).split()) or type(problem).__name__
    if isinstance(problem, SpinectError):
        return text if name in text else f"{name}: {text}"
    if isinstance(problem, MemoryError):
        return f"{name}: {memory}"
    if isinstance(problem, OSError):
        return f"{name}: {text}: check the disk and the permissions, then run again with --resume"
    log.error("%s: unexpected %s", name, type(problem).__name__, exc_info=problem)
    return f"{name}: unexpected {type(problem).__name__}: {text}; run again with --debug"
