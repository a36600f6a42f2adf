"""Ways to turn an MR, or a CT, into something; importing the package registers them all."""

from spinect.methods import diffusion, lookup, regression, segmentation, syndiff

__all__ = ["diffusion", "lookup", "regression", "segmentation", "syndiff"]
