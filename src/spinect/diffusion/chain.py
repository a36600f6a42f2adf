"""A short chain of large denoising steps, whose every step is learnt by itself.

In the package's convention, x_k = x0 + sigma_k * noise with 0 = sigma_0 < ... < sigma_T. DDPM's
scaling of the same chain is x_k / sqrt(1 + sigma_k**2); step k leads from x_{k+1} to x_k.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from spinect.errors import ConfigError

_CLOSE = 1e-3  # relative: how far a noise level may lie from one of the chain


@dataclass(frozen=True)
class Chain:
    """Draws from a chain's process, for images (B, C, *S) and steps (B,) of each of them.

    Attributes:
        levels: (T,) rising noise levels sigma_1 ... sigma_T, float64.
    """

    levels: Tensor

    def draw_steps(self, count: int, device: torch.device) -> Tensor:
        """(count,) steps, each equally likely, from torch's global generator."""
        return torch.randint(len(self.levels), (count,), device=device)

    def pair(self, x0: Tensor, step: Tensor) -> tuple[Tensor, Tensor]:
        """x_k and x_{k+1} of one run of the process; q(x_{k+1} | x_k) adds the noise between."""
        less, more = self._around(x0, step)
        x = x0 + less * torch.randn_like(x0)
        return x, x + (more**2 - less**2).sqrt() * torch.randn_like(x0)

    def posterior(self, x0: Tensor, noisier: Tensor, step: Tensor) -> Tensor:
        """x_k ~ q(x_k | x_{k+1}, x0); step 0 gives x0 itself.

        Source: DDPM, arXiv 2006.11239, eq. 6 and 7, in this convention.
        """
        less, more = self._around(x0, step)
        kept = (less / more) ** 2
        return x0 + kept * (noisier - x0) + less * (1 - kept).sqrt() * torch.randn_like(x0)

    def scaled(self, x: Tensor, step: Tensor) -> Tensor:
        """x_k as DDPM scales it, with variance 1 for images of variance 1; `step` is k, 0 to T."""
        return x * (1 + self._at(step, x) ** 2).rsqrt()

    def step_of(self, sigma: Tensor) -> Tensor:
        """The step that starts from a noise level; () or (B,), int64.

        Raises:
            ConfigError: The level is none of the chain's.
        """
        levels = self.levels.to(sigma)
        apart = (levels / sigma[..., None] - 1).abs()
        nearest, step = apart.min(dim=-1)
        if not sigma.is_meta and bool((nearest > _CLOSE).any()):  # shapes alone are on "meta"
            known = ", ".join(f"{level:.4g}" for level in self.levels.tolist())
            raise ConfigError(
                f"a noise level of {float(sigma.max()):.4g} is not on this chain, whose levels are "
                f"{known}: a network that learnt these steps knows no others"
            )
        return step

    def _around(self, x: Tensor, step: Tensor) -> tuple[Tensor, Tensor]:
        return self._at(step, x), self._at(step + 1, x)

    def _at(self, index: Tensor, x: Tensor) -> Tensor:
        """sigma_k for k in 0 ... T, of the rank of x."""
        levels = torch.cat([self.levels.new_zeros(1), self.levels]).to(x)
        return levels[index].reshape(-1, *[1] * (x.ndim - 1))
