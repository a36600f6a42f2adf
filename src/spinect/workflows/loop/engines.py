"""What does the work of a loop outside of tests: training, the trained model, a segmenter."""

from functools import lru_cache
from pathlib import Path

from spinect.bundle import Bundle, load_bundle
from spinect.errors import ConfigError, TrainingError
from spinect.geometry import Volume
from spinect.training import RunConfig, export, train
from spinect.training.config import DatasetData
from spinect.training.folder import RunFolder
from spinect.workflows.loop.cases import Case
from spinect.workflows.loop.config import LoopConfig
from spinect.workflows.loop.steps import Models
from spinect.workflows.steps import SegmentOptions
from spinect.workflows.steps import segment as segment_ct
from spinect.workflows.steps import translate as run_translation


def make_models(config: LoopConfig, training: RunConfig) -> Models:
    """The real ones.

    Raises:
        ConfigError: The training config does not train a translator from a dataset folder.
    """
    return Models(ConfiguredTrainer(training), translate, ConfiguredSegmenter(config))


def training_split(training: RunConfig) -> str:
    """The split that a training config reads.

    Raises:
        ConfigError: It reads no dataset folder, or trains no translator.
    """
    data = training.data
    if not isinstance(data, DatasetData) or data.task != "translate":
        raise ConfigError(
            f"training config {training.name}: a loop trains a translator from a dataset folder: "
            "set data.source to dataset and data.task to translate"
        )
    return data.split


class ConfiguredTrainer:
    """Trains by a config; folder, contrast and pose are the loop's."""

    def __init__(self, training: RunConfig):
        training_split(training)
        self.training = training

    def __call__(self, dataset: Path, contrast: str, folder: Path) -> Path:
        """Train or go on, then export a bundle.

        Raises:
            TrainingError: Training ended before its time, by its piece_minutes.
            KeyboardInterrupt, SystemExit: As `train`; after the checkpoint.
        """
        data = self.training.data.model_copy(
            update={"folder": str(dataset), "contrast": contrast, "pose": "registered"}
        )
        config = self.training.model_copy(update={"data": data})
        run = train(config, folder / "run")
        state = RunFolder(run).load() or {"updates": 0, "minutes": 0.0}
        settings = config.trainer
        by_steps = settings.max_steps is not None and state["updates"] >= settings.max_steps
        by_clock = settings.max_minutes is not None and state["minutes"] >= settings.max_minutes
        if not (by_steps or by_clock):
            raise TrainingError(
                f"{run}: training stopped at update {state['updates']}, before its end "
                f"(trainer.piece_minutes {settings.piece_minutes}): start the loop again and it "
                "goes on"
            )
        export(run, folder / "model")
        return folder / "model"


@lru_cache(maxsize=1)
def _loaded(model: Path) -> Bundle:
    return load_bundle(model)


def translate(case: Case, mr: Volume, model: Path) -> Volume:
    """The model's CT, one call per tile."""
    del case
    return run_translation(mr, _loaded(model)).ct


class ConfiguredSegmenter:
    """Segments as `spinect segment` does; levels are guessed, the CT's landmarks correct them."""

    def __init__(self, config: LoopConfig):
        self.segmenter = config.segmenter
        self.options = SegmentOptions(scheme=config.scheme)

    def __call__(self, case: Case, ct: Volume) -> tuple[Volume, Volume]:
        """Vertebrae and subregions at 1 mm."""
        del case
        made = segment_ct(ct, self.segmenter, options=self.options)
        return made.vertebrae, made.subregions
