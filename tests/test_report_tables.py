"""worklist.csv and .html, findings.csv, candidates.csv, refused.csv: columns, order, reruns, hostile cells."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path

import pytest
from report_examples import (
    NAMES,
    PATIENT,
    changed,
    make_finding,
    make_report,
    make_volume,
    study_of,
    tables,
    write_report,
)

from lungscreen.errors import Notice, Refusal
from lungscreen.outputs.tables import StudyRows
from lungscreen.records import (
    Attributes,
    Candidate,
    Location,
    NoduleChange,
    NoduleType,
    PastNodule,
    Patient,
    Risk,
)
from lungscreen.results.folder import ResultsFolder
from lungscreen.series import plain_name


def _rows(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def _header(path: Path) -> str:
    return path.read_text(encoding="utf-8").partition("\n")[0]


def _report(uid, category="", probability=None, score=0.5, findings=1, patient=PATIENT):
    volume = make_volume()
    found = [make_finding(volume, score=score, probability=probability) for _ in range(findings)]
    report = make_report(*found, volume=volume, study=study_of(uid, patient))
    return replace(report, category=category or "not assessed")


def _key(uid: str) -> str:
    """Of a study of these tests' patient."""
    return NAMES.study_key(uid, PATIENT.patient_id, plain_name(PATIENT))


def test_columns_are_the_contract(tmp_path):
    """Columns are only ever added at the end."""
    write_report(make_report(make_finding(make_volume())), tmp_path)
    tables(tmp_path)
    assert _header(tmp_path / "worklist.csv") == (
        "rank,patient_id,study_uid,status,code,category,top_probability,findings,report,accession_number,exam_date,"
        "doubtful"
    )
    assert _header(tmp_path / "findings.csv") == (
        "patient_id,study_uid,series_uid,finding,x_mm,y_mm,z_mm,long_axis_mm,short_axis_mm,mean_diameter_mm,volume_mm3,"
        "type,detection_score,malignancy_probability,category,"
        "growth_state,growth_days,diameter_change_mm,volume_change_percent,doubling_days,doubling_shortest_days,"
        "doubling_longest_days,prior_date,estimated_sphericity,estimated_margin,estimated_lobulation,"
        "estimated_spiculation,estimated_texture,estimated_calcified,side,zone,estimated_lobe,pleura_mm,"
        "nodule_probability,second_look,brock_1a,brock_1b,brock_2a,brock_2b,mayo,notices,"
        "estimated_perifissural,fissure_mm,effective_diameter_mm,max_transverse_mm,volume_sd_mm3,"
        "solid_mean_diameter_mm,solid_volume_mm3,mean_hu,min_hu,max_hu,mass_mg,category_clause,advice,accession_number,exam_date,"
        "doubtful"
    )
    assert _header(tmp_path / "candidates.csv") == "seriesuid,coordX,coordY,coordZ,probability,verdict"
    assert _header(tmp_path / "refused.csv").startswith("path_or_uid,code,reason")


def test_an_empty_output_has_every_table(tmp_path):
    tables(tmp_path)
    assert {p.name for p in tmp_path.iterdir()} == {
        "worklist.csv", "worklist.html", "findings.csv", "candidates.csv", "refused.csv",
    }  # fmt: skip
    assert _rows(tmp_path / "worklist.csv") == []
    assert "No study was read" in (tmp_path / "worklist.html").read_text()


def test_finding_row_carries_values_and_leaves_the_unmeasured_empty(tmp_path):
    volume = make_volume()
    bare = make_finding(volume, (3, 9, 9), score=0.123456789, probability=None, outline=None, measurement=None)
    write_report(make_report(make_finding(volume, category="4A"), bare, volume=volume), tmp_path)
    tables(tmp_path)
    first, second = _rows(tmp_path / "findings.csv")
    assert {column: first[column] for column in list(first)[:15]} == {
        "patient_id": "P-17", "study_uid": "1.2.3.4", "series_uid": "1.2.3.4.5", "finding": "1", "x_mm": "-9.0",
        "y_mm": "27.0", "z_mm": "-275.0", "long_axis_mm": "12.1", "short_axis_mm": "11.4", "mean_diameter_mm": "11.8",
        "volume_mm3": "841.3", "type": "solid", "detection_score": "0.9", "malignancy_probability": "0.4",
        "category": "4A",
    }  # fmt: skip
    assert second["detection_score"] == "0.123457"
    empty = ("long_axis_mm", "short_axis_mm", "mean_diameter_mm", "volume_mm3", "malignancy_probability", "category")
    assert [second[column] for column in empty] == [""] * 6


