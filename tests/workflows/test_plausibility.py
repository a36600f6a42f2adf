"""What a reader is warned of, and what stays in the record."""

import json

import numpy as np
import pytest

from spinect.geometry import Volume
from spinect.segmentation.result import Segmentation
from spinect.workflows.plausibility import (
    LEAD,
    LEAST_ML,
    LIMITS,
    Evidence,
    by_the_masks,
    implausible,
    judge,
    measure,
    orientation,
)
from spinect.workflows.record import PlausibilityRecord

GOOD = {
    "vertebrae": 5,
    "agreement": 0.95,
    "mirror": 0.93,
    "gamma": 0.97,
    "doubt": 0.08,
    "body_ml_least": 30.0,
    "body_ml_most": 40.0,
    "step_mm_least": 30.0,
    "step_mm_most": 38.0,
    "canal": 1.0,
    "posterior": 0.5,
    "halved": 0.0,
    "dark": 0.85,
    "seen": {"as stored": 60.0, "head-feet": 48.0, "front-back": 2.0, "both": 3.0},
}


def record(**changed):
    return PlausibilityRecord.model_validate(GOOD | changed)


def test_a_good_case_is_told_nothing():
    made = judge(record())
    assert made.warnings == ()
    assert made.record == record(orientation="as stored")


def test_every_limit_is_of_a_number_in_the_record_and_speaks():
    assert set(LIMITS) <= set(PlausibilityRecord.model_fields)
    for name, limit in LIMITS.items():
        for value, end in ((limit.low, -1e-3), (limit.high, 1e-3)):
            if value is None:
                continue
            assert implausible(GOOD | {name: value}) == ()
            made = judge(record(**{name: value + end}))
            assert made.record.implausible == (name,)
            (text,) = made.warnings
            assert "not plausible" in text
            assert "{" not in text


def test_several_numbers_are_one_warning():
    made = judge(record(canal=0.1, posterior=0.0))
    assert made.record.implausible == ("canal", "posterior")
    (text,) = made.warnings
    assert "the canal is found along 10% of the column only" in text
    assert "hardly any bone behind the bodies" in text


def test_what_could_not_be_measured_is_not_judged():
    nothing = dict.fromkeys(set(GOOD) - {"vertebrae"})
    made = judge(record(**nothing))
    assert made.warnings == ()
    assert made.record.orientation == "not determinable"
    assert made.record.left_right == "not determinable"


def test_no_vertebra_at_all():
    nothing = dict.fromkeys(set(GOOD) - {"vertebrae"})
    made = judge(record(**nothing, vertebrae=0))
    assert made.record.implausible == ("vertebrae",)
    assert made.warnings == ("no vertebra was found above the sacrum: is this a spine?",)


@pytest.mark.parametrize(
    ("turn", "words"),
    [
        ("head-feet", "upside down by its header"),
        ("front-back", "front to back by its header"),
        ("both", "upside down and front to back by its header"),
    ],
)
def test_a_turned_image_is_told_with_what_was_seen_and_what_to_do(turn, words):
    seen = GOOD["seen"] | {"as stored": GOOD["seen"][turn], turn: 60.0}
    made = judge(record(seen=seen))
    assert made.record.orientation == turn
    (text,) = made.warnings
    assert words in text
    assert "60 mL" in text
    assert f"as stored {seen['as stored']:.0f} mL" in text
    assert "convert the series again from DICOM" in text
    assert "left/right is not determinable" in text


def test_a_verdict_needs_enough_bone_and_a_lead():
    seen = {"as stored": 10.0, "head-feet": 10.0 * LEAD * 1.001, "front-back": 0.0, "both": 0.0}
    assert orientation(seen) == "head-feet"
    assert orientation(seen | {"head-feet": 10.0 * LEAD * 0.999}) == "not determinable"
    small = {turn: value * LEAST_ML / 11 for turn, value in seen.items()}
    assert orientation(small) == "not determinable"
    assert orientation(None) == "not determinable"


def test_the_record_survives_json():
    made = judge(record(canal=0.1)).record
    assert PlausibilityRecord.model_validate(json.loads(made.model_dump_json())) == made


def masks(front=True):
    names, parts = np.zeros((10, 40, 90), np.uint8), np.zeros((10, 40, 90), np.uint8)
    body, behind = (slice(20, 36), slice(4, 12)) if front else (slice(4, 20), slice(28, 36))
    for level, z in ((22, 60), (23, 32), (24, 4)):
        for where, part in ((body, 50), (behind, 42)):
            box = (slice(None), where, slice(z, z + 20))
            names[box], parts[box] = level, part
    return Segmentation(Volume(names, np.eye(4), "labels"), Volume(parts, np.eye(4), "labels"))


def test_masks_prove_what_stands_against_the_header():
    """Foreign programs name vertebrae whichever way they stand; so may a CT's masks."""
    assert by_the_masks(masks()) == ()
    (text,) = by_the_masks(masks(front=False))
    assert "the bodies lie behind the spinous processes by the header" in text
    down = masks().vertebrae.data[:, :, ::-1], masks().subregions.data[:, :, ::-1]
    turned = Segmentation(*(Volume(np.ascontiguousarray(d), np.eye(4), "labels") for d in down))
    (text,) = by_the_masks(turned)
    assert "feet to head by the header" in text
    assert judge(record(), (text,)).warnings == (text,)


def test_without_a_network_the_masks_and_the_image_are_measured():
    rng = np.random.default_rng(0)
    values = rng.gamma(1.0, 100.0, (10, 40, 90)).astype(np.float32)
    found = masks()
    made = measure(Evidence(Volume(values, np.eye(4), "mr"), found))
    assert made.vertebrae == 3
    assert made.body_ml_least is None  # cut by the faces left and right
    assert made.step_mm_least == made.step_mm_most == 28.0
    assert made.dark > 0.9
    assert made.agreement is made.mirror is made.gamma is made.doubt is made.seen is None
    inverted = Volume(values.max() - values, np.eye(4), "mr")
    assert measure(Evidence(inverted, found)).dark == pytest.approx(1 - made.dark, abs=0.02)
    ct = Volume(values, np.eye(4), "ct")
    assert measure(Evidence(ct, found)).dark is None
