"""What surrounds every command: one-line errors, exit codes, signals, where text goes."""

import errno
import functools
import logging
import os
import signal
import sys
from collections.abc import Callable
from types import FrameType
from typing import Any, ParamSpec, TypeVar

import typer

from spinect.errors import SpinectError

P = ParamSpec("P")
R = TypeVar("R")
DEBUG = "--debug"


def debugging() -> bool:
    """Whether errors show their traceback."""
    return os.environ.get("SPINECT_DEBUG", "") not in ("", "0")


def set_up(debug: bool) -> None:
    """Logging to stderr, and SIGTERM ends the program as cleanly as Ctrl-C."""
    if debug:
        os.environ["SPINECT_DEBUG"] = "1"
    logging.basicConfig(
        level=logging.DEBUG if debugging() else logging.CRITICAL,
        format="%(asctime)s %(name)s %(message)s",
        stream=sys.stderr,
    )
    for noisy in ("matplotlib", "PIL", "fontTools"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    if not debugging():  # nibabel prints by itself what io.read then says in one line
        logging.getLogger("nibabel.global").setLevel(logging.CRITICAL)

    def stop(number: int, _frame: FrameType | None) -> None:
        raise SystemExit(128 + number)  # context managers take away what is half-written

    signal.signal(signal.SIGTERM, stop)


def say(text: str) -> None:
    """One line to stderr."""
    typer.echo(text, err=True)


def guarded(command: Callable[P, R]) -> Callable[P, R]:
    """Turn what a command raises into one line on stderr and a documented exit code."""

    @functools.wraps(command)
    def wrapper(*args: P.args, **keywords: P.kwargs) -> R:
        try:
            return command(*args, **keywords)
        except KeyboardInterrupt:
            say("interrupted; what was finished is kept, nothing is half-written")
            raise typer.Exit(130) from None
        except Exception as problem:  # the outermost frame: nothing may reach the user as a trace
            if hasattr(problem, "exit_code") or debugging():
                raise
            say(f"error: {explain(problem)}")
            raise typer.Exit(1) from None

    return wrapper


def explain(problem: Exception) -> str:
    """One line for any error: what is wrong and what to do."""
    text = " ".join(str(problem).split()) or type(problem).__name__
    if isinstance(problem, SpinectError):
        return text
    if isinstance(problem, OSError) and problem.errno == errno.ENOSPC:
        return f"the disk is full ({text}): free some space or choose another output folder"
    if isinstance(problem, OSError):
        return f"{text}: check the path and its permissions"
    if isinstance(problem, MemoryError):
        return "out of memory: lower --max-memory, or crop the image"
    if isinstance(problem, ModuleNotFoundError):
        return f"{text}: install the extra that brings it, such as pip install 'spinect[train]'"
    kind = type(problem).__name__
    return f"unexpected {kind}: {text}; run again as spinect {DEBUG} ... and report it"


def print_json(data: Any) -> None:
    """Machine-readable output on stdout."""
    import json

    typer.echo(json.dumps(data, indent=2, ensure_ascii=False))
