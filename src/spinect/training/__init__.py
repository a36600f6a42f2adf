"""Training: a config and a run folder in, a bundle out."""

from spinect.training.bundling import check_checkpoint, export
from spinect.training.config import RunConfig, load_config
from spinect.training.run import train

__all__ = ["RunConfig", "check_checkpoint", "export", "load_config", "train"]
