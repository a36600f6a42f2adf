"""Oracles that stand for the workers of an experiment, and a small experiment for them."""
# ruff: noqa: ARG002 - oracles take what the real workers take

import copy
import hashlib
from collections import Counter

import numpy as np

from spinect.evaluation.tables import Tidy
from spinect.geometry import Volume
from spinect.io import write_json, write_table, write_volume
from spinect.workflows.compare import Tools, parse_experiment
from spinect.workflows.compare.scoring import Values

NETWORK = {"channels": [4, 6], "blocks": [1, 1], "decoder_blocks": [1], "head": 6}
RAW = {
    "name": "tiny",
    "data": {"source": "phantom", "train": 2, "test": 3},
    "budget": {"minutes": 1, "least_updates": 100, "threads": 1},
    "slices": {"patch": [16, 16], "raster": "slices", "spacing_mm": 2.0, "place": "anywhere",
               "rotate_deg": 0, "scale": 0, "elastic_mm": 0},
    "volumes": {"patch": [8, 16, 16], "spacing_mm": 2.0},
    "rows": [
        {"name": "constant", "preset": "one_hu", "baseline": True},
        {"name": "flat", "preset": "flat"},
        {"name": "deep", "preset": "deep"},
        {"name": "flat_0", "preset": "flat", "registration": "0"},
        {"name": "deep_again", "weights_of": "deep", "inference": {"samples": 5}},
    ],
}  # fmt: skip
PRESETS = {
    "one_hu": {"name": "lookup", "bins": 1},
    "flat": {"name": "regression", "ndim": 2, "heads": ["ct"], "network": NETWORK},
    "deep": {"name": "regression", "heads": ["ct"], "network": NETWORK},
}
ERRORS = {"constant": 300.0, "flat": 90.0, "deep": 80.0, "flat_0": 150.0, "deep_again": 70.0}


def write_presets(home):
    """Training configs beside a folder for the experiment, as in configs/."""
    for name, method in PRESETS.items():
        text = {"name": name, "method": method, "data": {"source": "phantom", "subjects": 1},
                "trainer": {"max_steps": 7, "lr": 0.5, "precision": "fp32"}}  # fmt: skip
        write_json(text, home / f"{name}.yaml")  # JSON is YAML
    (home / "experiments").mkdir()
    return home / "experiments"


def experiment(**changes):
    return parse_experiment(copy.deepcopy(RAW) | changes)


class Oracle:
    """Counts what it is asked for; fails, or is killed, where that is planted.

    `updates`: row -> updates of its training. `fails`: rows whose training fails.
    """

    def __init__(self, updates=None, fails=(), killed_at=None, errors=None):
        self.calls = Counter()
        self.updates, self.fails, self.killed_at = updates or {}, fails, killed_at
        self.errors = ERRORS | (errors or {})

    def _count(self, what):
        self.calls[what] += 1
        if self.calls.total() == self.killed_at:
            raise KeyboardInterrupt

    def phantoms(self, source, folder, pause):
        seeds = [*range(source.train), *range(1_000_000, 1_000_000 + source.test)]
        for seed in seeds:
            pause()
            image = Volume(np.full((3, 4, 5), seed, np.float32), np.eye(4), "mr")
            for contrast in source.contrasts:
                name = f"sub-{seed}_{contrast}.nii.gz"
                write_volume(image, folder / f"sub-{seed}" / "anat" / name)
        self._count("phantoms")  # killed with everything half-done
        rows = [{"participant_id": f"sub-{s}", "seed": s, "split": "test" if s > 9 else "train"}
                for s in seeds]  # fmt: skip
        write_table(rows, folder / "participants.tsv")
        return {"train": source.train, "test": source.test}

    def register(self, dataset, contrast, level, errors, view, pause):
        assert (dataset / "participants.tsv").is_file()
        self._count(f"register {level}")
        return {"pairs": 2, "registered": 2, "left_out": {}}

    def train(self, fields, dataset, folder, minutes):
        row = fields["name"].removeprefix("tiny.")
        self._count(f"train {row} {fields['seed']}")
        if row in self.fails:
            raise ValueError("planted")
        count = self.updates.get(row, 100)
        ndim = len(fields["data"]["patch"])
        write_json(fields, folder / "bundle" / "bundle.json")
        return {"updates": count, "minutes": 1.0, "seconds_per_update": 60 / count,
                "sha256": hashlib.sha256(repr(fields).encode()).hexdigest(), "ndim": ndim,
                "method": fields["method"]["name"]}  # fmt: skip

    def translate(self, bundle, scans, use, folder, pause):
        self._count(f"translate {folder.name.rpartition('-')[0]}")
        return {"cases": len(scans), "failed": {}, "makes_ct": True, "seconds_per_case": 1.0}

    def score(self, dataset, results, asked, out, pause):
        self._count("score")
        rows = []
        for method in results:
            row = method.split("_seed-")[0]
            for patient in range(3):
                name = f"sub-{patient}"
                case = f"{name}_{asked.contrast}"
                wanted = (("near_bone", "mae", self.errors[row] + patient),
                          ("vertebra", "dice", 1 - self.errors[row] / 1000))  # fmt: skip
                rows += [Tidy(method, "strict", "iso", name, case, region, "", metric, v)
                         for region, metric, v in wanted]  # fmt: skip
        return Values(tuple(rows))

    @property
    def tools(self):
        return Tools(self.phantoms, self.register, self.train, self.translate, self.score)
