"""Speed, memory and answers beside the public code of Graf et al. 2023, on one volume.

    python benchmarks/against_reference.py --reference CHECKOUT [--repeats 3] [--threads 2]

CHECKOUT is github.com/robert-graf/Readable-Conditional-Denoising-Diffusion. Both sides have the
same random weights (theirs, through `spinect models import --format graf2023`), the same input and
the same noise, and draw with the published sampler: 25 calls of the 3D network.

Time: on a volume that both take whole, sides in turn, seconds on the wall and of the processor; the
latter say more on a busy machine. Memory: the peak of a process of its own that reads the weights
and makes one call, theirs on the whole volume as their `run_model` does, ours through `translate`.
"""

import argparse
import math
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

import reference_code
from common import peak_memory, publish, table
from spinect.bundle import load_bundle
from spinect.geometry import Volume
from spinect.inference import translate
from spinect.inference.compute import Compute, Precision, TileNetwork
from spinect.protocols import Method
from spinect.workflows.import_weights import import_graf2023

THEIRS, OURS = "theirs fp32", "ours fp32"
SIDES: dict[str, Precision | None] = {THEIRS: None, OURS: "fp32", "ours bf16": "bf16"}
AGREES = 1e-4  # of the largest value, fp32 against fp32 after all calls
BARS = {
    THEIRS: "",
    OURS: f"1.1 times; {AGREES:.0e} of the largest value",
    "ours bf16": "6 times; L2 1e-02",
}


@dataclass(frozen=True)
class Case:
    """One volume and its noise on our axes R, A, S; a field for the start and for every step."""

    condition: Tensor  # (1, 4, *S): the MR and ramps that rise along their axes R, I, P
    noise: list[Tensor]  # (1, 1, *S) each

    @classmethod
    def random(cls, size: tuple[int, ...], calls: int) -> "Case":
        generator = torch.Generator().manual_seed(1)
        mr = torch.randn((1, 1, *size), generator=generator).clamp(-1, 1)
        lines = [torch.linspace(0, 1, n) for n in rip(mr).shape[2:]]
        rising = torch.stack(torch.meshgrid(*lines, indexing="ij"))[None]
        noise = [torch.randn((1, 1, *size), generator=generator) for _ in range(calls)]
        return cls(torch.cat([mr, ras(rising)], dim=1), noise)


def rip(image: Tensor) -> Tensor:
    """(..., R, A, S), our axes, to (..., R, I, P), theirs; `ras` is the way back."""
    return image.transpose(-1, -2).flip(-2, -1)


def ras(image: Tensor) -> Tensor:
    """(..., R, I, P) to (..., R, A, S)."""
    return image.flip(-2, -1).transpose(-1, -2)


@dataclass
class Side:
    """One way to draw, what it cost, and its last answer."""

    draw: Callable[[], Tensor]
    wall: list[float] = field(default_factory=list)
    processor: list[float] = field(default_factory=list)
    answer: Tensor = field(default_factory=lambda: torch.empty(0))

    def run(self) -> None:
        wall, processor = time.perf_counter(), time.process_time()
        self.answer = self.draw()
        self.wall.append(time.perf_counter() - wall)
        self.processor.append(time.process_time() - processor)


def their_side(model: Any, case: Case) -> Side:
    """Their loop around their network, on their axes."""
    condition, noise = rip(case.condition), [rip(each).contiguous() for each in case.noise]
    return Side(lambda: ras(reference_code.sample(model, condition, noise)))


def our_side(method: Method, case: Case, precision: Precision) -> Side:
    """Our sampler around the network as the volume driver calls it, the volume one tile.

    What is done once per volume counts: weights packed, the condition's share prepared.
    """
    compute = Compute.choose("cpu", precision)
    whole = [tuple(slice(0, n) for n in case.condition.shape[2:])]

    @torch.inference_mode()
    def draw() -> Tensor:
        network = TileNetwork(method, case.condition[0], compute, keep=2**32)
        noise = iter(case.noise)
        return method.sample(
            lambda x, sigma: network.denoise(x[0], sigma, whole),
            case.noise[0],
            len(case.noise),
            lambda _: next(noise),
        )

    return Side(draw)


def save_weights(model: Any, folder: Path, width: int) -> Path:
    """Their state dict as a bundle of ours."""
    held = {f"generator.{key}": value for key, value in model.generator.state_dict().items()}
    torch.save(held, folder / "weights.pt")
    return import_graf2023(
        folder / "weights.pt", folder / "bundle", sampler="graf2023", width=width
    )


def timed(model: Any, bundle: Path, args: argparse.Namespace) -> dict[str, Side]:
    """All sides in turn, every second round backwards."""
    case, method = Case.random(args.volume, args.calls), load_bundle(bundle).method
    sides = {
        name: their_side(model, case) if how is None else our_side(method, case, how)
        for name, how in SIDES.items()
    }
    order = list(sides.values())
    for _ in range(args.repeats):
        for side in order:
            side.run()
        order.reverse()
    return sides


