"""Where the time of `spinect run` goes on a sagittal series of 20 x 512 x 512; phantom data.

    python benchmarks/profile_run.py [--threads 2] [--functions 0] [--options region=spine]

Seconds of processor time of all threads, as a share of the whole case in one process: a busy
machine makes a run longer, but not its processor time. Loading of the models is not counted. A
nested part counts for itself, except that all that the report does is report. With `--functions 30`
the thirty costliest functions of Python come first; looking at them slows the run.
"""

import argparse
import cProfile
import functools
import os
import pstats
import shlex
import time
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import torch

from common import publish, table
from run_cost import series

# Part -> (module, attribute) of the functions that it is.
PARTS = {
    "network": [("spinect.inference.compute", "TileNetwork._run")],
    "reading": [("spinect.workflows.case", "read"), ("spinect.workflows.record", "sha256_of")],
    "input channels": [("spinect.inference.walk", "prepare")],
    "resampling": [
        (module, "resample")
        for module in (
            "spinect.inference.prepare", "spinect.workflows.shipped", "spinect.segmentation.direct",
        )
    ],
    "blending": [("spinect.inference.walk", "Walk.regress")],
    "mask heads": [("spinect.inference.walk", "reduce_masks")],
    "masks": [("spinect.segmentation.embedded", "segment_heads"),
              ("spinect.workflows.steps", "segment_heads"),
              ("spinect.segmentation.region", "find_instances")],
    "confidence": [("spinect.workflows.steps", "agreement")],
    "writing": [("spinect.workflows.case", "write_result")],
    "report": [("spinect.workflows.case", "write_report")],
}  # fmt: skip
WHOLE = "report"  # nothing inside it counts for another part


class Ledger:
    """Processor seconds of each part; a nested part interrupts the one around it."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = dict.fromkeys([*PARTS, "the rest"], 0.0)
        self._stack = ["the rest"]
        self._since = time.process_time()

    def _charge(self) -> None:
        now = time.process_time()
        self.seconds[self._stack[-1]] += now - self._since
        self._since = now

    def wrap(self, part: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """The same function, its time written down."""

        @functools.wraps(function)
        def timed(*args: Any, **options: Any) -> Any:
            if WHOLE in self._stack:
                return function(*args, **options)
            self._charge()
            self._stack.append(part)
            try:
                return function(*args, **options)
            finally:
                self._charge()
                self._stack.pop()

        return timed

    def start(self) -> None:
        """Forget what happened before."""
        self.seconds = dict.fromkeys(self.seconds, 0.0)
        self._since = time.process_time()

    def close(self) -> None:
        """Charge what is still open."""
        self._charge()


def instrument(ledger: Ledger) -> None:
    """Put the ledger around the functions of PARTS."""
    for part, places in PARTS.items():
        for module, attribute in places:
            *parents, name = attribute.split(".")
            home: Any = import_module(module)
            for parent in parents:
                home = getattr(home, parent)
            setattr(home, name, ledger.wrap(part, getattr(home, name)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("runs/run_cost"))
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--functions", type=int, default=0, metavar="N")
    parser.add_argument("--sort", default="tottime", choices=("tottime", "cumtime"))
    parser.add_argument("--options", default="", help="further options of RunOptions: region=spine")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(args.threads)
    from spinect.workflows.case import run_case
    from spinect.workflows.options import RunOptions
    from spinect.workflows.planning import plan
    from spinect.workflows.shipped import load_engine

    asked = dict(pair.split("=", 1) for pair in shlex.split(args.options))
    options = RunOptions.checked(**asked, overwrite=True, device="cpu")
    scan = series(args.out, "lumbar")
    case = plan([scan], args.out / "profile", options).cases[0]
    engine, ledger = load_engine(options), Ledger()
    instrument(ledger)
    profile = cProfile.Profile(time.process_time)
    ledger.start()
    began = time.perf_counter()
    if args.functions:
        profile.enable()
    outcome = run_case(case, engine)
    profile.disable()
    ledger.close()
    wall = time.perf_counter() - began
    assert outcome.record is not None
    whole = sum(ledger.seconds.values())
    rows = [(k, v, f"{100 * v / whole:.1f} %") for k, v in ledger.seconds.items() if v]
    network = ledger.seconds["network"]
    body = f"20 x 512 x 512, {args.threads} threads, {os.cpu_count()} cores"
    body += f", options {args.options}" * bool(args.options) + ".\n\n"
    body += table(["part", "processor s", "share"], rows)
    body += (
        f"\n\nAll but the network takes {(whole - network) / network:.2f} of the network's time; "
    )
    body += f"{whole:.1f} s of processor time, {wall:.1f} s on the wall.\n\n"
    stages = outcome.record.seconds.items()
    body += "Seconds on the wall by stage: " + ", ".join(f"{k} {v:.1f}" for k, v in stages) + "."
    if args.functions:
        pstats.Stats(profile).sort_stats(args.sort).print_stats(args.functions)
    publish("profile_run" + "_region" * ("region" in args.options), "Profile of one run", body)


if __name__ == "__main__":
    main()
