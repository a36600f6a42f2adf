"""run.json: its schema, hashes, timing and memory."""

import gc
import hashlib
import json
import time

import numpy as np
import pytest
import SimpleITK as sitk

from spinect.errors import InputError
from spinect.workflows import record as records


def test_schema_in_the_docs_is_the_present_one(request):
    path = request.config.rootpath / "docs" / "reference" / "run.schema.json"
    assert json.loads(path.read_text()) == records.schema(), (
        'run python -c "from pathlib import Path; from spinect.workflows.record import '
        f"export_schema; export_schema(Path('{path.name}'))\""
    )


def test_hash_of_a_header_covers_its_raw_file(tmp_path):
    image = sitk.GetImageFromArray(np.arange(1000, dtype=np.float32).reshape(10, 10, 10))
    sitk.WriteImage(image, str(tmp_path / "a.mhd"))
    before = records.sha256_of(tmp_path / "a.mhd")
    raw = next(tmp_path.glob("a.*raw"))
    raw.write_bytes(raw.read_bytes()[:-4] + b"\x00\x00\x00\x01")
    assert records.sha256_of(tmp_path / "a.mhd") != before
    single = tmp_path / "b.nii.gz"
    single.write_bytes(b"content")
    assert records.sha256_of(single) == hashlib.sha256(b"content").hexdigest()


def test_hash_of_a_detached_nrrd(tmp_path):
    image = sitk.GetImageFromArray(np.arange(1000, dtype=np.float32).reshape(10, 10, 10))
    sitk.WriteImage(image, str(tmp_path / "a.nhdr"))
    before = records.sha256_of(tmp_path / "a.nhdr")
    raw = next(p for p in tmp_path.iterdir() if p.suffix != ".nhdr")
    raw.write_bytes(raw.read_bytes() + b"\x00")
    assert records.sha256_of(tmp_path / "a.nhdr") != before


def test_stopwatch_adds_up_and_tells():
    told = []
    watch = records.Stopwatch(told.append)
    for name in ("read", "write", "read"):
        with watch.stage(name):
            time.sleep(0.02)
    assert told == ["read", "write", "read"]
    assert watch.seconds["read"] > 0.03 > watch.seconds["write"] > 0.01


def test_peak_memory_sees_an_allocation_and_starts_anew():
    gc.collect()  # what earlier tests left must not go in the middle of this one
    records.reset_peak()
    before = records.peak_memory()
    block = np.ones(20 * 2**20)  # 160 MB
    during = records.peak_memory()
    assert during - before > 120 * 2**20
    del block


def test_foreign_record_is_a_clear_error(tmp_path):
    for text in ("{}", "no json", '{"schema_version": "9"}'):
        (tmp_path / "run.json").write_text(text)
        with pytest.raises(InputError, match="not a run record of this version"):
            records.read_record(tmp_path / "run.json")


def test_commit_belongs_to_this_checkout():
    found = records.commit()
    assert found is None or len(found.removesuffix("+")) == 40
