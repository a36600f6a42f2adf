"""What methods that learn from pairs say to batches that hold none."""

from spinect.errors import ConfigError
from spinect.protocols import Batch


def refuse_unpaired(batch: Batch) -> None:
    """Nothing, or a ConfigError where the batch's CT belongs to other patients than its MR."""
    if batch.target_inside is not None:
        raise ConfigError(
            "MR and CT of a training batch belong to different patients, and this method learns "
            "from pairs: set data.paired to true, or take a method that needs none"
        )
