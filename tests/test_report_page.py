"""report.html and its pictures: well-formed, self-contained, escaped; every line lies where the anatomy lies."""

from __future__ import annotations

import base64
import io
import re
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image
from report_examples import (
    ACQUISITION,
    EXAM,
    GRID,
    changed,
    finish,
    key_of,
    make_finding,
    make_lungs,
    make_report,
    make_volume,
    page_of,
    shape_of,
    tables,
    write_report,
)

from lungscreen import RESEARCH_USE
from lungscreen.errors import Notice, Refusal
from lungscreen.geometry import Geometry
from lungscreen.outputs.page.contour import contour_lines
from lungscreen.outputs.page.lines import axes_of, crosshair
from lungscreen.outputs.page.overview import look_through, overview_svg
from lungscreen.outputs.page.pictures import crop_svg, heat_svg
from lungscreen.outputs.page.planes import PLANES, PictureConfig
from lungscreen.outputs.page.worklist import worklist_page
from lungscreen.records import (
    Acquisition,
    Attributes,
    Attribution,
    Exam,
    Location,
    NoduleType,
    Outline,
    Patient,
    Risk,
    Study,
)
from lungscreen.results.document import ATTRIBUTES_MEANING, MALIGNANCY_MEANING
from lungscreen.results.facts import facts_of
from lungscreen.results.ranking import done_row

CONFIG = PictureConfig()
VOID = {"meta", "input", "br", "link", "img", "hr"}
HOSTILE = "<script>alert(1)</script>\"'><img src=http://x/y onerror=z>\x1b[31m\u202e&amp;"


