"""What every method shares that answers in one call, without noise."""

from typing import ClassVar, Final, NoReturn

from torch import Tensor, nn

from spinect.errors import BundleError
from spinect.protocols import Denoise, Mode, Randn

_REFUSED: Final = (
    'this method answers in one call and offers the mode "regress" only; '
    'for "sample" or "mc" take a bundle whose method is "diffusion"'
)


class OneCall(nn.Module):
    """Offers "regress" and refuses to sample."""

    modes: tuple[Mode, ...] = ("regress",)
    offers: ClassVar[tuple[Mode, ...]] = ("regress",)

    def denoise(self, x: Tensor, sigma: Tensor, condition: Tensor) -> NoReturn:  # noqa: ARG002
        """Refused with a BundleError: there is no noise in this method."""
        raise BundleError(_REFUSED)

    def sample(
        self,
        denoise: Denoise,  # noqa: ARG002
        like: Tensor,  # noqa: ARG002
        steps: int | None,  # noqa: ARG002
        randn: Randn,  # noqa: ARG002
    ) -> NoReturn:
        """Refused with a BundleError: there is no noise in this method."""
        raise BundleError(_REFUSED)
