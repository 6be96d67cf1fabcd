"""`lungscreen export`: from what stands on disk, the same files as at once; what `--outputs` says beforehand."""

from __future__ import annotations

import importlib.util
from dataclasses import replace
from pathlib import Path

import pytest
from dicom_results import chest_report, read_chest, some_findings, write_chest
from report_examples import finish, make_report

from lungscreen.cli.main import main
from lungscreen.outputs.registry import OutputsConfig
from lungscreen.outputs.write import write_study
from lungscreen.records import Report
from lungscreen.results.folder import ResultsFolder
from lungscreen.volume import source_fingerprint

ALL = ("masks", "pdf", "fhir", "dicom", "dicom-labelmap", "dicom-kos", "dicom-gsps", "dicom-cad")


def known(report: Report) -> Report:
    """The report with the provenance of the series it was read from."""
    series = report.volume.series
    provenance = replace(
        report.provenance, series_uid=series.series_uid, sop_instance_uids_sha256=source_fingerprint(series)
    )
    return replace(report, provenance=provenance)


def written(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.suffix in (".dcm", ".pdf")}


@pytest.mark.parametrize("kind", ["axial", "feet first", "tilted", "enhanced"])
def test_later_gives_the_same_bytes_as_at_once(tmp_path, kind, capsys):
    """Masks read back, the series read again, the document from report.json."""
    report = known(chest_report(tmp_path / "ct", kind, 2))
    study = write_study(finish(report), ResultsFolder(tmp_path / "results"), OutputsConfig(ALL))
    names = ",".join(ALL[1:])
    arguments = ["export", str(tmp_path / "results"), "--to", names, "--out", str(tmp_path / "later")]
    assert main([*arguments, "--input", str(tmp_path / "ct")]) == 0
    assert str(tmp_path / "later" / study.name) in capsys.readouterr().out
    at_once, later = written(study), written(tmp_path / "later" / study.name)
    assert later.keys() == at_once.keys()
    assert len(later) == 14
    assert all(later[name] == at_once[name] for name in at_once)
    assert (tmp_path / "later" / study.name / "fhir.json").read_bytes() == (study / "fhir.json").read_bytes()


def test_one_study_of_several(tmp_path):
    """By its key; fhir needs neither masks nor the series."""
    report = known(chest_report(tmp_path / "ct", "axial", 1))
    study = write_study(finish(report), ResultsFolder(tmp_path / "results"))
    arguments = ["export", str(tmp_path / "results"), "--to", "fhir", "--out", str(tmp_path / "later")]
    assert main([*arguments, "--study", study.name]) == 0
    assert [path.name for path in (tmp_path / "later" / study.name).iterdir()] == ["fhir.json"]
    assert main([*arguments, "--study", "0" * 12]) == 1


@pytest.mark.parametrize(
    ("spoil", "code"),
    [
        ("no masks", "export-masks-missing"),
        ("damaged mask", "export-masks-missing"),
        ("no series", "export-series-missing"),
        ("a slice less", "export-series-missing"),
    ],
)
def test_what_cannot_be_made_is_said(tmp_path, spoil, code, capsys):
    """With its code; nothing half is left in the target."""
    report = known(chest_report(tmp_path / "ct", "axial", 1))
    study = write_study(finish(report), ResultsFolder(tmp_path / "results"), OutputsConfig(("masks",)))
    slices = sorted((tmp_path / "ct").glob("*.dcm"))
    match spoil:
        case "no masks":
            (study / "lungs.nii.gz").unlink()
        case "damaged mask":
            (study / "findings.nii.gz").write_bytes(b"\x1f\x8b nothing")
        case "no series":
            for path in slices:
                path.unlink()
            write_chest(tmp_path / "ct")  # another series of the same person
        case "a slice less":
            slices[0].unlink()
    arguments = ["export", str(tmp_path / "results"), "--to", "dicom", "--out", str(tmp_path / "later")]
    assert main([*arguments, "--input", str(tmp_path / "ct")]) == 1
    assert f"[{code}]" in capsys.readouterr().err
    assert not list((tmp_path / "later").rglob("*.dcm"))


@pytest.mark.parametrize("arguments", [["--to", "dicom"], ["--to", "page"], ["--to", ""]])
def test_words_that_cannot_work(tmp_path, arguments):
    """Objects without the series' folder, an output that is none of these."""
    (tmp_path / "results").mkdir()
    assert main(["export", str(tmp_path / "results"), *arguments, "--out", str(tmp_path / "later")]) == 2


def test_a_missing_extra_ends_the_command_before_anything_is_read(tmp_path, monkeypatch, capsys):
    """The message names the extra to install; no result folder is begun."""
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *rest: None if name == "fpdf" else find(name, *rest))
    write_chest(tmp_path / "ct")
    assert main(["screen", str(tmp_path / "ct"), "--out", str(tmp_path / "results"), "--outputs", "dicom"]) == 2
    said = capsys.readouterr().err
    assert "extra-missing" in said
    assert "lungscreen[dicom]" in said
    assert not (tmp_path / "results").exists()


def test_some_findings_are_at_different_places(tmp_path):
    """What the tests above rest on: no outline hides another, or masks could not tell them apart."""
    volume = read_chest(write_chest(tmp_path))
    report = make_report(*some_findings(volume, 2), volume=volume)
    places = {finding.candidate.centre_mm for finding in report.findings}
    assert len(places) == 2