class _Page(HTMLParser):
    """Checks that tags are closed in order and gathers text, ids, links and everything that could be loaded."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.tags: set[str] = set()
        self.ids: list[str] = []
        self.sources: list[str] = []
        self.attributes: set[str] = set()
        self.text = ""
        self.feed(text)
        self.close()
        assert self.open == [], f"left open: {self.open}"

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        for name, value in attrs:
            self.attributes.add(name)
            if name == "id":
                self.ids.append(value)
            if name in ("href", "src", "srcset", "action", "data", "poster", "background"):
                self.sources.append(value)
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag):
        assert self.open, f"</{tag}> closes nothing"
        assert self.open.pop() == tag

    def handle_data(self, data):
        if "body" in self.open:
            self.text += data


def _check_safe(html: str) -> _Page:
    """Well-formed, unique ids, loads nothing, runs nothing."""
    page = _Page(html)
    assert len(page.ids) == len(set(page.ids))
    allowed = ("data:image/jpeg;base64,", "data:image/png;base64,", "#finding-", "studies/")
    assert [s for s in page.sources if not s.startswith(allowed)] == []
    assert {s.removeprefix("#") for s in page.sources if s.startswith("#")} <= set(page.ids)
    assert not page.tags & {"script", "iframe", "object", "embed", "link", "img", "form", "base"}
    assert not [a for a in page.attributes if a.startswith("on")]
    style = html[html.index("<style>") : html.index("</style>")]
    assert "url(" not in style
    assert "@import" not in style
    assert "default-src 'none'" in html
    return page


def _page(*findings, **changes):
    return _check_safe(page_of(make_report(*findings, **changes), CONFIG))


# -- what it says ----------------------------------------------------------------------------------------------------
def test_normal_report_is_a_whole_page():
    page = _page()
    assert RESEARCH_USE in page.text
    assert "No finding reached the operating point" in page.text
    assert "2412 ml" in page.text
    assert "Outlines" not in page.text, "nothing to switch"


def test_order_is_the_radiologists():
    volume = make_volume(notices=(Notice("kvp-not-validated", "Said first."),))
    text = _page(make_finding(volume), volume=volume).text
    marks = [
        RESEARCH_USE, "Doe, Jane Q", "Tube voltage", "Exam category", "Findings", "Said first.", "Overview",
        "Finding by finding", "Left upper lobe", "Right lung", "How this came about",
    ]  # fmt: skip
    places = [text.index(mark) for mark in marks]
    assert places == sorted(places)


def test_head_shows_the_header_readably():
    """Each value beside its name."""
    text = _page().text
    for label, value in {
        "Patient ID": "P-17", "Birth date": "1955-03-22", "Sex": "female", "Age at exam": "70 years",
        "Exam": "2026-02-12 08:15", "Prior exam": "none compared", "Accession number": "ACC-9",
        "Tube voltage": "120 kVp", "Dose": "150 mAs, 200 mA", "Kernel": "STANDARD", "Slice thickness": "1.25 mm",
    }.items():  # fmt: skip
        assert f"{label}{value}" in text, label
    assert text.index("Doe, Jane Q") < text.index("Patient ID")


def test_what_the_header_lacks_is_said():
    volume = make_volume(acquisition=Acquisition(kvp=0.0))
    text = _page(volume=volume, study=Study(Patient(), Exam("1.2"), (volume.series,))).text
    assert text.count("not in the header") >= 12
    assert "None" not in text
    assert "Tube voltage0" not in text


def test_finding_shows_everything_and_what_the_probability_means():
    volume = make_volume()
    findings = [make_finding(volume, category="4A", category_reason="A rule."), make_finding(volume, probability=0.002)]
    page = _page(*findings)
    first, second = page.text[page.text.index("1. Left upper lobe (estimated)") :].split(
        "2. Left upper lobe (estimated)"
    )
    for label, value in {
        "Long × short axis": "12.1 × 11.4 mm", "Mean diameter": "11.8 mm", "Volume": "841 ± 40 mm³",
        "Effective diameter": "11.7 mm", "Type": "solid", "Detection score": "0.900",
        "Place (LPS, mm)": "−9.0, 27.0, −275.0", "Axial, ": "slice 14 of 24 from the top, image 14",
    }.items():  # fmt: skip
        assert f"{label}{value}" in first, label
        assert f"{label}{value}" in second, label
    assert first.startswith("1. Left upper lobe (estimated)4AA rule.")
    assert "Malignancy probability40 %" in first
    assert "Malignancy probability< 1 %" in second
    assert "width 1500, level −600 HU" in page.text
    assert page.text.count(MALIGNANCY_MEANING) == 3, "under the table and at each finding"
    assert {"finding-1", "finding-2", "outlines", "light"} <= set(page.ids)


def test_unmeasured_finding_says_so():
    volume = make_volume()
    location = Location("right", "lower", 14)
    bare = make_finding(volume, probability=None, outline=None, measurement=None, location=location)
    page = _page(bare)
    for shown in (
        "not measured; the detector takes it for about 11 mm",
        "not classified",
        "right lung, lower zone",
        "≈ 11",
    ):
        assert shown in page.text
    assert "estimated" not in page.text
    unknown = make_finding(volume, location=Location("unknown", "unknown", 3), is_mass=True)
    text = _page(unknown).text
    assert "side unknown" in text
    assert "solid mass" in text


@pytest.mark.parametrize("diameter_mm", [0.0, float("nan")])
def test_mark_without_a_diameter_makes_a_page(tmp_path, diameter_mm):
    """A radiologist's own mark has no size."""
    finding = make_finding(make_volume(), outline=None, measurement=None)
    finding = replace(finding, candidate=replace(finding.candidate, diameter_mm=diameter_mm))
    page = _page(finding)
    assert "not measured" in page.text
    assert not re.search(r"\bnan\b", page.text)
    assert "detector takes it" not in page.text
    write_report(make_report(finding), tmp_path)


def test_cut_off_series_not_read_and_lung_flags_are_said():
    volume = make_volume(refused=(Refusal("1.9", "no-ct", "Half of it.", "series"),))
    study = Study(volume.series.patient, EXAM, (volume.series,), (Refusal("1.8", "not-ct", "A scout.", "series"),))
    report = make_report(make_finding(volume), volume=volume, study=study, cut_off=4)
    report = replace(report, lungs=replace(report.lungs, apex_cut=True, base_cut=True, incomplete=True))
    text = _check_safe(page_of(report, CONFIG)).text
    for shown in (
        "4 more above the operating point not listed", "A scout.", "Half of it.", "cuts the apex", "cuts the base",
        "large opacity",
    ):  # fmt: skip
        assert shown in text


def test_provenance_is_whole():
    text = _page().text
    for shown in ("0.1.0", "screening", "a" * 64, "b" * 64, "c" * 64, "d" * 64, "1.2.3.4.5", "detect 6.1"):
        assert shown in text
    volume = make_volume()
    image = replace(volume, series=replace(volume.series, kind="image"))
    assert "over the file" in _page(volume=image).text


