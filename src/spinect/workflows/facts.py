"""A run in words, for its report."""

from spinect.workflows.options import human_size, human_time
from spinect.workflows.record import RunRecord


def facts(record: RunRecord) -> dict[str, str]:
    """The run in words, for the report."""
    source = record.inputs[0]
    size = " x ".join(map(str, source.shape))
    spacing = " x ".join(f"{s:.3g}" for s in source.spacing)
    shown = ("mode", "steps", "samples", "precision", "segmenter", "lowest", "highest", "sacrum")
    asked = [f"{key} {record.options[key]}" for key in shown if record.options.get(key) is not None]
    told = {
        "input": f"{source.path}: {size} voxels of {spacing} mm, {source.orientation}, "
        f"{source.plane}",
        "input sha256": source.sha256,
        "models": ", ".join(f"{model.name} {model.sha256[:12]}" for model in record.models),
        "options": ", ".join(asked),
        "orientation": _orientation(record),
        "seed": str(record.seed),
        "region": _region(record),
        "averaging": _averaging(record),
        "interval": _interval(record),
        "device": record.device,
        "time": ", ".join(f"{name} {human_time(s)}" for name, s in record.seconds.items()),
        "peak memory": human_size(record.peak_bytes),
        "program": f"spinect {record.version}"
        + (f" ({record.commit[:10]})" if record.commit else ""),
        "made": record.started,
    }
    return {name: text for name, text in told.items() if text}


def _orientation(record: RunRecord) -> str:
    """How the image stands by what was found in it; empty where nothing was shown again."""
    told = record.plausibility
    if told is None or told.seen is None:
        return ""
    texts = {
        "as stored": "head/feet and front/back as the header says, by the image",
        "not determinable": "head/feet and front/back by the header, not determinable by the image",
    }
    seen = ", ".join(f"{turn} {found:.0f}" for turn, found in told.seen.items())
    text = texts.get(told.orientation, f"against the header, by the image: {told.orientation}")
    return f"{text} (mL behind the bodies: {seen}); left/right not determinable"


def _region(record: RunRecord) -> str:
    """What was translated; empty where it was everything, as usual."""
    told = record.region
    if told is None:
        return ""
    if not told.found:
        return f"{told.model} found no {told.asked}: everything was translated"
    x, y, z = told.margin_mm
    return (
        f"only a box around the {told.asked} was translated, {100 * told.share:.0f} % of the image;"
        f" {told.model} found it, with {x:g} mm to the sides, {y:g} mm to front and back, {z:g} mm "
        "to head and feet; the rest says what lies outside the field of view"
    )


def _averaging(record: RunRecord) -> str:
    """What the mean is worth, by theory; empty without draws."""
    drawn = record.sampling
    if drawn is None:
        return ""
    return (
        f"mean of K = {drawn.samples} draws; if they are calibrated, 10 log10(2 / (1 + 1/K)) = "
        f"{drawn.expected_gain_db:.2f} dB more PSNR than one draw"
    )


def _interval(record: RunRecord) -> str:
    drawn = record.sampling
    if drawn is None or drawn.interval_ranks is None:
        return ""
    low, high = drawn.interval_ranks
    return (
        f"draws {low} and {high} of {drawn.samples} in rising order, nominal coverage "
        f"{drawn.nominal_coverage:.2f}"
    )