def test_candidates_keep_place_and_rank(tmp_path):
    """Scores a billionth apart stay apart; places keep a ten-thousandth of a millimetre."""
    candidates = tuple(Candidate((-1.23456, 2.0, -300.5), 4.0, 0.5 + n * 1e-8) for n in range(120))
    write_report(make_report(candidates=candidates), tmp_path)
    tables(tmp_path)
    rows = _rows(tmp_path / "candidates.csv")
    assert len(rows) == 120
    assert rows[0] == {
        "seriesuid": "1.2.3.4.5", "coordX": "-1.2346", "coordY": "2.0000", "coordZ": "-300.5000",
        "probability": "0.50000119", "verdict": "",
    }  # fmt: skip
    scores = [float(row["probability"]) for row in rows]
    assert scores == sorted(set(scores), reverse=True)


def test_finding_row_tells_growth_looks_and_place(tmp_path):
    """Growth as report.json has it, attributes, side, lobe, pleura and second look; nothing else is filled in."""
    past = PastNodule("20250101", "1.2.3.3", NoduleType.SOLID, 8.0, 7.0, 7.5, 220.0, 12.0)
    change = NoduleChange("growing", "grew", (past,), 407, 4.3, 282.4, 210.25, 201.1, 220.9, 1.5)
    volume = make_volume()
    finding = make_finding(
        volume,
        change=change,
        attributes=Attributes(4.2, 3.1, 1.5, 2.75, 4.9, 0.031),
        nodule_probability=0.97,
        second_look="nodule",
        location=Location("left", "middle", 14, 14, "left upper lobe", 3.4, False, 6.5),
        risks=(
            Risk("Brock 1a (parsimonious, without spiculation)", 0.0657, "m"),
            Risk("Brock 2b (full, with spiculation)", None, "m", needs=("age",)),
            Risk("Mayo", 0.192, "m"),
            Risk("this site's own model", 0.9, "m"),
        ),
        notices=(Notice("cut-by-edge", "a"), Notice("consider-4x", "x"), Notice("cut-by-edge", "b")),
        nodule_type=NoduleType.PART_SOLID,
        category_clause="row 4B",
    )
    assert finding.measurement is not None
    size = replace(finding.measurement, solid_mean_diameter_mm=4.1, solid_volume_mm3=36.5)
    finding = changed(finding, measurement=size)
    write_report(make_report(finding, make_finding(volume, (3, 9, 9), 0.1, 0.1)), tmp_path)
    tables(tmp_path)
    first, second = _rows(tmp_path / "findings.csv")
    assert {column: first[column] for column in list(first)[15:]} == {
        "growth_state": "growing", "growth_days": "407", "diameter_change_mm": "4.3", "volume_change_percent": "282.4",
        "doubling_days": "210.2", "doubling_shortest_days": "201.1", "doubling_longest_days": "220.9",
        "prior_date": "2025-01-01", "estimated_sphericity": "4.2", "estimated_margin": "3.1",
        "estimated_lobulation": "1.5", "estimated_spiculation": "2.75", "estimated_texture": "4.9",
        "estimated_calcified": "0.03", "side": "left", "zone": "middle", "estimated_lobe": "left upper lobe",
        "pleura_mm": "3.4", "nodule_probability": "0.97", "second_look": "nodule",
        "brock_1a": "0.0657", "brock_1b": "", "brock_2a": "", "brock_2b": "", "mayo": "0.192",
        "notices": "cut-by-edge consider-4x", "estimated_perifissural": "no", "fissure_mm": "6.5",
        "effective_diameter_mm": "11.7", "max_transverse_mm": "12.0", "volume_sd_mm3": "40.2",
        "solid_mean_diameter_mm": "4.1", "solid_volume_mm3": "36.5", "mean_hu": "12.5", "min_hu": "-310.0",
        "max_hu": "96.0", "mass_mg": "850.1", "category_clause": "row 4B", "advice": "",
        "accession_number": "ACC-9", "exam_date": "2026-02-12", "doubtful": "no",
    }  # fmt: skip
    told = {column for column in list(second)[15:41] if second[column]}
    assert told == {"side", "zone", "estimated_lobe"}
    assert (second["effective_diameter_mm"], second["solid_volume_mm3"]) == ("11.7", ""), "a solid nodule has no part"