def test_solid_part_and_ungraded_category_are_shown():
    volume = make_volume()
    finding = make_finding(volume)
    measured = replace(finding.measurement, solid_mean_diameter_mm=5.25, solid_volume_mm3=70.0, volume_sd_mm3=None)
    text = _page(changed(finding, measurement=measured, nodule_type=NoduleType.PART_SOLID)).text
    assert "5.3 mm, 70 mm³" in text
    assert "Solid part" not in _page(changed(finding, measurement=measured)).text, "only where a part of it is"
    assert "841 mm³" in text
    assert "not assessed" in text


def test_rules_and_published_models_stand_beside_the_probability():
    meaning = "probability that the nodule is lung cancer"
    risks = (
        Risk(
            "Brock 2a", 0.289, meaning, (), ("age from the DICOM header",), ("not its people",), ("unverified: a book",)
        ),
        Risk("Brock 2b", None, meaning, ("spiculation", "sex")),
        Risk("Other", None, "another thing", (), (), ("too large",)),
    )
    finding = make_finding(
        make_volume(),
        category="4A",
        category_clause="row 4A",
        management="CT in 3 months",
        growth="doubled",
        risks=risks,
    )
    text = _page(finding, not_assessed=("airway nodules", "atypical cysts")).text
    for shown in (
        "Probability that the nodule is lung cancer", "Brock 2a: 28.9 %", "assumed: age from the DICOM header",
        "not its people", "unverified: a book", "Not assessed: Brock 2b needs spiculation, sex", "Another thing",
        "Other too large", "CT in 3 months", "row 4A", "doubled", "Not assessed: airway nodules, atypical cysts.",
    ):  # fmt: skip
        assert shown in text, shown


def test_looks_place_and_second_look_stand_with_their_scales():
    attributes = Attributes(4.25, 3.1, 1.5, 2.8, 4.9, 0.004)
    volume = make_volume()
    seen = make_finding(
        volume,
        attributes=attributes,
        nodule_probability=0.987,
        location=Location("left", "middle", 14, 14, "", 3.4),
    )
    text = _page(seen, volume=volume).text
    for shown in (
        "spiculation 2.8 (5 marked)", "margin 3.1 (5 sharp)", "texture 4.9 (5 solid)", "< 1 % of readers",
        ATTRIBUTES_MEANING, "sphericity 4.3 (5 round)", "To a fissurenot assessed", "3.4 mm", "A nodule at all99 %",
    ):  # fmt: skip
        assert shown in text, shown
    for pleura, word in ((0.0, "bordertouches"), (10.0, "border10 mm or more"), (None, "bordernot assessed")):
        where = Location("left", "middle", 14, 14, "", pleura)
        assert word in _page(make_finding(volume, location=where), volume=volume).text
    flat = _page(make_finding(volume, attributes=replace(attributes, sphericity=None)), volume=volume).text
    assert "sphericity" not in flat
    for perifissural, distance, word in (
        (True, 0.0, "may touch (estimated)"),
        (False, 3.26, "3.3 mm (estimated)"),
        (False, None, "none seen within"),
    ):
        where = Location("left", "middle", 14, perifissural=perifissural, fissure_mm=distance)
        assert f"To a fissure{word}" in _page(make_finding(volume, location=where), volume=volume).text
    plain = _page(make_finding(volume), volume=volume).text
    assert "What it looks like" not in plain
    assert "A nodule at all" not in plain


def test_marks_that_are_no_nodules_have_a_table_of_their_own():
    """With picture, place and probability; without rating or category, and not among the findings."""
    volume = make_volume()
    bare = make_finding(volume, (12, 30, 20), 0.31, None, nodule_probability=0.02, second_look="no nodule")
    unmeasured = changed(bare, outline=None, measurement=None, nodule_probability=None)
    page = _page(
        make_finding(volume), volume=volume, no_nodules=(replace(bare, number=1), replace(unmeasured, number=2))
    )
    part = page.text[page.text.index("Marks that the second look takes for no nodule") :]
    for shown in ("0.310", "2 %", "11.8", "≈ 11", "was a finding of an earlier exam"):
        assert shown in part, shown
    assert page.text.count("Finding by finding") == 1
    assert "finding-2" not in page.ids
    assert "takes for no nodule" not in _page().text


