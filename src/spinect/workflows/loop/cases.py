"""The series that a loop works on."""

from dataclasses import dataclass, replace
from pathlib import Path

from spinect.errors import ConfigError, InputError
from spinect.io.bids import parse_name
from spinect.io.participants import patient_splits
from spinect.workflows.loop.config import LoopConfig
from spinect.workflows.names import stem_of
from spinect.workflows.register import Pair, find_pairs, points_beside


@dataclass(frozen=True)
class Case:
    """One MR series.

    Attributes:
        name: Of the series, such as "sub-1_acq-sag_T1w"; no two of a dataset share it.
        contrast: Suffix of the MR. split: Of its patient.
        pair: Its files; landmarks of the MR only where they are seeds.
    """

    name: str
    contrast: str
    split: str
    pair: Pair

    @property
    def visit(self) -> tuple[str, str | None, Path | None]:
        """Series with equal visits lie in one scanner frame and have one CT."""
        return self.pair.participant, parse_name(self.pair.mr.name).get("ses"), self.pair.ct


def find_cases(dataset: Path, config: LoopConfig) -> list[Case]:
    """Every series of the two contrasts, sorted by name.

    Landmarks of targets are not read even where there are some, unless they are seeds too.

    Raises:
        InputError: No dataset folder, a person on two sides of the split, or a patient who is not
            in participants.tsv.
        ConfigError: No seed, or nothing to do.
    """
    splits = patient_splits(dataset)
    cases = []
    for pair in find_pairs(dataset, dataset):  # folders are set when a round registers
        if not pair.mr.is_file():
            continue
        contrast = parse_name(pair.mr.name).suffix
        if contrast not in (config.seeds.contrast, config.targets):
            continue
        if pair.participant not in splits:
            raise InputError(
                f"{dataset / 'participants.tsv'} does not list {pair.participant}: add it with a "
                "split"
            )
        marked = replace(pair, mr_landmarks=_seed_points(pair, contrast, config))
        cases.append(Case(stem_of(pair.mr), contrast, splits[pair.participant], marked))
    if not any(case.pair.mr_landmarks for case in cases):
        raise ConfigError(
            f"{dataset}: no {config.seeds.contrast} has landmarks: mark some (beside the MR as "
            "*_poi.json), or make them with spinect landmarks"
        )
    return sorted(cases, key=lambda case: case.name)


def _seed_points(pair: Pair, contrast: str, config: LoopConfig) -> Path | None:
    if contrast != config.seeds.contrast:
        return None
    if config.seeds.landmarks is None:
        return pair.mr_landmarks
    return points_beside(Path(config.seeds.landmarks) / pair.mr.name)