def test_candidates_say_what_became_of_them(tmp_path):
    """Each row has its own verdict, whatever the order; a table of an earlier version gets empty ones."""
    marks = tuple(Candidate((float(n), 2.0, -300.5), 4.0, 0.1 + 0.2 * n) for n in range(3))
    verdicts = ("below the operating point", "no nodule", "finding")
    write_report(make_report(candidates=marks, verdicts=verdicts), tmp_path)
    write_report(make_report(study=study_of("1.9"), candidates=marks[:1]), tmp_path)
    old = tmp_path / "studies" / _key("1.9") / "candidates.csv"
    old.write_text("seriesuid,coordX,coordY,coordZ,probability\n1.9.5,1,2,3,0.5\n", encoding="utf-8")
    tables(tmp_path)
    rows = _rows(tmp_path / "candidates.csv")
    assert [(row["coordX"], row["verdict"]) for row in rows] == [
        ("2.0000", "finding"), ("1.0000", "no nodule"), ("0.0000", "below the operating point"), ("1", ""),
    ]  # fmt: skip


def test_worklist_order(tmp_path):
    """Refused on top; then category, malignancy probability, detection score."""
    order = [
        ("1.1", "4X", 0.1, 0.1), ("1.2", "4B", 0.9, 0.1), ("1.3", "0", 0.99, 0.9), ("1.4", "4A", 0.8, 0.1),
        ("1.5", "4A", 0.2, 0.9), ("1.6", "4A", 0.2, 0.3), ("1.7", "4A", None, 0.99), ("1.8", "3", 0.9, 0.9),
        ("1.9", "2", 0.9, 0.9), ("1.10", "1", 0.9, 0.9), ("1.11", "not assessed", 0.99, 0.9),
    ]  # fmt: skip
    for uid, category, probability, score in reversed(order):
        write_report(_report(uid, category, probability, score), tmp_path)
    write_report(_report("1.12", "not assessed", findings=0), tmp_path)
    refusals = [
        Refusal("1.99", "no-ct", "no CT in it", "study", "1.99", "P-9"),
        Refusal("1.98", "internal-error", "it failed", "study", "1.98", "P-8"),
        Refusal("/inbox/a.dcm", "not-ct", "a file only", "file"),
    ]
    tables(tmp_path, refusals)
    rows = _rows(tmp_path / "worklist.csv")
    assert [row["study_uid"] for row in rows] == ["1.98", "1.99", *(uid for uid, *_ in order), "1.12"]
    assert [row["rank"] for row in rows] == [str(n) for n in range(1, 15)]
    assert [row["status"] for row in rows] == ["failed", "refused"] + ["done"] * 12
    assert rows[1] == {
        "rank": "2", "patient_id": "P-9", "study_uid": "1.99", "status": "refused", "code": "no-ct", "category": "",
        "top_probability": "", "findings": "", "report": "", "accession_number": "", "exam_date": "", "doubtful": "",
    }  # fmt: skip
    assert rows[2]["report"] == f"studies/{_key('1.1')}/report.html"
    assert (tmp_path / rows[2]["report"]).is_file()
    assert rows[2]["top_probability"] == "0.1"
    assert (rows[-1]["findings"], rows[-1]["top_probability"]) == ("0", "")
    page = (tmp_path / "worklist.html").read_text()
    assert page.index("1.98") < page.index("1.99") < page.index(_key("1.1")) < page.index(_key("1.12"))


def test_second_run_keeps_other_studies_and_replaces_its_own(tmp_path):
    write_report(_report("1.1", "2"), tmp_path)
    write_report(_report("1.2", "3"), tmp_path)
    tables(tmp_path, [Refusal("1.3", "no-ct", "refused", "study", "1.3")])
    write_report(_report("1.2", "4B"), tmp_path)
    write_report(_report("1.3", "1"), tmp_path)
    tables(tmp_path)
    worklist = {row["study_uid"]: row for row in _rows(tmp_path / "worklist.csv")}
    assert {uid: row["category"] for uid, row in worklist.items()} == {"1.1": "2", "1.2": "4B", "1.3": "1"}
    assert worklist["1.3"]["status"] == "done"
    assert {row["study_uid"] for row in _rows(tmp_path / "findings.csv")} == {"1.1", "1.2", "1.3"}


def test_study_refused_now_keeps_its_earlier_result_and_rank(tmp_path):
    write_report(_report("1.1", "4A", 0.7), tmp_path)
    write_report(_report("1.2", "3", 0.7), tmp_path)
    tables(tmp_path, [Refusal("1.1", "no-ct", "half of it is gone", "study", "1.1", "P-17")])
    rows = _rows(tmp_path / "worklist.csv")
    assert [(row["study_uid"], row["status"], row["category"]) for row in rows] == [
        ("1.1", "refused", ""), ("1.1", "done", "4A"), ("1.2", "done", "3"),
    ]  # fmt: skip
    assert rows[0]["report"] == ""
    assert "An earlier result of this study stands below" in (tmp_path / "worklist.html").read_text()
    assert len(_rows(tmp_path / "findings.csv")) == 2