def test_first_sentence_is_the_category_its_finding_and_the_advice():
    """The finding that decides, not a doubtful one of the same category; what is advised stands beside it."""
    volume = make_volume()
    first = make_finding(volume, category="4A", probability=0.9, doubtful=True, nodule_probability=0.1)
    second = make_finding(volume, (12, 30, 20), category="4A", probability=0.1)
    text = _page(first, second, category="4A", management="CT in 3 months", volume=volume).text
    where = "finding 1, left upper lobe (estimated), slice 12 of 24, solid, 11.8 mm"
    assert f"Exam category 4A: {where}" in text
    assert text.index("Advised: CT in 3 months.") < text.index("Findings")
    zero = _page(first, second, category="0", volume=volume).text
    assert f"Exam category 0: {where} (by itself category 4A)" in zero
    assert "Exam category 1" in _page(category="1", management="low-dose CT in 12 months").text


def test_doubtful_findings_stand_in_the_first_sentence_and_are_marked():
    volume = make_volume()
    doubtful = make_finding(volume, category="4B", doubtful=True, nodule_probability=0.1)
    words = "1 doubtful mark, 11.8 mm, to be looked at"
    report = replace(make_report(doubtful, volume=volume), category="1", doubtful=words)
    html = page_of(report, CONFIG)
    assert f"<h3>Exam category 1: {words}</h3>" in html
    table = html[html.index("<h2>Findings") :].split("</table>")[0]
    assert '<span class="chip">4B</span> <small>doubtful</small>' in table
    assert "1 finding, it is doubtful at the operating point" in _check_safe(html).text
    assert 'class="opacity"' not in html, "11.8 mm is no mass"
    document = finish(report).document
    assert (facts_of(document).doubtful, done_row(document, "report.html").doubtful) == (1, 1)
    listed = worklist_page([done_row(document, "report.html")], [])
    assert "1<br><small>1 doubtful</small>" in listed


def test_a_doubtful_mass_is_a_red_box_that_the_first_sentence_names():
    volume = make_volume()
    mass = make_finding(volume, category="4B", doubtful=True, nodule_probability=0.1, is_mass=True)
    html = page_of(replace(make_report(mass, volume=volume), category="0"), CONFIG)
    box = html[html.index('class="opacity"') : html.index("<h2>Findings")]
    assert "Large opacity of 12 mm, finding 1: read it yourself" in box
    assert box.count("<image") == 2
    assert "Exam category 0: a large opacity in the red box below: finding 1, left upper lobe" in html


def test_large_opacity_is_a_red_box_with_both_windows():
    """Above the table; its pictures go through the place that the lungs' stage names; none, where it names none."""
    volume = make_volume()
    lungs = replace(
        make_lungs(volume),
        incomplete=True,
        opacity_ml=80.0,
        opacity_mm=tuple(volume.geometry.to_mm((6, 25, 30)).tolist()),
    )
    report = replace(make_report(volume=volume), lungs=lungs)
    html = page_of(report, CONFIG)
    box = html[html.index('class="opacity"') : html.index("<h2>Findings")]
    assert "Large opacity of 80 ml" in box
    assert "Lung window, axial, slice 18 of 24" in box
    assert "Soft-tissue window, axial, slice 18 of 24" in box
    assert box.count("<image") == 2
    nowhere = page_of(replace(report, lungs=replace(lungs, opacity_mm=None)), CONFIG)
    assert "Large opacity of 80 ml" in nowhere
    assert 'aria-label="Large opacity' not in nowhere
    assert 'class="opacity"' not in page_of(make_report(volume=volume), CONFIG)


def test_facts_are_no_warnings_and_doses_and_emphysema_are_said():
    notices = (Notice("low-dose", "CTDIvol is 2.00 mGy."), Notice("kvp-not-validated", "A warning."))
    volume = make_volume(notices=notices, acquisition=replace(ACQUISITION, ctdi_vol_mgy=2.0))
    volume.hu[:, 10:30, 10:20] = -970
    html = page_of(make_report(volume=volume), CONFIG)
    warned = html[html.index('<ul class="notices"') :].split("</ul>")[0]
    assert "A warning." in warned
    assert "CTDIvol is 2.00 mGy." not in warned
    text = _check_safe(html).text
    assert "CTDIvol is 2.00 mGy." in text
    assert "DLP about 12 mGy·cm (CTDIvol × 6 cm)" in text, "24 slices of 2.5 mm at 2 mGy"
    inside = volume.hu[make_lungs(volume).mask > 0]
    assert f"{100 * (inside < -950).mean():.1f} % of the lungs" in text
    assert "Coronary calciumnot assessed" in text


