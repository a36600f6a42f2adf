"""`spinect register`: pairs of MR and CT, one picture and one verdict each."""

from spinect.workflows.register.many import (
    Summary,
    register_dataset,
    register_files,
    register_many,
)
from spinect.workflows.register.options import RegisterOptions
from spinect.workflows.register.pair import Outcome, register_pair
from spinect.workflows.register.pairs import Pair, find_pairs, points_beside
from spinect.workflows.register.record import RegistrationRecord, read_record

__all__ = [
    "Outcome",
    "Pair",
    "RegisterOptions",
    "RegistrationRecord",
    "Summary",
    "find_pairs",
    "points_beside",
    "read_record",
    "register_dataset",
    "register_files",
    "register_many",
    "register_pair",
]
