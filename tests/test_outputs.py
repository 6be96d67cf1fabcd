"""Outputs behind one interface: picked by name, written as a whole, never over each other."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO

import pytest
from batch_inbox import add_image
from batch_models import MODELS
from report_examples import finish, make_finding, make_report, make_volume, write_report

from lungscreen.batch import BatchConfig, BatchRun, run_batch
from lungscreen.cli.main import main
from lungscreen.errors import UsageError
from lungscreen.outputs import registry
from lungscreen.outputs.interface import NamedFile
from lungscreen.outputs.registry import OUTPUTS, OutputsConfig, load_output
from lungscreen.outputs.write import write_study
from lungscreen.pipeline import pipeline_hash, read_pipeline
from lungscreen.results.finished import Finished
from lungscreen.results.folder import ResultsFolder


class Large:
    """An output that writes into an open file."""

    def files(self, finished: Finished) -> Iterator[NamedFile]:
        def write(file: BinaryIO) -> None:
            for _ in range(3):
                file.write(finished.document.category.encode())

        yield NamedFile("large.bin", write)


class Outside(Large):
    """Names a place outside of the study's folder."""

    def files(self, finished: Finished) -> Iterator[NamedFile]:
        yield NamedFile("../large.bin", b"")


class Twice(Large):
    """Names a file that another output has written."""

    def files(self, finished: Finished) -> Iterator[NamedFile]:
        yield NamedFile("report.json", b"{}")


@pytest.fixture
def foreign(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> OutputsConfig:
    """One more output, named as a site's own would be."""
    monkeypatch.setitem(OUTPUTS, "foreign", f"{__name__}:{request.param}")
    return OutputsConfig(("foreign",))


@pytest.mark.parametrize("foreign", ["Large"], indirect=True)
def test_a_writer_writes_into_the_file(foreign: OutputsConfig, tmp_path: Path) -> None:
    folder = write_study(
        finish(make_report(make_finding(make_volume(), category="4A"))), ResultsFolder(tmp_path), foreign
    )
    assert (folder / "large.bin").read_bytes() == b"4A4A4A"
    assert sorted(path.name for path in folder.iterdir()) == ["large.bin", "report.json"]


@pytest.mark.parametrize("foreign", ["Outside", "Twice"], indirect=True)
def test_a_file_lies_in_its_folder_once(foreign: OutputsConfig, tmp_path: Path) -> None:
    """Where an output does otherwise, earlier results stay whole."""
    before = write_report(make_report(), tmp_path)
    names = sorted(path.name for path in before.iterdir())
    with pytest.raises(AssertionError, match="plain file name"):
        write_study(finish(make_report(cut_off=3)), ResultsFolder(tmp_path), foreign)
    assert sorted(path.name for path in before.iterdir()) == names
    assert json.loads((before / "report.json").read_text())["cut_off"] == 0
    assert [path.name for path in tmp_path.iterdir()] == ["studies"]


@pytest.mark.parametrize("name", ["json", "page", "candidates", "masks"])
def test_the_same_study_gives_the_same_files(name: str) -> None:
    finished = finish(make_report(make_finding(make_volume())))
    files = [[(file.name, file.content) for file in load_output(name).files(finished)] for _ in range(2)]
    assert files[0] == files[1]
    assert files[0]


def test_json_is_always_written_and_first() -> None:
    assert OutputsConfig(("masks", "page")).names == ("json", "page", "masks")
    assert OutputsConfig(()).names == ("json",)


def test_the_table_of_outputs_loads_no_library() -> None:
    """The help of a command has their names."""
    code = (
        "import sys, lungscreen.outputs.registry; print({'numpy', 'PIL', 'pydicom', 'jsonschema'} & set(sys.modules))"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert shown.strip() == "set()"


def test_an_unknown_output_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """In a pipeline and on the command line; nothing is written."""
    file = tmp_path / "mine.toml"
    file.write_text('name = "mine"\n[outputs]\nwrite = ["page", "fax"]\n')
    with pytest.raises(UsageError, match="config-invalid: no output 'fax'"):
        read_pipeline(str(file))
    assert main(["screen", str(tmp_path), "--out", str(tmp_path / "out"), "--outputs", "page,fax"]) == 2
    assert "usage: no output 'fax'; there are: json, page" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_outputs_change_no_result() -> None:
    """The hash over what is found and said stays."""
    pipeline = read_pipeline("screening")
    assert pipeline_hash(replace(pipeline, outputs=OutputsConfig(("masks",)))) == pipeline_hash(pipeline)
    assert pipeline_hash(replace(pipeline, findings=replace(pipeline.findings, most=3))) != pipeline_hash(pipeline)


def test_other_outputs_make_a_study_new_and_links_follow(tmp_path: Path) -> None:
    """Without a page the worklist and the morning page link to report.json; the outputs of the last run are there."""
    add_image(tmp_path / "in", 1)
    out = tmp_path / "out"
    for write, files in (
        ((), {"report.json"}),
        (("page", "masks"), {"report.json", "report.html", "lungs.nii.gz", "findings.nii.gz"}),
    ):
        pipeline = replace(read_pipeline("screening"), outputs=OutputsConfig(write))
        config = BatchConfig(keep_free_mb=0.0)
        run = BatchRun([tmp_path / "in"], out, pipeline, engine="here", config=config, key_file=key_file(tmp_path))
        assert run_batch(run, models=MODELS).states["done"] == 1
        (study,) = (out / "studies").iterdir()
        assert {path.name for path in study.iterdir()} == files
        link = f"studies/{study.name}/{'report.html' if 'page' in write else 'report.json'}"
        assert f'href="{link}"' in (out / "worklist.html").read_text(encoding="utf-8")
        assert link in (out / "worklist.csv").read_text(encoding="utf-8")
        assert json.loads((out / "night.json").read_text(encoding="utf-8"))["ranked"][0]["report"] == link


def key_file(folder: Path) -> Path:
    path = folder / "key"
    if not path.exists():
        path.write_text("k" * 32)
        path.chmod(0o600)
    return path


def test_every_output_has_a_class() -> None:
    """What the table names is there."""
    for name, where in OUTPUTS.items():
        module, _, kind = where.partition(":")
        assert kind in Path(*module.split(".")).with_suffix(".py").read_text(encoding="utf-8"), name
    assert registry.ALWAYS in OUTPUTS
