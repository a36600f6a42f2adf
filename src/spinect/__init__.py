"""spinect: spine MR to synthetic CT in Hounsfield units and vertebra masks.

What `spinect run` does, in five lines of Python (torch is imported with `translate`):

>>> from spinect import read, segment, to_native, translate, write
>>> mr = read("sub-1_T2w.nii.gz")
>>> translation = translate(mr)  # synthetic CT and mask heads at 1 mm
>>> masks = segment(translation)  # vertebrae, subregions and their table at 1 mm
>>> write(to_native(translation, mr)[0], "sub-1_ct.nii.gz").name  # on the MR's own grid
'sub-1_ct.nii.gz'

Not a medical device. Not for diagnosis.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

# Public name -> where it lives. Imported on first use, so that `import spinect` costs nothing.
_HOMES = {
    "Bundle": "spinect.bundle",
    "Grid": "spinect.geometry",
    "RunOptions": "spinect.workflows.options",
    "RunRecord": "spinect.workflows.record",
    "SegmentOptions": "spinect.workflows.steps",
    "Segmentation": "spinect.segmentation",
    "SpinectError": "spinect.errors",
    "SpinectWarning": "spinect.errors",
    "Translation": "spinect.inference",
    "Volume": "spinect.geometry",
    "list_bundles": "spinect.card",
    "load_bundle": "spinect.bundle",
    "read": "spinect.io",
    "resample": "spinect.geometry.resample",
    "run_files": "spinect.workflows.run",
    "segment": "spinect.workflows.steps",
    "to_iso": "spinect.geometry.resample",
    "to_native": "spinect.inference",
    "translate": "spinect.workflows.steps",
    "write": "spinect.workflows.steps",
}

if TYPE_CHECKING:
    from spinect.bundle import Bundle as Bundle
    from spinect.bundle import load_bundle as load_bundle
    from spinect.card import list_bundles as list_bundles
    from spinect.errors import SpinectError as SpinectError
    from spinect.errors import SpinectWarning as SpinectWarning
    from spinect.geometry import Grid as Grid
    from spinect.geometry import Volume as Volume
    from spinect.geometry.resample import resample as resample
    from spinect.geometry.resample import to_iso as to_iso
    from spinect.inference import Translation as Translation
    from spinect.inference import to_native as to_native
    from spinect.io import read as read
    from spinect.segmentation import Segmentation as Segmentation
    from spinect.workflows.options import RunOptions as RunOptions
    from spinect.workflows.record import RunRecord as RunRecord
    from spinect.workflows.run import run_files as run_files
    from spinect.workflows.steps import SegmentOptions as SegmentOptions
    from spinect.workflows.steps import segment as segment
    from spinect.workflows.steps import translate as translate
    from spinect.workflows.steps import write as write

__all__ = ["__version__", *sorted(_HOMES)]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'spinect' has no attribute {name!r}")
    value = getattr(import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return list(__all__)
