"""Reads from opening to the final report: rules, leases, autosave, signing, double reading, audit, export."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import math
import os
import shutil
import sqlite3
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("fastapi", reason="the reading room's extra is not installed")

from report_examples import changed, key_of, make_lungs, make_volume
from room_factory import OWN_PLACE, PASSWORD, Rooms, graded_finding, make_room, one_report, write_studies
from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError

from lungscreen.assess import AssessConfig, assess_baseline, describe_person
from lungscreen.errors import OutputError
from lungscreen.outputs.room_pack import CHUNK, join_planes, split_planes
from lungscreen.records import ClinicalData, Finding, NoduleType
from lungscreen.results.reader import read_result
from lungscreen.room.config import DoubleReading, RoomConfig
from lungscreen.room.double import differences
from lungscreen.room.marking import measure_waiting
from lungscreen.room.rules import judge_read
from lungscreen.room.unpacked import open_unpacked
from lungscreen.room.words import Content, Decision, ExamWords, Words

UID = "1.2.3.4"
FIRST_SCHEMA = "bc2a224e842c674ed60c35f3b90145e6dbba053d0890e5c304630509b6a359e4"
"""SHA-256 of the first version's schema as SQLite keeps it."""
KEY = key_of(one_report(UID))


@pytest.fixture
def rooms(tmp_path: Path) -> Iterator[Rooms]:
    """A room with one study that has one finding."""
    with make_room(write_studies(tmp_path, one_report(UID, graded_finding()))) as found:
        yield found


# -- pixels ----------------------------------------------------------------------------------------------------------
def test_pixels_are_the_volumes_own(rooms: Rooms) -> None:
    """Every chunk, by zstd and by gzip, gives back the int16 values that were measured."""
    import zstandard

    volume, reader = make_volume(), rooms.client("anna")
    shown = reader.get(f"/api/v1/studies/{KEY}").json()["volume"]
    assert shown["shape"] == [24, 50, 60]
    assert shown["affine"] == volume.geometry.affine.tolist()
    for start, end in ((0, 16), (16, 24)):
        expected = volume.hu[start:end]
        answer = reader.get(f"/api/v1/studies/{KEY}/slices/{start}/{end}")
        assert answer.headers["cache-control"] == "private, no-store"
        content = answer.content
        if answer.headers["content-encoding"] == "zstd" and len(content) != 2 * expected.size:
            content = zstandard.ZstdDecompressor().decompress(content)
        assert (join_planes(content, expected.shape) == expected).all()
        plain = reader.get(f"/api/v1/studies/{KEY}/slices/{start}/{end}", headers={"Accept-Encoding": "gzip"})
        assert plain.headers["content-encoding"] == "gzip"
        assert (join_planes(plain.content, expected.shape) == expected).all()
    for wrong in ("1/16", "0/15", "16/32", "32/48"):
        assert reader.get(f"/api/v1/studies/{KEY}/slices/{wrong}").status_code == 404


def test_a_pack_is_compressed_once(rooms: Rooms, monkeypatch: pytest.MonkeyPatch) -> None:
    """Screening made it: no request compresses with zstd, and gzip is kept after the first."""
    import gzip

    counts = {"gzip": 0}
    real = gzip.compress

    def counted(*args: Any, **more: Any) -> bytes:
        counts["gzip"] += 1
        return real(*args, **more)

    monkeypatch.setattr(gzip, "compress", counted)
    monkeypatch.setattr("lungscreen.outputs.room_pack.zstandard.ZstdCompressor", None)
    reader = rooms.client("anna")
    for _ in range(3):
        assert reader.get(f"/api/v1/studies/{KEY}/slices/0/16").status_code == 200
        assert reader.get(f"/api/v1/studies/{KEY}/slices/0/16", headers={"Accept-Encoding": "gzip"}).status_code == 200
    assert counts["gzip"] == 1


def test_planes_hold_negative_values_and_both_ends() -> None:
    import numpy as np

    values = np.array([[[-1024, -1, 0, 1, 255, 256, 3071, 32767, -32768]]], np.int16)
    assert (join_planes(split_planes(values), values.shape) == values).all()
    assert split_planes(values)[:2] == b"\xfc\xff"
    assert CHUNK == 16


def test_outlines_lie_on_the_nodule(rooms: Rooms) -> None:
    """The polygons' middle is the finding's place, in all three planes."""
    reader = rooms.client("anna")
    read = reader.sign(reader.save(reader.open(KEY)).json()).json()
    (finding,) = reader.cad(read).json()["findings"]
    assert set(finding["outline"]) == {"axial", "coronal", "sagittal"}
    for axis, plane in ((2, "axial"), (1, "coronal"), (0, "sagittal")):
        points = [p for polygons in finding["outline"][plane].values() for line in polygons for p in line]
        for n in range(3):
            middle = (min(p[n] for p in points) + max(p[n] for p in points)) / 2
            assert middle == pytest.approx(finding["position_mm"][n], abs=1.3 if n == axis else 0.5)