def test_soft_tissue_window_shows_what_the_lung_window_does_not():
    """Of 0 and 60 HU the lung window makes nearly one grey, the soft-tissue window two."""
    volume = make_volume()
    volume.hu[:] = 0
    volume.hu[:, :, 30:] = 60
    shape = shape_of(make_finding(volume), volume)
    spans = []
    for window in (CONFIG.lung, CONFIG.soft):
        ((grey, _),) = _images(crop_svg(volume, shape, PLANES["axial"], CONFIG, window))
        spans.append(int(np.percentile(grey, 90)) - int(np.percentile(grey, 10)))
    assert spans[0] <= 12
    assert spans[1] == pytest.approx(255 * 60 / 400, abs=4)


def test_axes_are_the_longest_line_and_the_widest_across():
    """On an oblique ellipse of 20 × 8 mm; ends lie on the outline, at right angles."""
    turn = np.arange(0, 2 * np.pi, 0.02)
    along, across = np.array([0.6, 0.8]), np.array([-0.8, 0.6])
    line = np.array([30.0, 40.0]) + 10 * np.cos(turn)[:, None] * along + 4 * np.sin(turn)[:, None] * across
    long_axis, short_axis = axes_of(line)
    assert np.linalg.norm(long_axis[1] - long_axis[0]) == pytest.approx(20, abs=0.01)
    assert np.linalg.norm(short_axis[1] - short_axis[0]) == pytest.approx(8, abs=0.05)
    assert abs((long_axis[1] - long_axis[0]) @ (short_axis[1] - short_axis[0])) < 1e-6
    assert np.allclose(short_axis.mean(axis=0), (30, 40), atol=0.1)


def test_crosshair_points_at_the_detectors_place_and_covers_nothing():
    ticks = re.findall(r"M([\d.]+) ([\d.]+)([HV])([\d.]+)", crosshair((12.0, 31.0), 50.0, 40.0))
    assert [(float(x), float(y)) for x, y, *_ in ticks] == [(0, 12), (50, 12), (31, 0), (31, 40)]
    ends = [float(end) for *_, end in ticks]
    assert ends == pytest.approx([4.5, 45.5, 3.6, 36.4])


def test_what_is_seldom_wanted_is_folded_away():
    html = page_of(make_report(make_finding(make_volume())), CONFIG)
    folds = re.findall(r"<details><summary>([^<]+)</summary>", html)
    assert folds == ["Patient and technique", "Risk models, looks, more measurements", "How this came about"]


# -- hostile ---------------------------------------------------------------------------------------------------------
def test_hostile_strings_are_text_on_every_page(tmp_path):
    patient = Patient(HOSTILE, f"{HOSTILE}^B", HOSTILE, HOSTILE)
    exam = Exam(HOSTILE, HOSTILE, HOSTILE, HOSTILE, HOSTILE, HOSTILE)
    acquisition = Acquisition(*[HOSTILE] * 4, (HOSTILE,), (HOSTILE,), contrast=HOSTILE, burned_in=HOSTILE)
    volume = make_volume(acquisition=acquisition, notices=(Notice("no-ct", HOSTILE),))
    volume = replace(volume, series=replace(volume.series, series_uid=HOSTILE))
    finding = make_finding(volume, category=HOSTILE, category_reason=HOSTILE, notices=(Notice("no-ct", HOSTILE),))
    finding = replace(finding, location=replace(finding.location, lobe=HOSTILE))
    study = Study(patient, exam, (volume.series,), (Refusal(HOSTILE, "no-ct", HOSTILE, "series"),))
    report = make_report(finding, volume=volume, study=study)
    provenance = replace(report.provenance, series_uid=HOSTILE, operating_point=HOSTILE, options={HOSTILE: HOSTILE})
    write_report(replace(report, provenance=provenance), tmp_path)
    tables(tmp_path, [Refusal(HOSTILE, "no-ct", HOSTILE, "study", "1.7", HOSTILE), Refusal(HOSTILE, "no-ct", HOSTILE)])
    for path in (tmp_path / "studies" / key_of(report) / "report.html", tmp_path / "worklist.html"):
        page = _check_safe(path.read_text(encoding="utf-8"))
        assert "<script>alert(1)</script>" in page.text, "shown as text"
        assert not re.search("[\x00-\x08\x0b-\x1f\x7f\u202e]", page.text)


