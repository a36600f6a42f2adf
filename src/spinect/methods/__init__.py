"""Ways to turn an MR, or a CT, into something; importing the package registers them all."""

from spinect.methods import cut, diffusion, lookup, pix2pix, regression, segmentation, syndiff, wgan

__all__ = ["cut", "diffusion", "lookup", "pix2pix", "regression", "segmentation", "syndiff", "wgan"]
