"""The judge: columns of its own, masks kept by content, independence."""

from types import SimpleNamespace

import numpy as np
import pytest

from spinect.errors import BundleError
from spinect.workflows.evaluate import EvaluateOptions, judge, score_results
from spinect.workflows.record import Stopwatch


@pytest.fixture
def fake(monkeypatch):
    """A judge that labels everything above 200 HU as L4 and its body; counts its calls."""
    seen = SimpleNamespace(calls=0, sha256="a" * 64)

    def load(_name):
        return SimpleNamespace(card=SimpleNamespace(name="judge", sha256=seen.sha256))

    def segment(ct, _segmenter, *, model):
        assert model.card.name == "judge"
        seen.calls += 1
        bone = ct.data > 200
        return SimpleNamespace(
            vertebrae=ct.with_data(np.where(bone, 23, 0).astype(np.uint8), "labels"),
            subregions=ct.with_data(np.where(bone, 50, 0).astype(np.uint8), "labels"),
        )

    monkeypatch.setattr(judge, "load_bundle", load)
    monkeypatch.setattr(judge, "segment", segment)
    return seen


OPTIONS = EvaluateOptions(protocols=("strict",), judge="judge", resume=True)


def dice(scores, method, case, region):
    return [r for r in scores.rows if (r.method, r.case, r.region, r.metric, r.item, r.space)
            == (method, case, region, "dice", "", "iso")]  # fmt: skip


def test_judge_scores_the_ct_beside_the_own_masks(fake, tiny_dataset, tiny_results, tmp_path):
    scores = score_results(tiny_dataset, tiny_results, tmp_path, OPTIONS, Stopwatch())
    assert fake.calls == 5  # three and two results
    own, judged = (dice(scores, "good", "sub-1000000_T2w", f"volume{who}")[0].value
                   for who in ("", "@judge"))  # fmt: skip
    assert judged == 1.0  # all of the bone, found by its HU
    assert own < 1.0
    gone = dice(scores, "poor", "sub-1000002_T2w", "volume@judge")[0]
    assert (gone.value, gone.note) == (0.0, "no result")
    assert scores.judge == ("judge", "a" * 64)
    assert scores.warnings == ()


def test_masks_are_kept_by_ct_and_bundle(fake, tiny_dataset, tiny_results, tmp_path):
    one = score_results(tiny_dataset, tiny_results, tmp_path, OPTIONS, Stopwatch())
    two = score_results(tiny_dataset, tiny_results, tmp_path, OPTIONS, Stopwatch())
    assert fake.calls == 5
    assert repr(one.rows) == repr(two.rows)  # NaN is not equal to itself
    assert two.count("kept") == 5
    fake.sha256 = "b" * 64
    three = score_results(tiny_dataset, tiny_results, tmp_path, OPTIONS, Stopwatch())
    assert fake.calls == 10
    assert three.count("kept") == 0


def test_a_judge_that_made_the_masks_itself_is_named(fake, tiny_dataset, tiny_results, tmp_path):
    fake.sha256 = "f" * 64
    scores = score_results(tiny_dataset, tiny_results, tmp_path, OPTIONS, Stopwatch())
    assert any("not independent" in text for text in scores.warnings)


def test_a_ct_that_the_judge_cannot_take_fails_alone(
    fake, tiny_dataset, tiny_results, tmp_path, monkeypatch
):
    plain = judge.segment

    def sometimes(ct, segmenter, *, model):
        if fake.calls == 1:
            fake.calls += 1
            raise BundleError("the judge has no masks for this")
        return plain(ct, segmenter, model=model)

    monkeypatch.setattr(judge, "segment", sometimes)
    scores = score_results(tiny_dataset, tiny_results, tmp_path, OPTIONS, Stopwatch())
    failed = [(o.method, o.series.name, o.error) for o in scores.outcomes if o.status == "failed"]
    assert len(failed) == 1
    assert "the judge has no masks for this" in failed[0][2]
    assert scores.exit_code == 3