# -- the rules -------------------------------------------------------------------------------------------------------
def test_accepting_everything_gives_what_the_pipeline_said(tmp_path: Path) -> None:
    """Category and reason of the exam and of each finding, risks included, come out again from the report alone."""
    volume = make_volume()
    sizes = (("solid", 12.1), ("solid", 5.2), ("part-solid", 9.0), ("ground-glass", 31.0), ("calcified", 8.0))
    found = [sized_finding(kind, long_mm) for kind, long_mm in sizes]
    person = ClinicalData(age=66, sex="F", smoking_status="current", emphysema=True, from_header=("age",))
    judged = assess_baseline(found, make_lungs(volume), person)
    report = replace(
        one_report(UID, *judged.findings),
        category=judged.category, category_reason=judged.category_reason, person=describe_person(person),
    )  # fmt: skip
    document = read_result(write_studies(tmp_path, report) / "studies" / KEY / "report.json")
    content = Content(decisions=tuple(Decision(finding=f.number, verdict="accept") for f in document.findings))
    told = judge_read(document, content, {}, with_cad=True, config=AssessConfig()).plain
    assert (told["category"], told["reason"]) == (document.category, document.category_reason)
    assert [row["category"] for row in told["findings"]] == [f.category for f in document.findings]
    assert [row["reason"] for row in told["findings"]] == [f.category_reason for f in document.findings]
    assert [[risk["text"] for risk in row["risks"]] for row in told["findings"]] == [
        [risk.text for risk in f.risks] for f in document.findings
    ]
    assert "%" in told["findings"][0]["risks"][0]["text"]


def sized_finding(kind: str, long_mm: float) -> Finding:
    """Of that type and size, not yet graded."""
    finding = graded_finding(nodule_type=NoduleType(kind))
    assert finding.measurement is not None
    size = replace(finding.measurement, long_axis_mm=long_mm, short_axis_mm=long_mm - 1, mean_diameter_mm=long_mm - 0.5)
    return changed(replace(finding, grade=None), measurement=replace(size, max_transverse_mm=long_mm))


@pytest.fixture
def document(tmp_path: Path) -> Any:
    folder = write_studies(tmp_path / "doc", one_report(UID, graded_finding()))
    return read_result(folder / "studies" / KEY / "report.json")


@pytest.mark.parametrize(
    ("words", "exam", "category", "label"),
    [
        (Words(), ExamWords(), "4A", "4A"),
        (Words(), ExamWords(s_modifier=True), "4A", "4AS"),
        (Words(type="calcified"), ExamWords(), "1", "1"),
        (Words(long_axis_mm=5.0, short_axis_mm=4.0), ExamWords(), "2", "2"),
        (Words(long_axis_mm=16.0, short_axis_mm=15.0), ExamWords(), "4B", "4B"),
        (Words(suspicious=True), ExamWords(), "4X", "4X"),
        (Words(type="ground-glass"), ExamWords(), "2", "2"),
        (Words(), ExamWords(quality="non-diagnostic"), "0", "0"),
        (Words(), ExamWords(inflammation=True), "0", "0"),
    ],
)
def test_the_readers_word_decides(document: Any, words: Words, exam: ExamWords, category: str, label: str) -> None:
    """A solid nodule of 11.8 mm; what was measured stays beside what the reader says."""
    content = Content(decisions=(Decision(finding=1, verdict="accept", words=words),), exam=exam)
    told = judge_read(document, content, {}, with_cad=True, config=AssessConfig()).plain
    assert (told["category"], told["label"]) == (category, label)
    assert told["findings"][0]["model"]["mean_diameter_mm"] == 11.8


def test_a_rejected_mark_is_no_nodule(document: Any) -> None:
    content = Content(decisions=(Decision(finding=1, verdict="reject", reason="vessel"),))
    told = judge_read(document, content, {}, with_cad=True, config=AssessConfig()).plain
    assert (told["category"], told["findings"]) == ("1", [])


# -- leases and saving -----------------------------------------------------------------------------------------------
def test_a_study_is_leased_to_one_reader(rooms: Rooms, monkeypatch: pytest.MonkeyPatch) -> None:
    """Others are kept away until it ends, by time or by its holder; what was read stays."""
    anna, ben = rooms.client("anna"), rooms.client("ben")
    read = anna.save(anna.open(KEY), exam={"text": "half way"}).json()
    assert ben.post(f"/api/v1/studies/{KEY}/reads").json()["code"] == "study-leased"
    now, lease = time.time(), rooms.room.config.limits.lease_s
    monkeypatch.setattr(time, "time", lambda: now + lease / 2)
    assert anna.post(f"/api/v1/reads/{read['id']}/active", json={"active_s": 10}).status_code == 204
    monkeypatch.setattr(time, "time", lambda: now + lease * 1.4)
    assert rooms.client("ben").post(f"/api/v1/studies/{KEY}/reads").json()["code"] == "study-leased"
    rooms.client("anna").post(f"/api/v1/reads/{read['id']}/release")
    assert rooms.client("ben").post(f"/api/v1/studies/{KEY}/reads").status_code == 201
    assert rooms.client("anna").open(KEY)["content"]["exam"]["text"] == "half way"


def test_the_server_counts_no_more_time_than_has_passed(rooms: Rooms) -> None:
    anna = rooms.client("anna")
    read = anna.open(KEY)
    anna.post(f"/api/v1/reads/{read['id']}/active", json={"active_s": 80_000})
    signed = json.loads(_first_text(rooms, anna.sign(anna.save(read).json()).json()["id"]))
    assert signed["times"]["active_first_s"] < 30