# -- pictures --------------------------------------------------------------------------------------------------------
def _images(svg: str) -> list[tuple[np.ndarray, tuple[float, float, float, float]]]:
    """Decoded pictures and their (x, y, width, height) in mm."""
    found = re.findall(
        r'<image x="([-\d.]+)" y="([-\d.]+)" width="([-\d.]+)" height="([-\d.]+)"[^>]*base64,([^"]+)"', svg
    )
    return [
        (np.asarray(Image.open(io.BytesIO(base64.b64decode(data)))), (float(x), float(y), float(w), float(h)))
        for x, y, w, h, data in found
    ]


def _path_points(svg: str) -> np.ndarray:
    """(n, 2) points (x, y) of the outline."""
    group = svg[svg.index('class="outline"') : svg.index('class="letters"')]
    path = re.search(r' d="([^"]+)"', group)[1]
    return np.array([float(v) for v in re.findall(r"-?\d+\.\d+", path)]).reshape(-1, 2)


def _bright_centre(grey: np.ndarray, box: tuple[float, float, float, float]) -> np.ndarray:
    """Centre of the brightest blob in mm of the crop."""
    rows, columns = np.nonzero(grey > 170)
    x, y, width, height = box
    return np.array(
        [x + (columns.mean() + 0.5) * width / grey.shape[1], y + (rows.mean() + 0.5) * height / grey.shape[0]]
    )


@pytest.mark.parametrize("plane", PLANES)
def test_nodule_and_outline_lie_in_the_middle_and_are_round(plane):
    """A ball in anisotropic voxels is round on the page, and its outline lies on it."""
    grid = Geometry.axial((40, 90, 100), (2.5, 0.8, 0.7), (-30.0, 11.0, -300.0))
    volume = make_volume(grid)
    volume.hu[:, :4] = -850
    finding = make_finding(volume)
    svg = crop_svg(volume, shape_of(finding, volume), PLANES[plane], CONFIG)
    ((grey, box),) = _images(svg)
    assert abs(box[2] / grey.shape[1] - box[3] / grey.shape[0]) < 0.01, "square pixels"
    points = _path_points(svg)
    np.testing.assert_allclose((points.min(0) + points.max(0)) / 2, [25, 25], atol=0.3)
    np.testing.assert_allclose(np.ptp(points, axis=0), [12, 12], atol=1.6)
    np.testing.assert_allclose(_bright_centre(grey, box), [25, 25], atol=0.4)


def test_planes_hang_as_radiologists_expect():
    """Bright voxels to the patient's left, the back and the head lie right, below and above."""
    volume = make_volume(Geometry.axial((40, 60, 70), (1.0, 1.0, 1.0)))
    volume.hu[:] = -850
    for voxel in ((20, 30, 45), (20, 40, 35), (30, 30, 35)):
        volume.hu[tuple(slice(v - 1, v + 2) for v in voxel)] = 200
    finding = make_finding(volume, (20, 30, 35), location=Location("left", "middle", 20))
    seen = {}
    for name, plane in PLANES.items():
        ((grey, (x, y, width, height)),) = _images(crop_svg(volume, shape_of(finding, volume), plane, CONFIG))
        rows, columns = np.nonzero(grey > 200)
        across = x + (columns + 0.5) * width / grey.shape[1] - 25
        down = y + (rows + 0.5) * height / grey.shape[0] - 25
        seen[name] = {(round(a / 5) * 5, round(d / 5) * 5) for a, d in zip(across, down, strict=True)}
    assert seen == {
        "axial": {(10, 0), (0, 10)},
        "coronal": {(10, 0), (0, -10)},
        "sagittal": {(10, 0), (0, -10)},
    }
    assert PLANES["axial"].letters == ("R", "L", "A", "P")
    assert PLANES["coronal"].letters == ("R", "L", "H", "F")
    assert PLANES["sagittal"].letters == ("A", "P", "H", "F")


