"""Training: a config and a run folder in, a bundle out."""

from spinect.training.config import RunConfig, load_config
from spinect.training.run import export, train

__all__ = ["RunConfig", "export", "load_config", "train"]
