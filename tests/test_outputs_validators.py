"""DICOM objects of real studies and of phantoms before other people's validators and readers, through `screen`.

`make test-validators`: some minutes. The small series of every kind are in
test_outputs_dicom.py.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from conftest import shared_folder
from dicom_results import ALL_DICOM, chest_report, run_program, validator_errors, write_objects
from report_examples import finish

from lungscreen.cli.exit_codes import ExitCode
from lungscreen.cli.main import main
from lungscreen.outputs.registry import load_output

pytestmark = pytest.mark.slow

PIXELMED = Path("/usr/share/java/pixelmed.jar")
FHIR_JS = Path(__file__).resolve().parents[1] / ".venv" / "validators" / "node_modules" / "fhir"

PHANTOMS = {
    "small": (["--size", "small", "--seed", "2100"], 8),
    "small, none": (["--size", "small", "--seed", "2200", "--no-nodules"], 4),
    "small, many": (["--size", "small", "--seed", "2300", "--nodules", "20"], 2),
    "small, emphysema": (["--size", "small", "--seed", "2400", "--emphysema", "--arms-down"], 2),
    "small, JPEG-LS": (["--size", "small", "--seed", "2500", "--syntax", "jpeg-ls", "--cut-apex"], 2),
    "small, ultra-low": (["--size", "small", "--seed", "2600", "--dose", "ultra-low", "--kernel", "sharp"], 2),
}
"""Twenty: what `lungscreen phantom` is asked for, and how many."""


def real_studies() -> list[str]:
    shared = Path(__file__).resolve().parents[2] / "shared" / "data"
    return sorted(str(path.relative_to(shared)) for part in ("dicom", "lungbox") for path in (shared / part).glob("*"))


def check_objects(studies: Path, out: Path) -> int:
    """No error of any program; returns how many objects there are."""
    assert main(["screen", str(studies), "--out", str(out), "--outputs", ",".join(ALL_DICOM)]) == ExitCode.OK
    found = 0
    for folder in sorted(out.glob("studies/*")):
        objects = sorted(folder.glob("*.dcm"))
        found += len(objects)
        assert validator_errors("dciodvfy", objects) == []
        assert "Report" in run_program("dsrdump", str(folder / "dicom-sr.dcm"))
        written = folder / "measured.json"
        run_program("tid1500reader", "--inputDICOM", str(folder / "dicom-sr.dcm"), "--outputMetadata", str(written))
        for path in folder.glob("dicom-seg-*.dcm"):
            segments = folder / path.stem
            segments.mkdir()
            words = ["--inputDICOM", str(path), "--outputDirectory", str(segments), "--outputType", "nrrd"]
            run_program("segimage2itkimage", *words)
            assert list(segments.glob("*.nrrd"))
    return found


def entity_errors(studies: Path, out: Path) -> list[str]:
    """What dcentvfy says of slices and objects together that it does not say of the slices alone; but for elements in
    which the slices contradict each other (of LUNG1-003 each has a StudyTime of its own: no object agrees with all).
    """
    slices = [path for path in sorted(studies.rglob("*")) if path.is_file()]
    alone = validator_errors("dcentvfy", slices)
    torn = {found for line in alone for found in re.findall(r"Element=<\w+>", line)}
    together = validator_errors("dcentvfy", [*slices, *sorted(out.glob("studies/*/*.dcm"))])
    return [line for line in together if line not in alone and not any(element in line for element in torn)]


@pytest.mark.parametrize("name", real_studies())
def test_objects_of_a_real_study_are_valid(name: str, tmp_path: Path) -> None:
    study = shared_folder("data", name)
    assert check_objects(study, tmp_path / "out") >= 5
    assert entity_errors(study, tmp_path / "out") == []


@pytest.mark.parametrize("name", PHANTOMS)
def test_objects_of_phantoms_are_valid(name: str, tmp_path: Path) -> None:
    words, count = PHANTOMS[name]
    studies = tmp_path / "studies"
    assert main(["phantom", "--out", str(studies), "--patients", str(count), *words]) == ExitCode.OK
    assert check_objects(studies, tmp_path / "out") >= 5 * count
    assert entity_errors(studies, tmp_path / "out") == []


@pytest.mark.skipif(not (shutil.which("java") and PIXELMED.exists()), reason="make test-validators installs PixelMed")
@pytest.mark.parametrize("count", [0, 2])
def test_pixelmed_finds_no_error_in_the_structured_report(count: int, tmp_path: Path) -> None:
    """Its templates (TID 1500) know each content item; what a template does not list is a warning, not an error."""
    paths = write_objects(chest_report(tmp_path / "ct", "axial", count), tmp_path / "out", "dicom")
    (report,) = (path for path in paths if path.name == "dicom-sr.dcm")
    limits = [f"-Djdk.xml.xpath{name}Limit=0" for name in ("TotalOp", "ExprOp", "ExprGrp")]
    command = ["java", *limits, "-cp", str(PIXELMED), "com.pixelmed.validate.DicomSRValidator", str(report)]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    lines = (ended.stdout + ended.stderr).splitlines()
    assert "Found Root Template TID_1500 (MeasurementReport)" in lines
    assert [line for line in lines if "rror" in line and not line.startswith("Warning")] == []


FHIR_LOOK = """
const { Fhir } = require('fhir'), fs = require('fs');
const found = new Fhir().validate(JSON.parse(fs.readFileSync(process.argv[1], 'utf8')), { errorOnUnexpected: true });
console.log(JSON.stringify(found.messages.filter(one => ['error', 'fatal'].includes(one.severity))));
"""


@pytest.mark.skipif(not (shutil.which("node") and FHIR_JS.exists()), reason="make test-validators installs FHIR.js")
@pytest.mark.parametrize("count", [0, 20])
def test_fhir_js_finds_no_error_in_the_bundle(count: int, tmp_path: Path) -> None:
    """A second implementation of FHIR R4 beside fhir.resources."""
    report = chest_report(tmp_path / "ct", "axial", count)
    (file,) = load_output("fhir").files(finish(report))
    (tmp_path / "fhir.json").write_text(str(file.content), encoding="utf-8")
    command = ["node", "-e", FHIR_LOOK, str(tmp_path / "fhir.json")]
    ended = subprocess.run(command, capture_output=True, text=True, check=True, cwd=FHIR_JS.parents[1])
    assert json.loads(ended.stdout) == []
