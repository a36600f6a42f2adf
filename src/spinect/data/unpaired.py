"""Unpaired batches: the MR of some patients and the CT of others, in either direction.

Patients are split into two halves for good: those of one half are seen by MR alone, those of the
other by CT alone. Two independent draws from all patients would now and then meet in one patient,
and over a run the network would see both images of everybody, which is a paired set, shuffled. So
each image is learnt from half of the patients; that is what unpaired data cost.
"""

from collections.abc import Iterable
from typing import Literal

from torch.utils.data import Dataset

from spinect.errors import ConfigError
from spinect.protocols import Batch

Half = Literal["mr", "ct"]  # which image of its patients is learnt from


def half_of(groups: Iterable[Iterable[str]], half: Half) -> frozenset[str]:
    """Patients of one half; the same ones in every run on the same patients.

    Patients are taken in order of their names, each into the half that has fewer of its group, or
    else fewer of all; the MR's is filled first. So in each group the halves differ by one patient
    at most, unless patients stand in several groups.

    Args:
        groups: Patients by where they come from, such as the pools of a stream.
        half: Which half.
    Raises:
        ConfigError: Fewer than two patients.
    """
    sides: dict[str, Half] = {}
    for group in map(set, groups):
        for name in sorted(group - sides.keys()):
            own = [sides[other] for other in group if other in sides]
            everybody = list(sides.values())
            surplus = (own.count("mr") - own.count("ct"),
                       everybody.count("mr") - everybody.count("ct"))  # fmt: skip
            sides[name] = "ct" if surplus > (0, 0) else "mr"
    if len(sides) < 2:
        raise ConfigError(
            f"unpaired data need the MR of one patient and the CT of another, found {len(sides)}: "
            "add patients, or set data.paired to true"
        )
    return frozenset(name for name, side in sides.items() if side == half)


class UnpairedBatches(Dataset[Batch]):
    """What one stream's items show beside what another's teach, and nothing else that they know.

    Args:
        shown: Paired items that condition and inside are taken from.
        taught: Paired items of other patients, drawn with a seed of their own, as many and of the
            same shapes; target and target_inside (their inside) are taken from them.
    """

    def __init__(self, shown: "Dataset[Batch]", taught: "Dataset[Batch]") -> None:
        self.shown, self.taught = shown, taught

    def __len__(self) -> int:
        return len(self.shown)  # type: ignore[arg-type]

    def __getitem__(self, index: int) -> Batch:
        shown, taught = self.shown[index], self.taught[index]
        return Batch(
            condition=shown.condition,
            inside=shown.inside,
            target=taught.target,
            target_inside=taught.inside,
        )
