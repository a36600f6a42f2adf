"""Every error that spinect raises on purpose.

::

    SpinectError                what is wrong, the value found, and what to do; one line
    +-- InputError              a file or array that cannot be used as asked
    |   +-- ImageError          not an image, not 3D, constant, NaN, RGB, wrong modality
    |   +-- GeometryError       singular or sheared affine, bad spacing, grids that disagree
    |   +-- LandmarkError       missing, duplicate, collinear or mirrored landmarks
    |   +-- LabelError          labels that no scheme explains
    +-- ConfigError             a config, field or option that does not fit
    +-- BundleError             unknown model, wrong hash, missing tensor, unsupported mode
    +-- TrainingError           a training that diverged, or a run folder of another network
    +-- OutputError             unwritable or existing output, disk full, name clash
    +-- ResourceError           too little memory, time or disk for the smallest unit of work
    +-- ExternalToolError       a foreign segmenter failed or answered nonsense

Exit codes of the command line: 0 done, 1 one of these errors, 2 wrong usage, 3 some of several
cases failed, 130 interrupted by Ctrl-C, 143 ended by SIGTERM (training leaves a checkpoint first).
"""


class SpinectError(Exception):
    """Base of all errors that spinect raises on purpose."""


class InputError(SpinectError):
    """A file or array that cannot be used as asked."""


class ImageError(InputError):
    """Not an image, not three-dimensional, constant, not finite, RGB, or of the wrong modality."""


class GeometryError(InputError):
    """A singular or sheared affine, a spacing out of range, or grids that disagree."""


class LandmarkError(InputError):
    """Landmarks that are missing, duplicate, collinear or mirrored."""


class LabelError(InputError):
    """Labels that no known scheme explains."""


class ConfigError(SpinectError):
    """A config, field or option that does not fit."""


class BundleError(SpinectError):
    """An unknown model, a wrong hash, a missing tensor, or a mode the model does not offer."""


class TrainingError(SpinectError):
    """A training that diverged, or a run folder that belongs to another network."""


class OutputError(SpinectError):
    """An output that cannot be written: no permission, disk full, it exists, a name clash."""


class ResourceError(SpinectError):
    """Too little memory, time or disk for the smallest unit of work."""


class ExternalToolError(SpinectError):
    """A foreign program failed or answered something that cannot be used."""


class SpinectWarning(UserWarning):
    """Something was mended or guessed; the text is also recorded in the run's sidecar."""
