"""benchmarks/against_reference.py without the code that it compares with."""

import sys

import pytest
import torch

CODE = """
import pytorch_lightning as pl
import torch, torchvision, losses
from ema_pytorch import EMA
from einops import rearrange
from pytorch_lightning.loggers import TensorBoardLogger
from tqdm import tqdm
import utils.arguments as arguments
from utils.Wrapper_datasets import Batch_Dict


class Diffusion(pl.LightningModule):
    def __init__(self, opt: arguments.Diffusion_Option):
        super().__init__()
        self.generator = torch.nn.Linear(opt.channels, 2)
        self.ema = EMA(self.generator, beta=0.9)

    def preview(self, batch: Batch_Dict):
        TensorBoardLogger(torchvision, losses)

    def forward_ddim(self, batch_size, intermediate, eta, x_conditional, progressbar):
        x = [torch.randn([1, 1, 2], device=self.device)]
        for _ in tqdm(intermediate, total=4):
            x.append(torch.randn_like(x[0]) + x_conditional)
        wide = rearrange(torch.ones(1, 2), "b c -> b c 1 1 1")
        assert wide.shape == (1, 2, 1, 1, 1)
        return (torch.stack(x) + 1) / 2, []
"""


@pytest.fixture(scope="module")
def scripts(benchmark_script):
    return [benchmark_script(n) for n in ("reference_code", "against_reference")]


def test_stand_ins_serve_the_import_and_vanish(scripts, tmp_path, monkeypatch):
    """The sampler gets our noise in order: the start, then every step."""
    code, _ = scripts
    monkeypatch.setattr(sys, "path", list(sys.path))
    home = tmp_path / "diffusion3d" / "pl_models" / "diffusion"
    home.mkdir(parents=True)
    (home / "diffusion.py").write_text(CODE)
    before = dict(sys.modules)
    model = code.load(tmp_path, 4)
    new = {name.partition(".")[0] for name in sys.modules.keys() - before.keys()}
    assert new <= {"pl_models"}
    assert all(sys.modules[name] is module for name, module in before.items())
    assert not model.training
    noise = [torch.full((1, 1, 2), float(i)) for i in range(4)]
    answer = code.sample(model, torch.tensor(10.0), noise)
    assert answer[:, 0, 0, 0].tolist() == [0, 11, 12, 13, 10]  # the last step needs no noise
    again = code.load(tmp_path, 4).generator.weight
    assert torch.equal(again, model.generator.weight)


def test_a_folder_without_their_code_is_refused(scripts, tmp_path):
    with pytest.raises(SystemExit, match="give their checkout"):
        scripts[0].load(tmp_path, 4)


def test_axes_turn_there_and_back(scripts):
    """The voxel to the right, front and top lies at the right, feet and back ends of their axes."""
    script = scripts[1]
    image = torch.zeros(1, 2, 3, 4)
    image[0, 1, 2, 3] = 1
    turned = script.rip(image)
    assert turned.shape == (1, 2, 4, 3)
    assert turned[0, 1, 0, 0] == 1
    assert torch.equal(script.ras(turned), image)
