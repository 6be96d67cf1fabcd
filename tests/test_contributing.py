"""The recipes of docs/contributing.md do what they say: applied to a copy of the package, which is then run."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from house import PACKAGE

ROOT = PACKAGE.parent
PAGE = (ROOT / "docs" / "contributing.md").read_text(encoding="utf-8")

FIELD = """
from dataclasses import replace
from report_examples import finish, make_finding, make_report, make_volume
from lungscreen.measure import measure_nodules
from lungscreen.outputs import report_json
from lungscreen.outputs.page import report_page
from lungscreen.outputs.page.planes import PictureConfig
from lungscreen.records import Candidate
from lungscreen.results.columns import finding_cells, finding_columns, owner_of
from lungscreen.results.schema import report_schema

volume = make_volume()
finding = make_finding(volume)
measured = measure_nodules(volume, None, [replace(finding.candidate)])[0]
size = measured.measurement
assert size.axis_ratio == size.long_axis_mm / size.short_axis_mm, size
finished = finish(make_report(replace(finding, measured=measured), volume=volume))
shown = f"{size.axis_ratio:.2f}"
assert f'"axis_ratio": {float(shown)}' in report_json.document_json(finished.document)
assert "axis_ratio" in str(report_schema())
cells = finding_cells(owner_of(finished.document), 1, finished.document.findings[0])
assert finding_columns()[-1] == "axis_ratio" and float(cells[-1]) == float(shown)
page = report_page(finished, PictureConfig())
assert "Long over short axis" in page and shown in page
"""

OUTPUT = """
from report_examples import finish, make_finding, make_report, make_volume
from lungscreen.outputs.registry import OutputsConfig, load_output

volume = make_volume()
finished = finish(make_report(make_finding(volume), volume=volume))
assert OutputsConfig(("summary",)).names == ("json", "summary")
(file,) = load_output("summary").files(finished)
assert file.name == "summary.txt"
assert file.content == f"Lung-RADS {finished.document.category}, 1 findings\\n"
"""

GUIDELINE = """
from report_examples import make_finding, make_volume
from lungscreen.assess import AssessConfig, advise_findings

assert AssessConfig(guidelines=("own-2026",)).guidelines == ("own-2026",)
(finding,) = advise_findings([make_finding(make_volume())], ["own-2026"], None)
(advice,) = finding.grade.advice
assert (advice.guideline, advice.advice) == ("Own protocol 2026", "discuss in the board"), advice
"""

NETWORK = """
from dataclasses import replace
from report_examples import make_volume
from lungscreen.lungs import LungsConfig, segment_lungs

config = LungsConfig(segmenter="halves", min_ml=1.0, small_ml=2.0)
volume = make_volume()
lungs = segment_lungs(volume, config)
middle = volume.hu.shape[2] // 2
assert set(lungs.mask[:, :, :middle].ravel()) == {0, 1} and set(lungs.mask[:, :, middle:].ravel()) == {0, 2}
assert "airways-not-found" in {notice.code for notice in lungs.notices}, lungs.notices
"""

RECIPES = {"A field of a finding": FIELD, "An output": OUTPUT, "A guideline": GUIDELINE, "A network": NETWORK}


@pytest.mark.parametrize("title", RECIPES)
def test_a_recipe_does_what_it_says(title: str, tmp_path: Path) -> None:
    """Its lines fit where it says they belong, and what they add works."""
    shutil.copytree(PACKAGE, tmp_path / "lungscreen", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("weights", "pipelines"):
        (tmp_path / name).symlink_to(ROOT / name)
    changed = {apply_block(block, tmp_path) for block in blocks_of(title)}
    assert len(changed) <= 4, "a recipe of more files is no recipe"
    path = os.pathsep.join((str(tmp_path), str(ROOT / "tests")))
    environment = os.environ | {"PYTHONPATH": path, "PYTHONDONTWRITEBYTECODE": "1"}
    check = f"import lungscreen\nassert lungscreen.__file__.startswith({str(tmp_path)!r})\n{RECIPES[title]}"
    command = [sys.executable, "-c", check]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_every_recipe_of_the_page_is_tried() -> None:
    assert set(re.findall(r"^### (.+)$", PAGE, re.MULTILINE)) == set(RECIPES)


def blocks_of(title: str) -> list[str]:
    """The code blocks below a heading."""
    section = PAGE.split(f"\n### {title}\n")[1].split("\n### ")[0].split("\n## ")[0]
    return re.findall(r"```diff\n(.*?)```", section, re.DOTALL)


def apply_block(block: str, folder: Path) -> str:
    """Write the new lines of a block where its other lines stand, which must be once. Returns the file's name."""
    head, *lines = block.splitlines()
    name = head.removeprefix("--- ")
    new = [line[1:] for line in lines]
    old = [line[1:] for line in lines if not line.startswith("+")]
    path = folder / name
    if not old:
        assert not path.exists()
        path.write_text("\n".join(new) + "\n", encoding="utf-8")
        return name
    text = f"\n{path.read_text(encoding='utf-8')}"
    before, after = (f"\n{chr(10).join(some)}\n" for some in (old, new))
    assert text.count(before) == 1, f"{name} has these lines {text.count(before)} times: {old}"
    path.write_text(text.replace(before, after)[1:], encoding="utf-8")
    return name
