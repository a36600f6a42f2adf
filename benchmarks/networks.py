"""Speed and size of the networks: training and inference on this machine.

    python benchmarks/networks.py [--threads 2] [--repeats 5] [--shapes narrow wide]

Per shape: parameters, seconds per 96^3 patch (forward, losses, backward, AdamW) and the
convolutions' GFLOP/s in it, megavoxels per second of inference. bf16 autocast, channels last,
random input. The least of the repeats is printed: other programs only ever add to it. On a busy
machine the processor seconds, summed over the threads, say more than those on the wall.
"""

import argparse
import time
from collections.abc import Callable

import torch
from torch.utils.flop_counter import FlopCounterMode

from common import publish, table
from spinect.anatomy import CLASSES
from spinect.methods.registry import build
from spinect.protocols import Batch

SIZE = 96  # voxels per axis of a patch
SHAPES: dict[str, dict[str, tuple[int, ...]]] = {
    "narrow": {"channels": (32, 64, 128, 192)},
    "middle": {"channels": (48, 80, 128, 192), "blocks": (1, 1, 2, 1)},
    "wide": {"channels": (64, 96, 128, 160)},
    "deep": {"channels": (64, 96, 128, 160), "blocks": (2, 2, 2, 1), "decoder_blocks": (2, 1, 1)},
}


def patch(channels: int) -> Batch:
    """One patch of noise with everything that a batch may know."""
    generator = torch.Generator().manual_seed(0)

    def draw(count: int) -> torch.Tensor:
        return torch.rand(1, count, SIZE, SIZE, SIZE, generator=generator)

    return Batch(
        condition=draw(channels).to(memory_format=torch.channels_last_3d),
        inside=torch.ones(1, 1, SIZE, SIZE, SIZE),
        target=2 * draw(1) - 1,
        near_bone=(draw(1) > 0.5).float(),
        classes=(draw(1)[:, 0] * len(CLASSES)).to(torch.uint8),
        centre=draw(1) ** 8,
        offset=torch.where(draw(1) > 0.8, draw(3), torch.nan),
    )


def least_seconds(run: Callable[[], None], repeats: int) -> tuple[float, float]:
    """Wall and processor seconds, each the least of `repeats` runs, after one to warm up."""
    run()
    wall, processor = [], []
    for _ in range(repeats):
        began, spent = time.perf_counter(), time.process_time()
        run()
        wall.append(time.perf_counter() - began)
        processor.append(time.process_time() - spent)
    return min(wall), min(processor)


def measure(name: str, network: dict[str, tuple[int, ...]], repeats: int) -> dict[str, object]:
    """One row of the table for one method and network shape."""
    method = build(name, {"network": network})
    assert isinstance(method, torch.nn.Module)
    batch = patch(method.in_channels)
    optimiser = torch.optim.AdamW(method.parameters(), 1e-3, fused=True)

    def train() -> None:
        for _, loss in method.losses(batch):
            loss.backward()
        optimiser.step()
        optimiser.zero_grad()

    def infer() -> None:
        with torch.no_grad():
            method.predict(batch.condition)

    with torch.autocast("cpu", torch.bfloat16):
        method.train()
        with FlopCounterMode(display=False) as training:
            train()
        train_seconds, train_cpu = least_seconds(train, repeats)
        method.eval()
        with FlopCounterMode(display=False) as inference:
            infer()
        infer_seconds, infer_cpu = least_seconds(infer, repeats)
    return {
        "method": name,
        "channels": list(network["channels"]),
        "parameters_m": round(sum(p.numel() for p in method.parameters()) / 1e6, 2),
        "reach_vox": method.network.reach,
        "train_s": round(train_seconds, 3),
        "train_cpu_s": round(train_cpu, 3),
        "train_gflops": round(training.get_total_flops() / train_seconds / 1e9),
        "infer_mvox_s": round(SIZE**3 / infer_seconds / 1e6, 2),
        "infer_cpu_s": round(infer_cpu, 3),
        "infer_gflops": round(inference.get_total_flops() / infer_seconds / 1e9),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--shapes", nargs="*", default=list(SHAPES), choices=SHAPES)
    parser.add_argument("--methods", nargs="*", default=["regression", "segmentation"])
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    rows = [
        {"shape": shape, **measure(name, SHAPES[shape], arguments.repeats)}
        for name in arguments.methods
        for shape in arguments.shapes
    ]
    body = f"{arguments.threads} threads.\n\n" + table(list(rows[0]), [[*r.values()] for r in rows])
    publish("networks", "Speed and size of the networks", body)


if __name__ == "__main__":
    main()