@pytest.mark.parametrize(
    "content",
    [
        {"marks": [{"id": "m9", "position_mm": [0, 0, 0]}]},
        {"exam": {"quality": "excellent"}},
        {"exam": {"text": "x" * 5000}},
        {"unknown": 1},
        {"decisions": [{"finding": 1, "verdict": "reject"}]},
        {"decisions": [{"finding": 1, "verdict": "accept", "words": {"long_axis_mm": 3}}]},
        {"decisions": [{"finding": 1, "verdict": "accept", "words": {"long_axis_mm": 3, "short_axis_mm": 4}}]},
        {"decisions": [{"finding": 1, "verdict": "accept", "words": {"confidence": 101}}]},
        {"decisions": [{"finding": 1, "verdict": "accept"}, {"finding": 1, "verdict": "unsure"}]},
    ],
)
def test_what_does_not_fit_is_not_saved(rooms: Rooms, content: dict[str, Any]) -> None:
    anna = rooms.client("anna")
    read = anna.open(KEY)
    assert anna.put(f"/api/v1/reads/{read['id']}", json=content, headers={"If-Match": '"1"'}).status_code == 422
    assert anna.get(f"/api/v1/reads/{read['id']}").json()["version"] == 1


def test_saving_needs_the_version_it_rests_on(rooms: Rooms) -> None:
    anna = rooms.client("anna")
    read = anna.open(KEY)
    assert anna.put(f"/api/v1/reads/{read['id']}", json={}).json()["code"] == "if-match-missing"
    assert anna.save(read).headers["etag"] == '"2"'
    assert anna.save(read).json()["code"] == "read-changed"


@pytest.mark.parametrize("place", [[1e9, 0, 0], [500.0, 0.0, 0.0], [math.pi, 0]])
def test_a_mark_outside_is_refused(rooms: Rooms, place: list[float]) -> None:
    anna = rooms.client("anna")
    read = anna.open(KEY)
    headers = {"If-Match": '"1"'}
    answer = anna.post(f"/api/v1/reads/{read['id']}/marks", json={"position_mm": place}, headers=headers)
    assert answer.status_code == 422


def test_a_mark_is_saved_before_it_is_measured(rooms: Rooms) -> None:
    """While the process that measures is busy: the mark is on disk, words can be said of it, no signature stands
    under it.
    """
    anna, busy = rooms.client("anna"), threading.Event()
    read = anna.open(KEY)
    rooms.room.measuring.start("another mark", busy.wait, 30)
    headers = {"If-Match": f'"{read["version"]}"'}
    added = anna.post(f"/api/v1/reads/{read['id']}/marks", json={"position_mm": OWN_PLACE}, headers=headers).json()
    mark = added["mark"]
    assert (mark["measured"]["state"], mark["measured"]["mean_diameter_mm"]) == ("waiting", None)
    assert mark["position_mm"] == list(OWN_PLACE)
    read = anna.save(added["read"], marks=[{**mark, "words": {"note": "large"}}]).json()
    assert anna.sign(read).json()["missing"] == ["the measurement of nodule M1, which is under way"]
    busy.set()
    whole = anna.measured(read["id"])
    assert whole["version"] == read["version"], "what was measured comes without a new version"
    (mark,) = whole["content"]["marks"]
    assert mark["words"]["note"] == "large"
    assert mark["measured"]["mean_diameter_mm"] == pytest.approx(12, abs=2.5)
    alone = anna.get(f"/api/v1/reads/{read['id']}/marks/m1").json()
    assert alone["measured"] == mark["measured"]
    assert mark["measured"]["outline"]["axial"]
    assert anna.sign(whole).status_code == 200


def test_a_mark_that_a_killed_service_left_is_measured_by_the_next(tmp_path: Path) -> None:
    folder = write_studies(tmp_path, one_report(UID, graded_finding()))
    with make_room(folder) as rooms:
        rooms.room.stopped.set()  # as at its end: what is measured now is kept by nobody
        anna = rooms.client("anna")
        read = anna.open(KEY)
        headers = {"If-Match": f'"{read["version"]}"'}
        anna.post(f"/api/v1/reads/{read['id']}/marks", json={"position_mm": OWN_PLACE}, headers=headers)
    with make_room(folder) as rooms:
        anna = rooms.client("anna")
        assert anna.open(KEY)["content"]["marks"][0]["measured"]["state"] == "waiting"
        assert measure_waiting(rooms.room) == 0, "half a minute is left to the service that began with it"
        assert measure_waiting(rooms.room, older_s=0.0) == 1
        (mark,) = anna.measured(read["id"])["content"]["marks"]
        assert mark["measured"]["mean_diameter_mm"] == pytest.approx(12, abs=2.5)


def test_a_mark_that_cannot_be_measured_is_said_and_signed_with_the_readers_axes(rooms: Rooms) -> None:
    anna = rooms.client("anna")
    read = anna.open(KEY)
    object.__setattr__(rooms.room, "config", replace(rooms.room.config, pipeline="no-such-pipeline"))
    read = anna.mark(read)
    (mark,) = read["content"]["marks"]
    assert mark["measured"]["state"] == "failed"
    assert read["computed"]["findings"][0]["notices"][0]["code"] == "not-outlined"
    words = {"type": "solid", "long_axis_mm": 12.0, "short_axis_mm": 9.0}
    read = anna.save(read, marks=[{**mark, "words": words}]).json()
    assert (read["computed"]["findings"][0]["mean_diameter_mm"], read["computed"]["category"]) == (10.5, "4A")
    assert anna.sign(read).status_code == 200