def test_axial_crop_is_the_slice_that_is_named():
    """The location's slice, counted from the top, not the one nearest to the candidate's centre."""
    volume = make_volume()
    volume.hu[:] = np.arange(24)[:, None, None] * 50 - 1300
    finding = make_finding(volume, location=Location("left", "middle", 5))
    ((grey, _),) = _images(crop_svg(volume, shape_of(finding, volume), PLANES["axial"], CONFIG))
    expected = (19 * 50 - 1300 + 1350) / 1500 * 255
    assert abs(float(np.median(grey)) - expected) < 2


@pytest.mark.parametrize("voxel", [(0, 0, 0), (23, 49, 59), (0, 25, 59)])
@pytest.mark.parametrize("plane", PLANES)
def test_nodule_at_the_edge_shows_what_there_is(voxel, plane):
    """The picture covers only the volume; the rest of the square stays empty, and the outline stays in place."""
    volume = make_volume()
    finding = make_finding(volume, voxel, location=Location("left", "upper", 24 - voxel[0]))
    svg = crop_svg(volume, shape_of(finding, volume), PLANES[plane], CONFIG)
    ((grey, (x, y, width, height)),) = _images(svg)
    assert min(grey.shape) > 10
    assert x >= -0.01
    assert y >= -0.01
    assert x + width <= 50.01
    assert y + height <= 50.01
    points = _path_points(svg)
    assert (points >= [x - 0.5, y - 0.5]).all()
    assert (points <= [x + width + 0.5, y + height + 0.5]).all()


def test_mark_outside_the_volume_still_makes_a_page():
    volume = make_volume()
    finding = make_finding(volume)
    outside = changed(
        finding,
        candidate=replace(finding.candidate, centre_mm=(-500.0, 0.0, 900.0)),
        outline=None,
        location=Location("unknown", "unknown", 900),
    )
    _page(outside, volume=volume)


@pytest.mark.parametrize("plane", PLANES)
def test_heat_lies_where_the_network_looked(plane):
    """A hot place beside the nodule's centre, in an anisotropic off-origin volume, lands on its millimetres."""
    grid = Geometry.axial((40, 90, 100), (2.5, 0.8, 0.7), (-30.0, 11.0, -300.0))
    volume = make_volume(grid)
    heat = np.zeros((21, 21, 21), np.float32)
    heat[10 + 5, 10, 10] = heat[10, 10 - 7, 10] = heat[10, 10, 10 + 3] = heat[10, 10, 10] = 1.0
    finding = make_finding(volume)
    finding = changed(finding, attribution=Attribution(finding.candidate.centre_mm, heat))
    svg = heat_svg(volume, shape_of(finding, volume), PLANES[plane], CONFIG)
    (x, y, width, data) = re.search(
        r'<image x="([-\d.]+)" y="([-\d.]+)" width="([\d.]+)"[^>]*png;base64,([^"]+)"', svg
    ).groups()
    pixels = np.asarray(Image.open(io.BytesIO(base64.b64decode(data))))
    assert pixels.shape == (21, 21, 4)
    places = np.argwhere(pixels[..., 3] > 0) + 0.5 + (float(y), float(x)) - (25.0, 25.0)
    assert float(width) == 21
    found = {(round(down), round(across)) for down, across in places}
    # slices go up, screens go down; rows go back, columns to the patient's left
    expected = {
        "axial": {(0, 0), (-7, 0), (0, 3)},
        "coronal": {(0, 0), (-5, 0), (0, 3)},
        "sagittal": {(0, 0), (-5, 0), (0, -7)},
    }
    assert found == expected[plane]


def test_heat_stands_beside_the_pictures_and_says_what_it_is_not():
    volume = make_volume()
    finding = make_finding(volume)
    hot = changed(finding, attribution=Attribution(finding.candidate.centre_mm, np.ones((40, 40, 40), np.float32)))
    html = page_of(make_report(hot, volume=volume), CONFIG)
    assert html.count("data:image/png") == 3
    text = _check_safe(html).text
    for shown in ("What the network looked at", "no outline, no measurement, and no proof"):
        assert shown in text
    assert "What the network looked at" not in _page(finding, volume=volume).text
    far = changed(hot, attribution=Attribution((500.0, 500.0, 500.0), np.ones((40, 40, 40), np.float32)))
    assert "image/png" not in heat_svg(volume, shape_of(far, volume), PLANES["axial"], CONFIG)


