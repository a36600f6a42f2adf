"""The series that a validation measures, and the proof that none of them is trained on."""

import logging
from pathlib import Path

from spinect.card import file_sha256
from spinect.data.series import Series, find_series
from spinect.data.stream import FIRST_TEST_SEED
from spinect.errors import ConfigError
from spinect.io.bids import find_patients
from spinect.io.participants import patient_splits, read_rows
from spinect.training.config import DatasetData, RunConfig
from spinect.training.parse import resolve_path

LOG = logging.getLogger(__name__)


def find_validation(config: RunConfig) -> list[tuple[str, Series]]:
    """(participant, series) of the config's validation, sorted by name.

    Raises:
        ConfigError: No folder, no participant of the split, or one that is trained on.
        InputError: A file is missing, or there is no usable participants.tsv.
    """
    settings, data = config.validation, config.data
    assert settings is not None
    own = data.folder if isinstance(data, DatasetData) else None
    where = settings.folder or own
    if where is None:
        raise ConfigError(
            f"validation.folder is missing: training data of source {data.source} have no "
            "dataset folder of their own; name one, such as `spinect phantom FOLDER` writes"
        )
    folder = resolve_path(where)
    splits = patient_splits(folder)
    names = sorted(name for name, split in splits.items() if split == settings.split)
    if not names:
        known = ", ".join(sorted(set(splits.values()))) or "none"
        raise ConfigError(f"{folder}: no participant of split {settings.split!r}; it has {known}")
    names = names[: settings.subjects]
    _refuse_trained_seeds(config, folder, names)
    if isinstance(data, DatasetData):
        _refuse_trained_patients(config, data, folder, names)
    contrast = settings.contrast or data.contrast or "T2w"
    if data.direction == "ct_to_mr" and contrast != data.contrast:
        raise ConfigError(
            f"validation.contrast is {contrast}, but what is learnt makes {data.contrast} of a CT: "
            "leave validation.contrast out"
        )
    pose = data.pose if isinstance(data, DatasetData) else "auto"
    series = find_series(folder, names, contrast, pose)
    found = sorted(((one.mr.name.split("_")[0], one) for one in series),
                   key=lambda pair: pair[1].name)  # fmt: skip
    LOG.info("validation on %d series of %d participants of %s", len(found), len(names), folder)
    return found


def _refuse_trained_seeds(config: RunConfig, folder: Path, names: list[str]) -> None:
    """Phantoms that a training without a dataset folder may draw."""
    if isinstance(config.data, DatasetData):
        return
    for row in read_rows(folder / "participants.tsv", ("participant_id",)):
        seed = row.get("seed", "")
        if row["participant_id"] in names and seed.isdigit() and int(seed) < FIRST_TEST_SEED:
            raise ConfigError(
                f"{folder}: {row['participant_id']} has seed {seed}: phantoms below "
                f"{FIRST_TEST_SEED} are for training, validation on them would tell nothing; "
                "use seeds from 2000000 on"
            )


def _refuse_trained_patients(
    config: RunConfig, data: DatasetData, folder: Path, names: list[str]
) -> None:
    """The split that is trained on, one of its phantoms, or one of its MR files under any name."""
    settings, home = config.validation, resolve_path(data.folder)
    assert settings is not None
    if folder.resolve() == home.resolve() and settings.split == data.split:
        raise ConfigError(
            f"validation.split {data.split!r} is the one that is trained on: {names[0]} would be "
            "trained on and measured; name another split"
        )
    trained = {name for name, split in patient_splits(home).items() if split == data.split}
    shared = _seeds(home, trained).keys() & _seeds(folder, set(names)).keys()
    if shared:
        seed = min(shared)
        mine, other = _seeds(folder, set(names))[seed], _seeds(home, trained)[seed]
        raise ConfigError(
            f"{folder}: {mine} is the phantom of seed {seed}, as is {other} in the training "
            f"split of {home}: validate on others"
        )
    _refuse_same_files(_mr_files(home, trained), _mr_files(folder, set(names)))


def _refuse_same_files(trained: list[Path], measured: list[Path]) -> None:
    sizes: dict[int, list[Path]] = {}
    for path in trained:
        sizes.setdefault(path.stat().st_size, []).append(path)
    for path in measured:
        alike = sizes.get(path.stat().st_size, [])  # only these are worth hashing
        for other in alike:
            if file_sha256(other) == file_sha256(path):
                raise ConfigError(
                    f"{path} and {other} are the same image, and the second one is trained on: "
                    "take its patient out of one of the splits"
                )


def _seeds(folder: Path, names: set[str]) -> dict[str, str]:
    """Phantom seed -> participant."""
    rows = read_rows(folder / "participants.tsv", ("participant_id",))
    return {r["seed"]: r["participant_id"] for r in rows
            if r["participant_id"] in names and r.get("seed", "").isdigit()}  # fmt: skip


def _mr_files(folder: Path, names: set[str]) -> list[Path]:
    return [item.path for patient in find_patients(folder) if patient.name in names
            for item in patient.images("anat")]  # fmt: skip