def test_one_study_uid_under_two_names_is_two_reports(tmp_path):
    """A copied study keeps its UIDs: neither replaces the other, and each replaces itself."""
    jane, john = Patient("P-17", "Doe^Jane"), Patient("P-17", "Doe^John")
    for _ in range(2):
        folders = [write_report(_report("1.1", "2", patient=patient), tmp_path) for patient in (jane, john)]
    assert len(set(folders)) == 2
    assert sorted(p.name for p in (tmp_path / "studies").iterdir()) == sorted(folder.name for folder in folders)
    tables(tmp_path)
    rows = _rows(tmp_path / "worklist.csv")
    assert {row["report"] for row in rows} == {f"studies/{folder.name}/report.html" for folder in folders}
    assert "Doe, Jane" in (folders[0] / "report.html").read_text()
    assert "Doe, John" in (folders[1] / "report.html").read_text()
    assert json.loads((folders[1] / "report.json").read_text())["key"] == folders[1].name


def test_damaged_results_are_said_and_stop_nothing(tmp_path):
    write_report(_report("1.1"), tmp_path)
    write_report(_report("1.2"), tmp_path)
    (tmp_path / "studies" / _key("1.1") / "report.json").write_text("{")
    tables(tmp_path)
    assert [row["study_uid"] for row in _rows(tmp_path / "worklist.csv")] == ["1.2"]
    (row,) = _rows(tmp_path / "refused.csv")
    assert row["code"] == "output-failed"


@pytest.mark.parametrize("start", ["=cmd()", "+1", "-1", "@SUM", "\t=1", "\r=1", '"=1'])
def test_foreign_cells_start_no_formula(tmp_path, start):
    """Patient ID, UIDs, paths and reasons; a number that is negative stays a number."""
    patient = Patient(start, "A^B")
    volume = make_volume()
    volume = replace(volume, series=replace(volume.series, series_uid=start))
    write_report(make_report(make_finding(volume), volume=volume, study=study_of(f"{start}1", patient)), tmp_path)
    tables(tmp_path, [Refusal(start, "no-ct", start, "study", f"{start}2", start)])
    for name in ("worklist.csv", "findings.csv", "candidates.csv", "refused.csv"):
        with (tmp_path / name).open(newline="", encoding="utf-8") as file:
            cells = [cell for row in csv.reader(file) for cell in row]
        assert not [c for c in cells if c[:1] in tuple("=+@\t\r") or (c.startswith("-") and not _is_number(c))]
        assert all(c.isprintable() for c in cells)
    assert _rows(tmp_path / "findings.csv")[0]["x_mm"] == "-9.0"


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return "." in text


def test_huge_strings_are_bounded(tmp_path):
    patient = Patient("I" * 65536, "N" * 65536)
    write_report(make_report(study=study_of("1.1", patient)), tmp_path)
    tables(tmp_path, [Refusal("/" + "p" * 65536, "no-ct", "r" * 65536)])
    assert max(len(line) for line in (tmp_path / "refused.csv").read_text().splitlines()) < 5000
    assert (tmp_path / "worklist.html").stat().st_size < 60_000


def test_reports_that_did_not_change_are_not_read_again(tmp_path, monkeypatch):
    """A table that is written again and again in a night of thousands: what changed, came or went is seen."""
    read, opened = ResultsFolder.read, []
    monkeypatch.setattr(ResultsFolder, "read", lambda self, key: opened.append(key) or read(self, key))
    known: dict[str, StudyRows] = {}
    for uid in ("1.2", "1.3"):
        write_report(_report(uid, "2"), tmp_path)
    tables(tmp_path, known=known)
    assert len(opened) == 2
    first = (tmp_path / "worklist.html").read_bytes()
    tables(tmp_path, known=known)
    assert len(opened) == 2
    assert (tmp_path / "worklist.html").read_bytes() == first
    write_report(_report("1.3", "4B", findings=2), tmp_path)
    write_report(_report("1.4", "3"), tmp_path)
    for file in (tmp_path / "studies" / _key("1.2")).iterdir():
        file.unlink()
    tables(tmp_path, known=known)
    assert opened[2:] == sorted([_key("1.3"), _key("1.4")])
    rows = _rows(tmp_path / "worklist.csv")
    assert [(row["study_uid"], row["category"], row["findings"]) for row in rows] == [
        ("1.3", "4B", "2"),
        ("1.4", "3", "1"),
    ]
    assert len(_rows(tmp_path / "findings.csv")) == 3