def test_unpacked_studies_stay_within_their_bytes(rooms: Rooms) -> None:
    """The voxels that are mapped are those of the pack; the longest unused file goes."""
    pack = rooms.room.folders.pack(rooms.room.folders.pin(KEY))
    folder, size = rooms.room.folders.unpacked, 3 * make_volume().hu.size
    first = open_unpacked(pack, folder / "first", 10 * size)
    assert (first.hu == make_volume().hu).all()
    assert (first.lungs == pack.lung_mask()).all()
    assert {path.name: path.stat().st_mode & 0o777 for path in folder.iterdir()} == {
        "first.hu": 0o600,
        "first.lungs": 0o600,
    }
    for path in folder.iterdir():
        os.utime(path, (1, 1))
    open_unpacked(pack, folder / "second", size)
    assert {path.name for path in folder.iterdir()} == {"second.hu", "second.lungs"}
    assert (first.hu == make_volume().hu).all(), "who had it mapped keeps it"


# -- signing ---------------------------------------------------------------------------------------------------------
def _first_text(rooms: Rooms, number: str) -> str:
    with rooms.room.store.read() as connection:
        return str(connection.execute(text(f"SELECT first_text FROM reads WHERE id = '{number}'")).scalar_one())


def test_what_is_signed_is_whole_and_stays(rooms: Rooms) -> None:
    """SHA-256 over the canonical text; the database itself refuses another one; an addendum is added beside."""
    anna = rooms.client("anna")
    read = anna.open(KEY)
    assert anna.sign(read).json()["code"] == "read-incomplete"
    final = anna.read_to_end(KEY, "reject")
    report = anna.get(f"/api/v1/reads/{final['id']}/final.json").json()
    canonical = json.dumps(report["signed"], sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    assert hashlib.sha256(canonical.encode()).hexdigest() == report["sha256"] == final["sha256"]["final"]
    assert report["cad_changed"] | {"rejected": 1, "accepted": 0, "category_after": "1"} == report["cad_changed"]
    assert report["signed"]["signed_by"]["name"] == "anna"
    assert report["read_by_a_person"]
    assert anna.sign(final).json()["code"] == "read-signed"
    added = anna.post(f"/api/v1/reads/{final['id']}/addenda", json={"text": "Seen again <b>later</b>."})
    assert added.status_code == 201
    for statement in ("final_text = 'x'", "first_text = 'x'", "content = '{}'"):
        with pytest.raises(SQLAlchemyError), rooms.room.store.write() as connection:
            connection.execute(text(f"UPDATE reads SET {statement}"))
    page = anna.get(f"/api/v1/reads/{final['id']}/final.html")
    assert "&lt;b&gt;later" in page.text
    assert "<b>later" not in page.text
    assert "Doe, Jane" in page.text
    assert anna.get(f"/api/v1/reads/{final['id']}/final.pdf").content.startswith(b"%PDF-")


def test_the_pdf_has_every_letter_of_what_was_signed(rooms: Rooms, tmp_path: Path) -> None:
    """Names and words outside Latin-1 stand in the PDF as they were typed."""
    from dicom_results import run_program

    anna = rooms.client("anna")
    final = anna.read_to_end(KEY, text="Γνώμη: größer ≥ 8 mm, mürbe Wände – Łódź, лёгкое")
    (tmp_path / "r.pdf").write_bytes(anna.get(f"/api/v1/reads/{final['id']}/final.pdf").content)
    shown = " ".join(run_program("pdftotext", "-layout", str(tmp_path / "r.pdf"), "-").split())
    assert "Γνώμη: größer ≥ 8 mm, mürbe Wände – Łódź, лёгкое" in shown
    assert "Doe, Jane" in shown


def test_a_signed_read_is_dicom_that_a_person_verified(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the reader says stands in the SR, what they rejected does not, and the outline is CAD's, voxel for voxel.

    A nodule that the reader marked is the reader's: no network says anything of it.
    """
    from dicom_results import chest_report, groups_of, some_findings, text_of, validator_errors, write_files
    from pydicom import dcmread

    from lungscreen.room import objects
    from lungscreen.series import find_series
    from lungscreen.volume import source_fingerprint

    report = chest_report(tmp_path / "chest", findings=2)
    taken = source_fingerprint(report.volume.series)
    report = replace(report, provenance=replace(report.provenance, sop_instance_uids_sha256=taken))
    study = find_series([tmp_path / "chest"]).studies[0]
    monkeypatch.setattr(objects, "find_images", lambda *_: study)  # a room of a batch asks the batch's index
    key = key_of(report)
    (tmp_path / "small.toml").write_text(
        'name = "small"\n[volume]\nmin_slices = 1\nmin_extent_mm = 0.0\n', encoding="utf-8"
    )
    config = RoomConfig(pipeline=str(tmp_path / "small.toml"))
    with make_room(write_studies(tmp_path / "results", report), config) as found:
        anna = found.client("Änne")
        read = anna.save(anna.open(key)).json()
        assert anna.get(f"/api/v1/reads/{read['id']}/final-sr.dcm").json()["code"] == "read-unsigned"
        read = anna.sign(read).json()
        anna.cad(read)
        decisions = [
            {"finding": 1, "verdict": "accept", "words": {"type": "ground-glass", "note": "Łódź, лёгкое"}},
            {"finding": 2, "verdict": "reject", "reason": "vessel"},
        ]
        place = [float(c) for c in report.volume.geometry.to_mm((17, 30, 12))]
        added = anna.post(
            f"/api/v1/reads/{read['id']}/marks",
            json={"position_mm": place},
            headers={"If-Match": f'"{read["version"]}"'},
        ).json()
        marks = [{**added["mark"], "words": {"type": "solid"}}]
        saved = anna.save(added["read"], decisions=decisions, marks=marks).json()
        read = anna.sign(anna.measured(saved["id"])).json()
        answers = [anna.get(f"/api/v1/reads/{read['id']}/final-{kind}.dcm") for kind in ("sr", "seg")]
        assert [answer.headers["content-type"] for answer in answers] == ["application/dicom"] * 2, answers[0].text
        assert anna.get(f"/api/v1/reads/{read['id']}/final-sr.dcm").content == answers[0].content
        bert = found.client("bert")
        assert bert.get(f"/api/v1/reads/{read['id']}/final-sr.dcm").json()["code"] == "not-found"
        final = anna.get(f"/api/v1/reads/{read['id']}/final.json").json()
    sr, seg = (dcmread(io.BytesIO(answer.content)) for answer in answers)
    assert (sr.VerificationFlag, sr.PreliminaryFlag, sr.CompletionFlag) == ("VERIFIED", "FINAL", "COMPLETE")
    assert sr.VerifyingObserverSequence[0].VerifyingObserverName == "Änne^"
    said = text_of(sr)
    for words in (": Łódź, лёгкое", final["sha256"], "A person has read the exam", "CAD was shown after"):
        assert words in said
    assert "No person has verified it" not in said
    assert any(row["type"] == "ground-glass" for row in final["signed"]["computed"]["findings"])
    assert any(e.value == "Ground glass opacity" for e in sr.iterall() if e.keyword == "CodeMeaning"), (
        "the reader's type"
    )
    if shutil.which("dciodvfy"):
        paths = write_files({"sr": answers[0].content, "seg": answers[1].content}, tmp_path)
        assert validator_errors("dciodvfy", paths) == []
    rows = final["signed"]["computed"]["findings"]
    assert sorted(row["source"] for row in rows) == ["cad", "reader"]
    mask = some_findings(report.volume, 1)[0].outline.mask
    drawn = dict(zip((item.SegmentNumber for item in seg.SegmentSequence), seg.SegmentSequence, strict=True))
    for n, row in enumerate(rows, 1):
        own = row["source"] == "reader"
        groups = [group for group in groups_of(sr) if f"Finding {n}" in text_of(group)]
        assert len(groups) == 2, "one at the segment, one at a point"
        for group in groups:
            words = text_of(group)
            assert ("Person" in words, "Device Observer Name" in words) == (own, not own)
            assert ("Score of the detector" in words or "sha256" in words) == (not own)
            assert "Malignancy rating" not in words or not own
        assert drawn[n].SegmentAlgorithmType == ("SEMIAUTOMATIC" if own else "AUTOMATIC")
        if not own:
            frames = [
                frame.sum() for frame, group in zip(seg.pixel_array, seg.PerFrameFunctionalGroupsSequence, strict=True)
                if group.SegmentIdentificationSequence[0].ReferencedSegmentNumber == n
            ]  # fmt: skip
            assert int(sum(frames)) == int(mask.sum())


@pytest.mark.parametrize("seed", range(4))
def test_a_mask_comes_back_from_its_polygons(seed: int) -> None:
    """Holes, several parts, the volume's border and an oblique grid: every voxel is the same again."""
    import numpy as np

    from lungscreen.geometry import Geometry
    from lungscreen.outputs.outlines import outline_polygons
    from lungscreen.records import Outline
    from lungscreen.room.objects import fill_polygons

    chance = np.random.default_rng(seed)
    turn = np.linalg.qr(np.eye(3)[:, ::-1] + 0.3 * chance.normal(size=(3, 3)))[0] * (2.5, 0.8, 0.7)
    affine = np.eye(4)
    affine[:3, :3], affine[:3, 3] = turn, (-171.3, 12.9, -301.7)
    mask = chance.random((3, 9, 11)) < 0.6
    start = ((0, 0, 0), (5, 30, 29))[seed % 2]
    grid = Geometry(affine, (8, 39, 40), "")
    found = fill_polygons(outline_polygons(Outline(start, mask), grid), grid)
    assert found is not None
    whole, expected = np.zeros(grid.shape, bool), np.zeros(grid.shape, bool)
    for outline, into in ((found, whole), (Outline(start, mask), expected)):
        into[tuple(slice(a, a + n) for a, n in zip(outline.start, outline.mask.shape, strict=True))] = outline.mask
    assert (whole == expected).all()


def test_concurrent_reading_shows_cad_at_once_and_says_so(tmp_path: Path) -> None:
    folder = write_studies(tmp_path, one_report(UID, graded_finding()))
    with make_room(folder, RoomConfig(mode="concurrent")) as rooms:
        anna = rooms.client("anna")
        assert anna.cad(anna.open(KEY)).status_code == 200
        final = anna.read_to_end(KEY)
        assert final["computed"]["category"] == "4A"
        assert final["sha256"]["first"] == ""
        signed = anna.get(f"/api/v1/reads/{final['id']}/final.json").json()["signed"]
        assert signed["cad"] == "CAD was shown from the start."


def test_a_newer_result_swaps_nothing(rooms: Rooms) -> None:
    """The read goes on with what it was opened with, and says that there is something newer."""
    anna = rooms.client("anna")
    read = anna.open(KEY)
    report = one_report(UID)
    write_studies(
        rooms.room.folders.results, replace(report, provenance=replace(report.provenance, pipeline_hash="f" * 64))
    )
    rooms.room.sync()
    again = anna.open(KEY)
    assert again["newer_result"]
    assert not read["newer_result"]
    read = anna.sign(anna.save(again).json()).json()
    assert len(anna.cad(read).json()["findings"]) == 1


# -- double reading --------------------------------------------------------------------------------------------------
def test_two_readers_who_differ_are_arbitrated(tmp_path: Path) -> None:
    """The second reader learns nothing of the first; an arbiter, neither of the two, sees both and not CAD."""
    config = RoomConfig(double_reading=DoubleReading(active=True))
    with make_room(write_studies(tmp_path, one_report(UID, graded_finding())), config) as rooms:
        anna, ben, cleo = rooms.client("anna"), rooms.client("ben"), rooms.client("cleo", "arbiter")
        before = ben.get("/api/v1/worklist").json()["rows"][0]
        assert anna.read_to_end(KEY, "accept")["state"] == "final"
        after = ben.get("/api/v1/worklist").json()["rows"][0]
        assert {**after, "waiting_s": 0} == {**before, "waiting_s": 0}
        assert anna.post(f"/api/v1/studies/{KEY}/reads").json()["state"] == "final"
        assert cleo.get(f"/api/v1/studies/{KEY}/arbitration").status_code == 404
        assert ben.read_to_end(KEY, "reject")["kind"] == "first"
        assert ben.get("/api/v1/worklist?state=arbitration").json()["total"] <= 1
        assert anna.get(f"/api/v1/studies/{KEY}/arbitration").json()["code"] == "not-allowed"
        told = cleo.get(f"/api/v1/studies/{KEY}/arbitration").json()
        assert {row["what"] for row in told["differences"]} == {"management", "nodule"}
        assert "cad" not in json.dumps(told).lower()
        assert "anna" not in json.dumps(told)
        assert cleo.get(f"/api/v1/studies/{KEY}/report").json()["code"] == "first-read-unsigned"
        assert cleo.read_to_end(KEY, "accept")["kind"] == "arbitration"
        lead = rooms.client("lena", "lead")
        assert lead.get("/api/v1/worklist").json()["rows"][0]["state"] == "final"


def test_readers_who_agree_are_not_arbitrated(tmp_path: Path) -> None:
    config = RoomConfig(double_reading=DoubleReading(active=True))
    with make_room(write_studies(tmp_path, one_report(UID, graded_finding())), config) as rooms:
        for name in ("anna", "ben"):
            rooms.client(name).read_to_end(KEY, "accept")
        assert rooms.client("lena", "lead").get("/api/v1/worklist").json()["rows"][0]["state"] == "final"


@pytest.mark.parametrize(
    ("s_first", "s_second", "differ"), [(True, False, True), (True, True, False), (None, False, False)]
)
def test_modifier_s_is_a_difference(s_first: bool | None, s_second: bool | None, differ: bool) -> None:
    def said(value: bool | None) -> dict[str, Any]:
        computed = {"category": "2", "label": "2", "management": "", "findings": []}
        return {"computed": computed, "content": {"exam": {"s_modifier": value}}}

    assert bool(differences(said(s_first), said(s_second), 6.0)) == differ


# -- audit -----------------------------------------------------------------------------------------------------------
def test_the_audit_trail_shows_every_kind_of_tampering(rooms: Rooms) -> None:
    """Edited, deleted, reordered, added and cut off: each is found once the triggers are gone; before, they refuse."""
    rooms.client("anna").read_to_end(KEY)
    room = rooms.room
    whole = room.audit.verify(room.store)
    assert whole.rows >= 5
    assert whole.faults == ()
    with room.store.read() as connection:
        told = connection.execute(text("SELECT what FROM audit ORDER BY seq")).scalars().all()
    assert [what for what in told if what.startswith(("signed", "cad"))] == [
        "signed-first",
        "cad-shown",
        "signed-final",
    ]
    for statement in ("DELETE FROM audit WHERE seq = 2", "UPDATE audit SET who = 'ben' WHERE seq = 2"):
        with pytest.raises(SQLAlchemyError), room.store.write() as connection:
            connection.execute(text(statement))
    for statement in (
        "UPDATE audit SET who = 'ben' WHERE seq = 2",
        "UPDATE audit SET detail = '{}', at = at + 1 WHERE seq = 3",
        "DELETE FROM audit WHERE seq = 3",
        "DELETE FROM audit WHERE seq = (SELECT MAX(seq) FROM audit)",
        "DELETE FROM audit",
        "UPDATE audit SET seq = 1000 WHERE seq = 4",
        f"INSERT INTO audit SELECT MAX(seq) + 1, 1.0, 'x', 'login', '', '{{}}', '{'0' * 64}' FROM audit",
    ):
        raw = sqlite3.connect(room.folders.database)
        raw.executescript("DROP TRIGGER IF EXISTS audit_no_update; DROP TRIGGER IF EXISTS audit_no_delete")
        raw.execute("BEGIN")
        raw.execute(statement)
        raw.commit()
        assert room.audit.verify(room.store).faults, statement
        raw.close()
        _restore(rooms, whole.rows)


def _restore(rooms: Rooms, rows: int) -> None:
    """The trail as it was: a copy that was kept before."""
    keep = rooms.room.folders.room / "keep.sqlite"
    raw = sqlite3.connect(rooms.room.folders.database)
    raw.execute(f"ATTACH '{keep}' AS kept")
    raw.execute("DELETE FROM audit")
    raw.execute("INSERT INTO audit SELECT * FROM kept.audit")
    raw.commit()
    raw.close()
    assert rooms.room.audit.verify(rooms.room.store).faults == ()


@pytest.fixture(autouse=True)
def _keep_trail(request: pytest.FixtureRequest) -> Iterator[None]:
    """For the tampering test: a copy of the trail is made when it is first verified."""
    if "tampering" not in request.node.name:
        yield
        return
    from lungscreen.room.audit import AuditTrail

    real, kept = AuditTrail.verify, []

    def verify(self: AuditTrail, store: Any) -> Any:
        if not kept:
            kept.append(True)
            folder = self.anchor.parent
            raw = sqlite3.connect(folder / "room.sqlite")
            raw.execute(f"ATTACH '{folder / 'keep.sqlite'}' AS kept")
            raw.execute("CREATE TABLE kept.audit AS SELECT * FROM main.audit")
            raw.commit()
            raw.close()
        return real(self, store)

    AuditTrail.verify = verify  # type: ignore[method-assign]
    yield
    AuditTrail.verify = real  # type: ignore[method-assign]


# -- export and the month --------------------------------------------------------------------------------------------
def test_export_parts_the_readers_word_from_cads(rooms: Rooms, tmp_path: Path) -> None:
    """A rejected mark is one reader's negative; no name, ID or account is in any file."""
    from lungscreen.room.export import export_reads

    anna = rooms.client("anna")
    read = anna.open(KEY)
    read = anna.mark(read)
    mark = {**read["content"]["marks"][0], "words": {"confidence": 80}}
    read = anna.sign(anna.save(read, marks=[mark]).json()).json()
    anna.cad(read)
    decisions = [{"finding": 1, "verdict": "reject", "reason": "vessel", "words": {"confidence": 5}}]
    assert anna.sign(anna.save(read, marks=[mark], decisions=decisions).json()).status_code == 200
    out = tmp_path / "export"
    assert export_reads(rooms.room, out) == 1
    rows = list(csv.DictReader((out / "marks.csv").read_text().splitlines()))
    assert [(r["source"], r["verdict"], r["reason"], r["confidence"], r["phase"]) for r in rows] == [
        ("reader", "mark", "", "80", "before-cad"),
        ("cad", "reject", "vessel", "5", "after-cad"),
    ]
    assert {row["split"] for row in rows} <= {"train", "test"}
    assert len({row["patient"] for row in rows}) == 1
    assert float(rows[1]["coordX"]) == pytest.approx(graded_finding().candidate.centre_mm[0])
    (before,) = out.glob("candidates/*-before-cad.csv")
    assert [row["probability"] for row in csv.DictReader(before.read_text().splitlines())] == ["0.8"]
    assert [row["score"] for row in csv.DictReader((out / "imrmc.csv").read_text().splitlines())] == ["80"]
    everything = "".join(path.read_text() for path in out.rglob("*.csv"))
    assert not any(word in everything for word in ("Doe", "P-17", "anna"))
    lead = rooms.client("lena", "lead")
    month = time.strftime("%Y-%m", time.gmtime())
    told = lead.get(f"/api/v1/monthly?month={month}").json()
    assert told["reads"] == 1
    assert told["cad"]["marks"] == {"accept": 0, "reject": 1, "unsure": 0}
    assert told["cad"]["sensitivity_against_reads"] == {"of": 1, "share": None, "why": "fewer than 10"}


def test_months_count_agreement_and_cad_by_subgroup(tmp_path: Path) -> None:
    """Twelve studies read twice, worked out by hand: Cohen's kappa, CAD's share with Wilson's interval, by kernel."""
    uids = [f"1.2.4.{n}" for n in range(12)]
    policy = DoubleReading(active=True, uncertain=True)
    config = RoomConfig(mode="concurrent", double_reading=policy)
    reports = [one_report(uid, graded_finding()) for uid in uids]
    with make_room(write_studies(tmp_path, *reports), config) as found:
        anna, ben, lead = found.client("anna"), found.client("ben"), found.client("lea", "lead")
        verdicts = [("accept", "accept")] * 6 + [("reject", "reject")] * 3 + [("accept", "reject")] * 3
        for report, (first, second) in zip(reports, verdicts, strict=True):
            anna.read_to_end(key_of(report), first)
            ben.read_to_end(key_of(report), second)
        told = lead.get(f"/api/v1/monthly?month={time.strftime('%Y-%m', time.gmtime())}").json()
    assert told["reads"] == 24
    assert [(row["reader"], row["reads"]) for row in told["by_reader"]] == [("anna", 12), ("ben", 12)]
    # alike in 9 of 12; by chance (9 * 6 + 3 * 6) / 144 = 0.5; (0.75 - 0.5) / 0.5
    assert told["agreement"] == {"studies_read_twice": 12, "kappa": 0.5, "arbitrations": 0}, "nobody has arbitrated yet"
    # of the 9 studies that nobody reads any more: 12 nodules in signed reads, all of them CAD's, Wilson's interval
    assert told["reads_of_open_studies"] == 6
    assert told["cad"]["sensitivity_against_reads"] == {"of": 12, "share": 1.0, "low": 0.758, "high": 1.0}
    assert told["cad"]["marks"] == {"accept": 12, "reject": 6, "unsure": 0}
    assert sum(sum(row["categories"].values()) for row in told["by_reader"]) == 18
    kinds = {row["kind"] for row in told["subgroups"]}
    assert kinds == {"sex", "age", "manufacturer", "kernel", "dose"}
    assert all(row["nodules"] == 12 for row in told["subgroups"]), "one group of each kind: the studies are alike"


def test_tiers_are_the_deciles_of_the_reference_and_stay(tmp_path: Path) -> None:
    """A tenth of the reference in each tier; later studies go by the same cuts, which only a new version changes."""
    from lungscreen.room import tables
    from lungscreen.room.studies import _give_tiers, freeze_tiers

    with make_room(write_studies(tmp_path)) as found:
        store = found.room.store

        def add(key: str, suspicion: float) -> None:
            row = {"key": key, "stamp": "s", "status": "done", "arrived": 1.0, "suspicion": suspicion}
            with store.write() as connection:
                connection.execute(tables.studies.insert().values(**row, state="unread"))

        for n in range(100):
            add(f"{n:012x}", float(n * n))
        with store.write() as connection:
            assert freeze_tiers(connection, 101) is None, "too few for a reference"
            assert freeze_tiers(connection, 100) == 1
            tiers = connection.execute(text("SELECT tier, count(*) FROM studies GROUP BY tier ORDER BY tier")).all()
            assert [tuple(row) for row in tiers] == [(tier, 10) for tier in range(1, 11)]
        for key, suspicion in (("a" * 12, -5.0), ("b" * 12, 81.0), ("c" * 12, 82.0), ("d" * 12, 1e9)):
            add(key, suspicion)
        with store.write() as connection:
            _give_tiers(connection)
            query = text("SELECT tier FROM studies WHERE key > 'a' ORDER BY key")
            assert list(connection.execute(query).scalars()) == [1, 1, 2, 10]
            assert freeze_tiers(connection, 100) == 2


# -- the store -------------------------------------------------------------------------------------------------------
def test_a_database_of_a_newer_version_is_refused(tmp_path: Path) -> None:
    from lungscreen.errors import UsageError
    from lungscreen.room.store import open_store

    path = tmp_path / "room.sqlite"
    open_store(path).close()
    raw = sqlite3.connect(path)
    raw.execute("UPDATE alembic_version SET version_num = '9999'")
    raw.commit()
    raw.close()
    with pytest.raises(UsageError, match="newer version"):
        open_store(path)
    path.write_bytes(b"no database" * 1000)
    with pytest.raises(OutputError, match="cannot open"):
        open_store(path)


def test_the_first_schema_stays_and_every_later_one_is_reached_from_it(tmp_path: Path) -> None:
    """A database that the first version made, with a read in it, opens today, has today's tables and keeps the read."""
    from alembic.autogenerate import compare_metadata
    from alembic.runtime.migration import MigrationContext

    from lungscreen.room import store, tables

    path = tmp_path / "room" / "room.sqlite"
    engine = store._engine(path)
    store._migrate(engine, "0001")
    engine.dispose()
    raw = sqlite3.connect(path)
    schema = raw.execute("SELECT sql FROM sqlite_master WHERE sql IS NOT NULL ORDER BY name").fetchall()
    digest = hashlib.sha256("\n".join(" ".join(row[0].split()) for row in schema).encode()).hexdigest()
    assert digest == FIRST_SCHEMA, "a schema that was released is not changed: add a migration"
    raw.execute(
        "INSERT INTO users VALUES (7, 'anna', 'reader', 'hash', '', 1, '{}', 'r-1', 1.0)",
    )
    raw.execute("INSERT INTO studies VALUES ('0123456789ab', 's', 'done', '', '', 'P', 'N', '', '', '', '', '', 0, 1.0,"
                " 0, '[]', '{}', 0.5, NULL, 'final', '{}')")  # fmt: skip
    raw.execute("INSERT INTO reads VALUES ('r', '0123456789ab', 'first', 7, 'second-reader', 'final', 3, '{}', '{}', 0,"
                " 1.0, 2.0, 2.0, 3.0, 0, 0, 0, 'one', 'a', 'two', 'b')")  # fmt: skip
    raw.commit()
    raw.close()
    opened = store.open_store(path)
    with opened.read() as connection:
        assert compare_metadata(MigrationContext.configure(connection), tables.METADATA) == []
        kept = connection.execute(text("SELECT first_text, final_text, reader FROM reads")).one()
        assert tuple(kept) == ("one", "two", 7)
    with pytest.raises(SQLAlchemyError, match="signed"), opened.write() as connection:
        connection.execute(text("UPDATE reads SET final_text = 'other'"))
    opened.close()


def test_passwords_are_asked_in_full(rooms: Rooms) -> None:
    """Short ones are refused where accounts are made, and none stands in the database."""
    admin = rooms.client("root", "admin")
    assert admin.post("/api/v1/users", json={"name": "x", "role": "reader", "password": "short"}).status_code == 422
    made = admin.post("/api/v1/users", json={"name": "prog", "role": "machine"}).json()
    assert len(made["token"]) > 40
    content = b"".join(p.read_bytes() for p in rooms.room.folders.room.glob("room.sqlite*"))
    assert PASSWORD.encode() not in content
    assert made["token"].encode() not in content
