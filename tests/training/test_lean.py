"""Bundles hold what makes the CT, not what only training needs."""

import torch

from spinect.bundle import load_bundle
from spinect.methods.translate import translate
from spinect.training.build import make_method
from spinect.training.bundling import export
from spinect.training.config import parse_config
from spinect.training.folder import RunFolder


def test_the_exported_bundle_is_lean_and_draws_alike(tmp_path):
    """No critics and no way back; the averaged weights, which differ from the last ones."""
    config = parse_config({
        "name": "tiny",
        "method": {
            "name": "syndiff",
            "generator": {"width": 8, "multiples": [1, 1], "blocks": 1},
            "translator": {"width": 4, "blocks": 1},
            "noise_critic": {"width": 4, "halvings": 2},
            "patch_critic": {"width": 4},
        },
        "data": {"source": "phantom", "subjects": 1, "patch": [16, 16]},
        "trainer": {"max_steps": 1},
        "export": {"modes": ["sample", "mc"], "dtype": "float32",
                   "preprocessing": {"tile": [1, 16, 16]}},
    })  # fmt: skip
    folder = RunFolder(tmp_path / "run")
    folder.open(config)
    method = make_method(config).eval()
    average = {k: v + 0.05 for k, v in method.state_dict().items() if v.is_floating_point()}
    state = {"updates": 1, "minutes": 0.0, "method": method.state_dict()}
    folder.save(state | {"ema": {"average": average}})
    card = export(tmp_path / "run", tmp_path / "bundle")
    assert card.config["inference_only"] is True
    made = load_bundle(tmp_path / "bundle").method
    assert {key.split(".")[1] for key in made.state_dict()} == {"ct"}
    method.load_state_dict(average | {"updates": method.updates})
    drawn = []
    for one in (method, made):
        torch.manual_seed(0)
        drawn.append(translate(one, torch.zeros(1, 1, 16, 16), mode="sample"))
    assert torch.equal(*drawn)