def test_large_finding_gets_a_larger_crop():
    volume = make_volume(Geometry.axial((40, 90, 100), (2.5, 0.8, 0.7)))
    outline = Outline((2, 5, 5), np.ones((30, 70, 80), bool))
    svg = crop_svg(volume, shape_of(make_finding(volume, outline=outline), volume), PLANES["axial"], CONFIG)
    assert float(re.search(r'viewBox="0 0 ([\d.]+)', svg)[1]) == pytest.approx(1.6 * 75)
    ((grey, _),) = _images(svg)
    assert max(grey.shape) <= 201, "more millimetres, not more pixels"


def test_outline_that_misses_the_slice_draws_nothing():
    volume = make_volume()
    finding = make_finding(volume, location=Location("left", "lower", 24))
    assert '<g class="outline"></g>' in crop_svg(volume, shape_of(finding, volume), PLANES["axial"], CONFIG)


def test_overview_puts_each_number_where_the_finding_lies():
    volume = make_volume()
    findings = [make_finding(volume), make_finding(volume, (20, 30, 50), probability=0.1)]
    report = make_report(*findings)
    svg = overview_svg(look_through(volume, make_lungs(volume)), finish(report).findings, PLANES["coronal"], CONFIG)
    circles = re.findall(r'href="#finding-(\d)"><circle cx="([\d.]+)" cy="([\d.]+)"', svg)
    height = 24 * 2.5
    assert [(int(n), float(x), float(y)) for n, x, y in circles] == [
        (1, pytest.approx(30.5 * 0.7, abs=0.06), pytest.approx(height - 10.5 * 2.5, abs=0.06)),
        (2, pytest.approx(50.5 * 0.7, abs=0.06), pytest.approx(height - 20.5 * 2.5, abs=0.06)),
    ]


def test_overview_without_lungs_is_a_picture():
    volume = make_volume()
    lungs = replace(make_lungs(volume), mask=np.zeros(volume.hu.shape, np.uint8))
    ((grey, _),) = _images(overview_svg(look_through(volume, lungs), (), PLANES["sagittal"], CONFIG))
    assert np.ptp(grey) > 0


def test_twenty_findings_stay_small():
    volume = make_volume()
    findings = [make_finding(volume, (3 + n % 18, 5 + 2 * n, 8 + 2 * n), probability=n / 21) for n in range(20)]
    html = page_of(make_report(*findings, volume=volume), CONFIG)
    assert len(html) < 2_000_000
    assert len(_check_safe(html).ids) >= 20


def test_config_refuses_nonsense():
    with pytest.raises(ValueError, match="positive"):
        PictureConfig(crop_mm=0)


# -- contours --------------------------------------------------------------------------------------------------------
def test_contour_runs_half_way_between_inside_and_outside():
    field = np.zeros((5, 6), np.float32)
    field[2, 3] = 1
    (line,) = contour_lines(field)
    assert sorted(map(tuple, line.tolist())) == [(1.5, 3.0), (2.0, 2.5), (2.0, 3.5), (2.5, 3.0)]


def test_contours_are_closed_and_enclose_the_area():
    """Random blobs: the area by the shoelace formula is that of marching squares' polygons."""
    rng = np.random.default_rng(3)
    field = (rng.random((17, 23)) > 0.55).astype(np.float32)
    lines = contour_lines(field)
    areas = [0.5 * float(np.sum(a[:, 1] * np.roll(a[:, 0], -1) - np.roll(a[:, 1], -1) * a[:, 0])) for a in lines]
    # Each cell of four samples holds, by how many of them are inside: 0, 1/8, 1/2, 7/8, 1; opposite corners 1/4.
    padded = np.pad(field, 1)
    corners = padded[:-1, :-1] + padded[:-1, 1:] + padded[1:, :-1] + padded[1:, 1:]
    opposite = (corners == 2) & (padded[:-1, :-1] == padded[1:, 1:])
    expected = np.select(
        [opposite, corners == 1, corners == 2, corners == 3, corners == 4], [0.25, 0.125, 0.5, 0.875, 1.0]
    ).sum()
    assert abs(sum(areas)) == pytest.approx(expected)


def test_border_closes_the_line_and_nothing_gives_none():
    assert contour_lines(np.zeros((3, 3), np.float32)) == []
    (line,) = contour_lines(np.ones((2, 2), np.float32))
    assert line.min() == -0.5
    assert line.max() == 1.5


def test_grid_of_these_tests_can_fail():
    assert len(set(GRID.shape)) == 3
    assert len(set(GRID.spacing_mm)) == 3
