"""Pictures of misses and false marks: the right place, the right way up, and what is said where there is none."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
from PIL import Image
from small_chest import chest, mm, write_image

from lungscreen.cli.main import main
from lungscreen.evaluation import DetectionConfig, MarkTable, Nodules, evaluate_detection
from lungscreen.evaluation.pictures import PIXELS, Place, draw_places, missed_places


def panels(png: bytes) -> list[np.ndarray]:
    """The three planes of the first place: axial, coronal, sagittal; grey."""
    sheet = np.array(Image.open(io.BytesIO(png)).convert("L"))
    return [sheet[16 : 16 + PIXELS, n * (PIXELS + 6) : n * (PIXELS + 6) + PIXELS] for n in range(3)]


def test_planes_show_the_place_as_a_reader_expects(tmp_path: Path) -> None:
    """A bright rod from a point towards the patient's left, another down the back, a third up: each where it
    belongs.
    """
    hu = chest()
    hu[30, 24, 20:24] = 500
    hu[30, 24:28, 20] = 500
    hu[30:33, 24, 20] = 500
    write_image(tmp_path / "one.nii.gz", hu)
    sheets, notices = draw_places(tmp_path, {"a": [Place("one", mm(30, 24, 20), 2.0, "x")], "none": []})
    assert notices == ()
    assert sheets["none"] is None
    axial, coronal, sagittal = panels(sheets["a"] or b"")
    middle, off = PIXELS // 2, 17
    assert axial[middle, middle + off] == axial[middle + off, middle] == 255
    assert max(axial[middle, middle - off], axial[middle - off, middle]) < 120
    assert coronal[middle, middle + off] == coronal[middle - off, middle] == 255
    assert max(coronal[middle, middle - off], coronal[middle + off, middle]) < 120
    assert sagittal[middle, middle + off] == sagittal[middle - off, middle] == 255


def test_places_at_the_edge_and_beyond_are_drawn(tmp_path: Path) -> None:
    write_image(tmp_path / "one.nii.gz", chest())
    places = [Place("one", mm(0, 0, 0), -1.0, "edge"), Place("one", (900.0, 0.0, 0.0), 4.0, "away"), *[]]
    sheets, _ = draw_places(tmp_path, {"a": places})
    assert Image.open(io.BytesIO(sheets["a"] or b"")).size == (2 * (3 * PIXELS + 12 + 12) - 12, PIXELS + 16)


def test_command_draws_what_it_can_and_says_what_it_cannot(tmp_path: Path) -> None:
    """One scan is there, one is missing, one is broken."""
    images = tmp_path / "images"
    write_image(images / "one.nii.gz", chest())
    (images / "two.mha").write_bytes(b"ObjectType = Image\nno image")
    x, y, z = mm(30, 24, 20)
    (tmp_path / "a.csv").write_text(
        f"seriesuid,x_mm,y_mm,z_mm,diameter_mm,type\none,{x},{y},{z},8,solid\ntwo,{x},{y},{z},8,\n"
    )
    (tmp_path / "c.csv").write_text(f"seriesuid,x_mm,y_mm,z_mm,score\none,{x + 30},{y},{z},0.9\nthree,0,0,0,0.4\n")
    (tmp_path / "s.csv").write_text("one\ntwo\nthree\n")
    words = [
        w
        for n, f in (("candidates", "c"), ("annotations", "a"), ("series", "s"))
        for w in (f"--{n}", str(tmp_path / f"{f}.csv"))
    ]
    out = tmp_path / "out"
    assert main(["evaluate", "detection", *words, "--images", str(images), "--out", str(out)]) == 0
    written = json.loads((out / "evaluation.json").read_text())
    missing = [n["text"] for n in written["notices"] if n["code"] == "picture-missing"]
    assert sum("series two" in text or "series three" in text for text in missing) == 2
    assert (out / "misses.png").exists()
    assert (out / "false_positives.png").exists()


def test_nodules_below_the_operating_point_are_shown_among_the_misses() -> None:
    """A nodule that a mark hits too weakly is one that the reader never sees: the weakest first, behind the true
    misses.
    """
    centres = np.array([[0.0, 0, 0], [50.0, 0, 0], [100.0, 0, 0], [150.0, 0, 0]])
    marks = MarkTable(("a",) * 3, centres[:3], np.array([0.9, 0.3, 0.2]))
    nodules = Nodules(("a",) * 4, centres, np.array([8.0, 9.0, 10.0, 11.0]))
    for threshold, expected in (
        (0.5, ["miss 1: 11.0 mm", "below 0.5: 10.0 mm, score 0.2", "below 0.5: 9.0 mm, score 0.3"]),
        (None, ["miss 1: 11.0 mm"]),
    ):
        config = DetectionConfig(bootstrap_samples=20, threshold=threshold)
        result = evaluate_detection(marks, nodules, Nodules.none(), ["a"], config)
        assert [place.caption for place in missed_places(result, 40)] == expected
        assert len(missed_places(result, 1)) == 1
