"""Batches that hold what no network can learn from."""

from collections.abc import Sequence
from dataclasses import fields

from spinect.errors import TrainingError
from spinect.protocols import Batch

_MAY_BE_NAN = ("offset",)  # where there is no vertebra


def refuse_broken_batches(batches: Sequence[Batch], update: int) -> None:
    """Say so where it is the data, not the training, that is not finite.

    Raises:
        TrainingError: A tensor of a micro-batch holds NaN or infinity.
    """
    found = []
    for micro, batch in enumerate(batches):
        for field in fields(batch):
            value = getattr(batch, field.name)
            if value is None or not value.is_floating_point() or field.name in _MAY_BE_NAN:
                continue
            bad = int((~value.isfinite()).sum())
            if bad:
                found.append(
                    f"{bad} of {value.numel()} values of {field.name} in micro-batch {micro}"
                )
    if found:
        raise TrainingError(
            f"update {update}: the batch itself is not finite: {'; '.join(found)}. An image of "
            "the training data holds NaN or infinity: `spinect check` says which; the last "
            "checkpoint is kept"
        )