def time_table(sides: dict[str, Side]) -> str:
    """Seconds, how many times as fast as theirs, and how far from their answer."""
    their = sides[THEIRS]
    rows: list[tuple[object, ...]] = []
    for name, side in sides.items():
        ratios = [
            [t / o for t, o in zip(a, b, strict=True)]
            for a, b in ((their.wall, side.wall), (their.processor, side.processor))
        ]
        off = side.answer - their.answer
        rows.append(
            (
                name,
                spread(side.wall),
                spread(side.processor),
                *(spread(r) for r in ratios),
                f"{off.abs().max() / their.answer.abs().max():.1e}",
                f"{off.norm() / their.answer.norm():.1e}",
                BARS[name],
            )
        )
    header = ("side", "wall s", "processor s", "times as fast, wall", "processor")
    return table((*header, "largest difference / largest value", "relative L2", "bar"), rows)


def spread(values: list[float]) -> str:
    """Median, least and most."""
    return f"{statistics.median(values):.2f} ({min(values):.2f}-{max(values):.2f})"


def one_call(name: str, args: argparse.Namespace) -> None:
    """A process that does nothing but one call on one volume, and prints its peak in bytes."""
    how = SIDES[name]
    generator = torch.Generator().manual_seed(2)
    mr = torch.rand(args.volume, generator=generator) + 0.01
    if how is None:
        model = reference_code.load(args.reference, args.width)
        case = Case.random(args.volume, 1)
        their_side(model, case).run()
    else:
        bundle, volume = load_bundle(args.bundle), Volume(mr.numpy(), np.eye(4), "mr")
        translate(volume, bundle, mode="sample", steps=1, precision=how, device="cpu")
    print(peak_memory())


def memory_table(bundle: Path, args: argparse.Namespace) -> str:
    """Peak of every side on every volume, GiB, and its slope from the first volume to the last."""
    rows: list[tuple[object, ...]] = []
    voxels = [math.prod(size) for size in args.memory]
    for name in SIDES:
        peaks = []
        for size in args.memory:
            words = [sys.executable, __file__, "--reference", str(args.reference), "--one-call"]
            words += [name, "--bundle", str(bundle), "--volume", "x".join(map(str, size))]
            words += ["--threads", str(args.threads), "--width", str(args.width)]
            done = subprocess.run(words, check=True, capture_output=True, text=True)
            peaks.append(int(done.stdout))
        slope = (peaks[-1] - peaks[0]) / (voxels[-1] - voxels[0]) if len(peaks) > 1 else math.nan
        rows.append((name, *(f"{peak / 2**30:.2f}" for peak in peaks), f"{slope:.0f}"))
    sizes = ["x".join(map(str, size)) for size in args.memory]
    return table(("side, peak GiB", *sizes, "bytes per voxel"), rows)


def size(text: str) -> tuple[int, ...]:
    """ "16x64x64" -> voxels along R, A, S."""
    return tuple(int(n) for n in text.split("x"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--reference", type=Path, required=True, help="checkout of their code")
    parser.add_argument("--volume", type=size, default=(16, 64, 64), help="voxels, for the time")
    parser.add_argument("--memory", type=size, nargs="*", help="volumes for the memory",
                        default=[(32, 128, 128), (64, 128, 128), (96, 128, 128)])  # fmt: skip
    parser.add_argument("--calls", type=int, default=25)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--width", type=int, default=64, help="features of the finest level")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--dry", action="store_true", help="print only, keep no result")
    parser.add_argument("--one-call", choices=SIDES, help=argparse.SUPPRESS)
    parser.add_argument("--bundle", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    if args.one_call:
        one_call(args.one_call, args)
        return
    with tempfile.TemporaryDirectory() as folder:
        model = reference_code.load(args.reference, args.width)
        bundle = save_weights(model, Path(folder), args.width)
        sides = timed(model, bundle, args)
        body = f"{'x'.join(map(str, args.volume))} voxels, {args.calls} calls, {args.threads} "
        body += f"threads, {args.width} features; median (least-most) of {args.repeats} runs:\n\n"
        body += time_table(sides)
        if args.memory:
            body += "\n\nOne call:\n\n" + memory_table(bundle, args)
    title = "Beside the public code of Graf et al. 2023"
    publish("against_reference", title, body, keep=not args.dry)
    off = (sides[OURS].answer - sides[THEIRS].answer).abs().max()
    if off > AGREES * sides[THEIRS].answer.abs().max():
        raise SystemExit(f"fp32 answers differ by {off:.1e}: more than {AGREES} of the largest")


if __name__ == "__main__":
    main()
