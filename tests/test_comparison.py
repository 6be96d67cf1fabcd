"""Which earlier exams are compared, what an earlier report says, and what becomes of each nodule."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
from phantom_pairs import compare_readings
from report_examples import changed, document_of, json_of, make_finding, make_report, make_volume, page_of
from small_chest import ORIGIN, SHAPE, SPACING, chest

from lungscreen.assess import assess_follow_up
from lungscreen.comparison import (
    Alignment,
    EarlierReport,
    Prior,
    PriorTable,
    add_earlier_views,
    earlier_exams,
    match_priors,
    read_priors,
    read_report,
)
from lungscreen.comparison.changes import describe_change, say_not_compared
from lungscreen.errors import InputError, Notice, VolumeError
from lungscreen.geometry import Geometry, Vector
from lungscreen.records import (
    Acquisition,
    Candidate,
    ClinicalData,
    Evidence,
    Exam,
    Finding,
    Location,
    LostNodule,
    Lungs,
    Measured,
    Measurement,
    NoduleChange,
    NoduleType,
    PastNodule,
    Patient,
    PriorExam,
    Reading,
    Series,
    Study,
    Volume,
)

ME = Patient("P-17", "Doe^Jane", "19550322", "F")
DAY = date(2021, 1, 1)


def study(uid: str, when: str, patient: Patient = ME, **changes: Any) -> Study:
    exam = Exam(uid, date=when)
    series = Series("dicom", f"{uid}.1", patient, exam, Acquisition())
    return replace(Study(patient, exam, (series,)), **changes)


NOW = study("1.1", "20210101")
EARLIER = study("1.0", "20200101")


def matched(*given: Study, exam: Study = NOW, **table: Any) -> tuple[list[str], list[str]]:
    """UIDs of the earlier exams that are compared, and codes of what is said."""
    priors, notices = match_priors(PriorTable(given=given, **table), exam)
    return [prior.study_uid for prior in priors], [notice.code for notice in notices]


# -- the earlier exam's picture --------------------------------------------------------------------------------------
@pytest.mark.parametrize("measured_at", [None, (4.0, 3.5, 8.0)], ids=["new", "moved"])
def test_a_finding_has_the_earlier_exam_s_slice_at_its_place(measured_at: Vector | None) -> None:
    """Where it was measured then, else where the aligned exam lets it be expected; none outside that scan."""
    geometry = Geometry.axial(SHAPE, SPACING, ORIGIN)
    then = Volume(chest(), geometry, EARLIER.series[0])
    then.hu[...] += np.arange(SHAPE[0], dtype=np.int16)[:, None, None]
    alignment = Alignment(sitk.TranslationTransform(3, (3.0, 0.0, 4.0)), 1.0)
    here: Vector = tuple(geometry.to_mm((20, 24, 30)).tolist())
    finding = make_finding(then, (20, 24, 30))
    expected = (here[0] + 3.0, here[1], here[2] + 4.0)
    if measured_at is not None:
        expected = tuple(np.add(here, measured_at).tolist())
        shown = past(centre_mm=expected, how=Evidence.FINDING)
        finding = replace(finding, change=NoduleChange("stable", "stable", (shown,)))
    far = replace(finding, change=None, candidate=replace(finding.candidate, centre_mm=(here[0], here[1], 9e3)))
    prior = Prior(date(2020, 1, 1), EARLIER)
    seen, unseen = add_earlier_views([finding, far], then, alignment, prior)
    assert unseen.earlier_view is None
    assert seen.earlier_view is not None
    view = seen.earlier_view
    assert view.place_mm == pytest.approx(expected)
    assert view.volume.hu.shape[0] == 1
    at = tuple(np.rint(geometry.to_index(expected)).astype(int))
    own = tuple(np.rint(view.volume.geometry.to_index(expected)).astype(int))
    assert view.volume.hu[own] == then.hu[at]
    assert view.volume.geometry.to_mm(own) == pytest.approx(geometry.to_mm(at))


# -- which exam is an earlier one ------------------------------------------------------------------------------------
def test_the_latest_earlier_exam_comes_first() -> None:
    assert matched(study("1.8", "20180101"), EARLIER) == (["1.0", "1.8"], [])


def test_studies_of_the_input_itself_are_earlier_exams_too() -> None:
    """A later one among them goes without saying."""
    later = study("1.2", "20220101")
    assert matched(beside=(NOW, EARLIER, later)) == (["1.0"], [])
    assert match_priors(None, NOW) == ((), ())
    assert matched(beside=(NOW,)) == ([], [])


def test_an_exam_of_another_patient_is_said() -> None:
    other = study("1.0", "20200101", replace(ME, patient_id="P-18"))
    assert matched(other) == ([], ["prior-other-patient"])


def test_no_patient_id_is_nobodys() -> None:
    nobody = replace(ME, patient_id="")
    assert matched(study("1.0", "20200101", nobody), exam=study("1.1", "20210101", nobody))[0] == []


@pytest.mark.parametrize("change", [{"birth_date": "19550323"}, {"sex": "M"}])
def test_another_birth_date_or_sex_is_another_patient(change: dict[str, str]) -> None:
    assert matched(study("1.0", "20200101", replace(ME, **change))) == ([], ["prior-other-patient"])


@pytest.mark.parametrize("change", [{"sex": ""}, {"name": "DOE^JANE^"}, {"birth_date": "1955.03.22"}, {"issuer": "A"}])
def test_what_one_header_lacks_is_no_contradiction(change: dict[str, str]) -> None:
    assert matched(study("1.0", "20200101", replace(ME, **change))) == (["1.0"], [])


ISSUED = replace(ME, birth_date="", issuer="Hospital A")


@pytest.mark.parametrize(
    ("mine", "theirs"),
    [
        (ME, replace(ME, birth_date="")),
        (replace(ME, birth_date=""), replace(ME, birth_date="")),
        (replace(ME, issuer="Hospital A"), replace(ME, issuer="Hospital B")),
        (ISSUED, replace(ISSUED, issuer="")),
        *(
            (replace(ME, patient_id=nobody),) * 2
            for nobody in ("0", "000", "ANON", "Anonymous", "ANON_00", "unknown", "XXX")
        ),
        *((replace(ME, name=nobody),) * 2 for nobody in ("", "ANON^ANON", "ANONYMOUS", "^", "no name")),
        (replace(ME, mended="1"), replace(ME, mended="2")),
    ],
    ids=str,
)
def test_who_is_not_known_for_certain_is_not_compared(mine: Patient, theirs: Patient) -> None:
    earlier = study("1.0", "20200101", theirs)
    now = study("1.1", "20210101", mine)
    expected = ["prior-not-compared"]
    assert matched(earlier, exam=now) == ([], expected)
    assert matched(beside=(earlier,), exam=now) == ([], expected)
    report = replace(a_report(), patient=theirs)
    assert matched(reports=(report,), exam=now) == ([], expected)


def test_the_issuer_alone_is_enough() -> None:
    assert matched(study("1.0", "20200101", ISSUED), exam=study("1.1", "20210101", ISSUED)) == (["1.0"], [])


def test_an_archive_of_pseudonyms_is_compared_by_the_id_alone() -> None:
    """Birth dates and names are gone; that is said in every report, also of an exam without an earlier one."""
    me = Patient("LUNG-0017")
    now = study("1.1", "20210101", me)
    by_id = match_priors(PriorTable(beside=(study("1.0", "20200101", me),)), now, "id")
    assert [prior.study_uid for prior in by_id[0]] == ["1.0"]
    assert [notice.code for notice in by_id[1]] == ["priors-by-id"]
    assert [notice.code for notice in match_priors(None, now, "id")[1]] == ["priors-by-id"]
    for change in ({"patient_id": "0"}, {"issuer": "B"}, {"sex": "M"}):
        other = study("1.0", "20200101", replace(me, **change))
        exam = study(
            "1.1", "20210101", replace(me, issuer="A", sex="F", patient_id=change.get("patient_id", "LUNG-0017"))
        )
        assert match_priors(PriorTable(beside=(other,)), exam, "id")[0] == ()


def test_two_names_are_never_compared() -> None:
    assert matched(study("1.0", "20200101", replace(ME, name="Roe^Jane"))) == ([], ["two-names-one-id"])
    said = replace(NOW, notices=(Notice("two-names-one-id", "two"),))
    assert matched(EARLIER, exam=said) == ([], ["prior-not-compared"])


@pytest.mark.parametrize("when", ["20210101", "20210102", "20990101"])
def test_an_exam_that_is_not_earlier_is_said(when: str) -> None:
    assert matched(study("1.0", when)) == ([], ["prior-newer"])


@pytest.mark.parametrize("when", ["", "2020", "20201332", "yesterday"])
def test_missing_dates_are_said(when: str) -> None:
    assert matched(study("1.0", when)) == ([], ["prior-date-missing"])
    assert matched(EARLIER, exam=study("1.1", when)) == ([], ["prior-date-missing"])


def test_an_exam_is_not_its_own_earlier_one() -> None:
    assert matched(NOW)[0] == []
    (said,) = match_priors(PriorTable(given=(NOW,)), NOW)[1]
    assert "the exam itself was given" in said.text


def test_an_image_file_has_no_patient() -> None:
    """Its name stands for the ID; two files of one name are no two visits."""
    image = replace(NOW, series=(replace(NOW.series[0], kind="image"),))
    assert matched(EARLIER, exam=image) == ([], ["prior-not-compared"])


def a_report(**changes: Any) -> EarlierReport:
    rows = (past(), past(number=2, category="3", centre_mm=(30.0, 0.0, 0.0)))
    return replace(EarlierReport(ME, "1.0", "1.0.1", "20200101", "3", rows, ((), ())), **changes)


def past(**changes: Any) -> PastNodule:
    base = PastNodule(
        "20200101", "1.0", NoduleType.SOLID, 8.4, 7.6, 8.0, 268.0, 10.0, 0.0, 0.0,
        centre_mm=(0.0, 0.0, 0.0), how="report", number=1, side="right", zone="upper",
    )  # fmt: skip
    return replace(base, **changes)


def test_a_report_joins_its_images() -> None:
    priors, notices = match_priors(PriorTable(given=(EARLIER,), reports=(a_report(),)), NOW)
    assert notices == ()
    (prior,) = priors
    assert prior.study is EARLIER
    assert prior.report is not None
    priors, _ = match_priors(PriorTable(reports=(a_report(),)), NOW)
    assert priors[0].study is None
    assert priors[0].study_uid == "1.0"


def test_nodules_of_the_report_that_nothing_marks_are_marked() -> None:
    prior = Prior(DAY, EARLIER, a_report())
    assert [m.centre_mm for m in prior.unmarked([Candidate((1.0, 0.0, 0.0), 8.0, 0.5)])] == [(30.0, 0.0, 0.0)]
    assert Prior(DAY, EARLIER).unmarked([]) == []


# -- earlier reports -------------------------------------------------------------------------------------------------
def write(folder: Path, document: dict[str, Any]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "report.json"
    path.write_text(json.dumps(document), encoding="utf-8")
    return path


def document(**changes: Any) -> dict[str, Any]:
    history = NoduleChange("stable", "stable", (past(date="20190101", study_uid="0.9"),), 365, 0.1)
    first = make_finding(make_volume(), category="4A", change=history)
    bare = make_finding(make_volume(), (5, 30, 20), measurement=None)
    return {**document_of(make_report(first, bare)), **changes}


def test_a_written_report_is_read_back(tmp_path: Path) -> None:
    """Sizes, category and the exams before it; a finding that was not measured has none."""
    report = read_report(write(tmp_path, document()))
    assert (report.patient.patient_id, report.date, report.study_uid) == ("P-17", "20260212", "1.2.3.4")
    (nodule,) = report.nodules
    assert (nodule.mean_diameter_mm, nodule.volume_mm3, nodule.volume_sd_mm3) == (11.8, 841.3, 40.2)
    assert (nodule.category, nodule.nodule_type, nodule.side, nodule.zone) == ("4A", "solid", "left", "middle")
    assert nodule.centre_mm is not None
    assert [p.date for p in report.histories[0]] == ["20190101"]


def test_a_report_of_the_first_version_is_read(tmp_path: Path) -> None:
    """It has neither changes nor lost nodules."""
    old = document(schema_version="1.0")
    for finding in old["findings"]:
        del finding["change"]
    assert read_report(write(tmp_path, old)).histories == ((),)


@pytest.mark.parametrize(
    "text",
    ["", "[]", "{}", '"report"', "{", '{"schema": "other", "schema_version": "1.0"}', "[" * 100_000, "\udcff"],
)
def test_what_is_no_report_is_refused(text: str, tmp_path: Path) -> None:
    path = tmp_path / "report.json"
    path.write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(InputError) as refused:
        read_report(path)
    assert refused.value.code == "prior-report-invalid"


@pytest.mark.parametrize(
    "changes",
    [{"schema_version": "2.0"}, {"patient": None}, {"findings": 3}, {"exam": {}}, {"findings": [{"measurement": 1}]}],
)
def test_a_report_that_is_not_whole_is_refused(changes: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(InputError, match="prior-report-invalid"):
        read_report(write(tmp_path, document(**changes)))


def test_hostile_texts_of_a_report_are_bounded(tmp_path: Path) -> None:
    evil = document()
    evil["patient"]["name"] = "<script>\x00\x1b[31m" + "x" * 70_000
    report = read_report(write(tmp_path, evil))
    assert len(report.patient.name) <= 201
    assert report.patient.name.isprintable()


def test_sizes_that_contradict_each_other_are_left_out(tmp_path: Path) -> None:
    odd = document()
    odd["findings"][0]["measurement"]["short_axis_mm"] = 99.0
    assert read_report(write(tmp_path, odd)).nodules == ()


def history_rows(*dates: str) -> dict[str, Any]:
    """A report of 2026-02-12 whose finding was seen on these days before."""
    base = document()
    (row,) = base["findings"][0]["change"]["exams"]
    base["findings"][0]["change"]["exams"] = [{**row, "date": when} for when in dates]
    return base


@pytest.mark.parametrize(
    ("dates", "kept"),
    [
        (("2019-13-40", "2020-01-01"), ["20200101"]),
        (("2026-02-12",), []),  # the report's own day
        (("2027-01-01", "2024-02-30", "", "soon"), []),
        (("2021-01-01", "2020-01-01"), ["20200101", "20210101"]),  # out of order
        (("2020-01-01", "2020-01-01"), ["20200101"]),  # twice
        (("2019-01-01",), ["20190101"]),
    ],
)
def test_impossible_dates_of_earlier_exams_are_left_out_and_counted(
    dates: tuple[str, ...], kept: list[str], tmp_path: Path
) -> None:
    report = read_report(write(tmp_path, history_rows(*dates)))
    assert [past.date for past in report.histories[0]] == kept
    assert report.left_out == len(dates) - len(kept)
    assert report.not_measured == 1, "the second finding has no sizes"


def test_what_was_doubtful_at_an_earlier_exam_is_known_from_the_report(tmp_path: Path) -> None:
    """A report from before 1.7 does not say it: what it lists counts as sure, which is the cautious reading."""
    base = history_rows("2019-01-01", "2020-01-01")
    first, second = base["findings"][0]["change"]["exams"]
    first["doubtful"] = True
    second.pop("doubtful", None)
    report = read_report(write(tmp_path, base))
    assert [past.doubtful for past in report.histories[0]] == [True, False]


@pytest.mark.parametrize("name", ["long_axis_mm", "short_axis_mm"])
@pytest.mark.parametrize("value", [0, -1, 1e300, 501, "8", None, True, [8]])
def test_impossible_sizes_of_an_earlier_report_are_not_measured(name: str, value: Any, tmp_path: Path) -> None:
    evil = document()
    evil["findings"][0]["measurement"][name] = value
    report = read_report(write(tmp_path, evil))
    assert (report.nodules, report.not_measured) == ((), 2)


@pytest.mark.parametrize("name", ["volume_mm3", "solid_volume_mm3", "solid_mean_diameter_mm"])
def test_absurd_volumes_of_an_earlier_report_are_not_known(name: str, tmp_path: Path) -> None:
    """No more than a nodule can have; what is no number at all makes all sizes of the finding worthless."""
    evil = document()
    evil["findings"][0]["measurement"][name] = 2e7
    (nodule,) = read_report(write(tmp_path, evil)).nodules
    assert getattr(nodule, name) is None
    evil["findings"][0]["measurement"][name] = 1e300
    assert read_report(write(tmp_path, evil)).not_measured == 2


def test_a_folder_of_reports_is_searched(tmp_path: Path) -> None:
    """One that is damaged has a row; one of a patient who is not in the input is in an archive's nature."""
    write(tmp_path / "a", document())
    write(tmp_path / "b", document(patient={**document()["patient"], "patient_id": "P-99"}))
    (tmp_path / "c").mkdir()
    (tmp_path / "c" / "report.json").write_text("{")
    table = read_priors(tmp_path, [study("9.9", "20270101", Patient("P-17", "Doe^Jane^Q", "19550322", "F"))])
    assert len(table.reports) == 2
    assert [row.code for row in table.refused] == ["prior-report-invalid"]
    assert len(match_priors(table, table.beside[0])[0]) == 1


def test_one_report_can_be_named(tmp_path: Path) -> None:
    assert len(read_priors(write(tmp_path, document()), []).reports) == 1


def test_a_folder_without_exams_is_said(tmp_path: Path) -> None:
    (tmp_path / "readme.txt").write_text("nothing here")
    assert [row.code for row in read_priors(tmp_path, []).refused] == ["no-ct"]
    with pytest.raises(InputError, match="input-missing"):
        read_priors(tmp_path / "nowhere", [])
    assert read_priors(None, [NOW]).beside == (NOW,)


# -- one nodule ------------------------------------------------------------------------------------------------------
def sized(mean: float, volume: float | None = None, sd: float | None = None) -> Measurement:
    volume = math.pi / 6 * mean**3 if volume is None else volume
    return Measurement(mean, mean, mean, mean, mean, volume, sd, -50.0, -300.0, 60.0, 1.0)


def found(mean: float, centre: Vector = (0.0, 0.0, 0.0), **changes: Any) -> Finding:
    base = Finding(
        1, Candidate(centre, mean, 0.9), Location("right", "upper", 5), Measured(None, sized(mean), NoduleType.SOLID)
    )  # fmt: skip
    return changed(base, **changes)


@pytest.mark.parametrize(
    ("before", "now", "state"),
    [(8.0, 9.5, "stable"), (8.0, 9.6, "growing"), (8.0, 6.5, "stable"), (8.0, 6.4, "shrinking"), (8.0, 8.0, "stable")],
)
def test_states_follow_the_rule_of_growth(before: float, now: float, state: str) -> None:
    """More than 1.5 mm of mean diameter within 12 months (Lung-RADS v2022 note 6)."""
    earlier = past(mean_diameter_mm=before, volume_mm3=None)
    change = describe_change(found(now), [earlier], DAY)
    assert change.state == state
    assert change.days == 366
    assert change.diameter_change_mm == pytest.approx(now - before)
    assert change.volume_change_percent is None
    assert change.doubling_days is None


def exams_of(*rows: tuple[NoduleType, float, float | None, str], category: str = "3") -> list[PastNodule]:
    """Earlier exams by type, mean diameter, solid part and date."""
    return [
        past(
            date=when, nodule_type=kind, long_axis_mm=mm, short_axis_mm=mm, mean_diameter_mm=mm, volume_mm3=None,
            solid_mean_diameter_mm=solid, category=category,
        )
        for kind, mm, solid, when in rows
    ]  # fmt: skip


SOLID, PART, GGN = NoduleType.SOLID, NoduleType.PART_SOLID, NoduleType.GROUND_GLASS


@pytest.mark.parametrize(
    ("exams", "now", "state", "text", "category"),
    [
        (  # the last step is within the limits of stability, the year is not
            [(SOLID, 6.0, None, "20200102"), (SOLID, 7.0, None, "20200701")], (SOLID, 8.0, 0.0), "growing",
            "growing since 2020-01-02: 6.0 mm then, +2.0 mm; as a whole +1.0 mm since 2020-07-01", "4B",
        ),
        (  # the whole is stable, its solid part is not
            [(PART, 12.0, 3.0, "20200701")], (PART, 12.0, 5.5), "growing",
            "growing in its solid part since 2020-07-01: 3.0 mm then, +2.5 mm; as a whole +0.0 mm since 2020-07-01",
            "4B",
        ),
        (  # slow growth
            [(SOLID, 6.0, None, "20190101"), (SOLID, 6.8, None, "20200101")], (SOLID, 7.6, 0.0), "growing",
            "growing slowly over 3 exams since 2019-01-01: 6.0 mm then, +1.6 mm", "4B",
        ),
        (
            [(GGN, 9.0, None, "20200701")], (PART, 9.2, 2.0), "growing",
            "growing, ground-glass then and more solid now since 2020-07-01: 9.0 mm then, +0.2 mm", "4A",
        ),
        (  # larger, but less solid: no growth by choice b
            [(SOLID, 7.0, None, "20200701")], (GGN, 9.0, 0.0), "stable",
            "stable by the rules, larger but less solid (choice b) since 2020-07-01: 7.0 mm then, +2.0 mm", "2",
        ),
        ([(SOLID, 9.0, None, "20200701")], (SOLID, 7.0, 0.0), "shrinking", "shrinking since 2020-07-01: 9.0 mm then",
        "2"),
        (
            [(PART, 9.0, None, "20200701")], (PART, 9.0, 5.0), "not assessed",
            "not assessed: needs size of the solid part on 2020-07-01", "not assessed",
        ),
    ],
)  # fmt: skip
def test_one_statement_of_change_is_made_from_what_graded_it(
    exams: list[Any], now: tuple[NoduleType, float, float], state: str, text: str, category: str
) -> None:
    """The words beside a category never contradict it."""
    kind, mm, solid = now
    size = replace(sized(mm), solid_mean_diameter_mm=solid)
    one = found(mm, measurement=size, nodule_type=kind)
    one = replace(one, change=describe_change(one, exams_of(*exams), DAY))
    assert one.change is not None
    assert (one.change.state, one.change.text.startswith(text)) == (state, True), one.change.text
    lungs = Lungs(np.zeros((1, 1, 1), np.uint8), 1.0, 1.0)
    graded = assess_follow_up([one], lungs, None, DAY, [earlier_exams(one)])
    assert graded.category == category
    assert graded.findings[0].growth == one.change.text


def test_a_doubled_volume_doubles_in_its_interval() -> None:
    earlier = past(volume_mm3=200.0, volume_sd_mm3=4.0)
    change = describe_change(found(8.5, measurement=sized(8.5, 400.0, 8.0)), [earlier], DAY)
    assert change.doubling_days == pytest.approx(366)
    assert change.volume_change_percent == pytest.approx(100)
    assert change.doubling_shortest_days is not None
    assert change.doubling_longest_days is not None
    spread = 1.96 * math.hypot(math.hypot(0.02, 0.0902), math.hypot(0.02, 0.0902))
    assert change.doubling_shortest_days == pytest.approx(366 * math.log(2) / (math.log(2) + spread), rel=1e-3)
    assert change.doubling_longest_days == pytest.approx(366 * math.log(2) / (math.log(2) - spread), rel=1e-3)
    assert "366 days (95 % interval" in change.text


def test_growth_within_the_uncertainty_has_no_longest_time() -> None:
    earlier = past(volume_mm3=268.0, volume_sd_mm3=10.0)
    change = describe_change(found(8.1, measurement=sized(8.1, 290.0, 10.0)), [earlier], DAY)
    assert change.doubling_longest_days is None
    assert "no growth is within the uncertainty" in change.text


def test_what_was_not_compared_has_no_exams() -> None:
    assert earlier_exams(found(8.0, change=say_not_compared("no images"))) is None
    assert earlier_exams(found(8.0)) is None
    assert earlier_exams(found(8.0, change=NoduleChange("new", "new"))) == ()
    with pytest.raises(ValueError, match="measured"):
        describe_change(found(8.0, measurement=None), [past()], DAY)


# -- two exams -------------------------------------------------------------------------------------------------------
GRID = Geometry.axial(SHAPE, SPACING, ORIGIN)
Balls = dict[tuple[int, int, int], float]
"""Voxel (z, y, x) of a nodule's centre → its diameter in mm."""


def exam(uid: str, balls: Balls, when: str = "20210101", top: int | None = None) -> tuple[Volume, Lungs]:
    """The small chest with bright balls in it; `top` cuts the slices above."""
    hu = chest()
    lungs = np.where(hu == -850, 1, 0).astype(np.uint8)
    lungs[:, :, 37:] *= 2
    points = GRID.to_mm(np.moveaxis(np.indices(SHAPE), 0, -1))
    for voxel, diameter in balls.items():
        hu[np.linalg.norm(points - GRID.to_mm(voxel), axis=-1) <= diameter / 2] = 40
    one = study(uid, when)
    geometry = GRID if top is None else GRID.crop((0, 0, 0), (top, *SHAPE[1:]))
    return Volume(hu[:top], geometry, one.series[0]), Lungs(lungs[:top], 1000.0, 1000.0)


class Grader:
    """Measures a mark as the ball that lies there, in whichever volume; nothing where none lies within 8 mm."""

    def __init__(self) -> None:
        self.balls: dict[str, Balls] = {}

    def __call__(self, volume: Volume, _: Lungs, marks: Sequence[Candidate]) -> list[Finding]:
        return [self.one(volume, mark) for mark in marks]

    def one(self, volume: Volume, mark: Candidate) -> Finding:
        near = {math.dist(GRID.to_mm(v), mark.centre_mm): d for v, d in self.balls[volume.series_uid].items()}
        size = sized(near[min(near)]) if near and min(near) < 8 else None
        where = Location("right", "upper", 3)
        return Finding(1, mark, where, Measured(None, size, NoduleType.SOLID))


def mark(voxel: tuple[int, int, int], diameter: float = 12.0, score: float = 0.9) -> Candidate:
    x, y, z = (float(v) for v in GRID.to_mm(voxel))
    return Candidate((x, y, z), diameter, score)


A, B, C = (30, 24, 20), (20, 22, 54), (40, 24, 54)


def compare(
    balls_then: Balls,
    balls_now: Balls,
    marks_then: Sequence[Candidate],
    marks_now: Sequence[Candidate],
    *,
    report: EarlierReport | None = None,
    person: ClinicalData | None = None,
    top: int | None = None,
    shrunk: bool = False,
    images: bool = True,
    unmeasured: str = "",
) -> Any:
    """Both exams lie in one place; marks of a score below 0.5 are below the operating point.

    top: slices of the earlier scan. shrunk: hardly any lung was found in it. unmeasured: the exam, "then" or "now", in
    which nothing can be outlined.
    """
    grade = Grader()
    volume_then, lungs_then = exam("1.0", balls_then, "20200101", top)
    if shrunk:
        mask = np.zeros_like(lungs_then.mask)
        mask[28:34, 20:28, 15:25] = lungs_then.mask[28:34, 20:28, 15:25]
        lungs_then = replace(lungs_then, mask=mask)
    volume_now, lungs_now = exam("1.1", balls_now)
    grade.balls = {
        volume_then.series_uid: {} if unmeasured == "then" else balls_then,
        volume_now.series_uid: {} if unmeasured == "now" else balls_now,
    }

    def reading(volume: Volume, lungs: Lungs, marks: Sequence[Candidate]) -> Reading:
        return Reading(volume, lungs, tuple(marks), tuple(grade(volume, lungs, [m for m in marks if m.score >= 0.5])))

    prior = Prior(date(2020, 1, 1), EARLIER if images else None, report)
    now = reading(volume_now, lungs_now, marks_now)
    return compare_readings(
        now, DAY, [prior], lambda: reading(volume_then, lungs_then, marks_then), grade, person
    )  # fmt: skip


def test_stable_growing_new_and_resolved_are_told_apart() -> None:
    done = compare({A: 12.0, B: 12.0}, {A: 15.0, C: 14.0}, [mark(A), mark(B)], [mark(A), mark(C)])
    assert [f.change.state for f in done.found] == ["growing", "new"]
    assert [(lost.state, lost.past.mean_diameter_mm) for lost in done.lost] == [("resolved", 12.0)]
    assert done.priors[0].how == "images"
    assert done.priors[0].date == "20200101"
    assert earlier_exams(done.found[1]) == ()
    (before,) = earlier_exams(done.found[0]) or ()
    assert before.exam_date == date(2020, 1, 1)
    assert done.found[0].change.exams[0].how == "finding"


def test_a_nodule_below_the_operating_point_then_is_not_new() -> None:
    done = compare({A: 12.0}, {A: 12.0}, [mark(A, score=0.2)], [mark(A)])
    assert done.found[0].change.state == "stable"
    assert done.found[0].change.exams[0].how == "below the operating point"


def test_a_nodule_that_nothing_marked_then_is_measured_there_and_said() -> None:
    done = compare({A: 12.0}, {A: 12.0}, [], [mark(A)])
    assert done.found[0].change.exams[0].how == "measured at the place"
    assert [n.code for n in done.found[0].notices] == ["seen-again"]


def test_a_nodule_below_the_operating_point_now_becomes_a_finding() -> None:
    """The earlier exam shows it: it is not resolved because a score fell."""
    done = compare({A: 12.0}, {A: 12.0}, [mark(A)], [mark(A, score=0.1)])
    (finding,) = done.found
    assert finding.change.state == "stable"
    assert [n.code for n in finding.notices] == ["found-by-prior"]
    assert done.lost == ()


def test_what_lies_outside_the_earlier_scan_is_not_new() -> None:
    done = compare({A: 12.0}, {A: 12.0, C: 14.0}, [mark(A)], [mark(A), mark(C)], top=36)
    assert done.found[1].change.state == "not assessed"
    assert "outside the scan" in done.found[1].change.text
    assert [n.code for n in done.found[1].notices] == ["place-not-compared"]


@pytest.mark.parametrize("unmeasured", ["then", "now"])
def test_what_was_not_measured_is_neither_new_nor_resolved(unmeasured: str) -> None:
    """Both exams show it and mark it; in one of them it could not be outlined."""
    done = compare({A: 12.0}, {A: 12.0}, [mark(A)], [mark(A)], unmeasured=unmeasured)
    (finding,) = done.found
    assert (finding.change.state, finding.change.exams) == ("not assessed", ())
    assert "not measured" in finding.change.text
    assert earlier_exams(finding) is None
    assert done.lost == ()


def test_what_is_still_there_unmeasured_is_not_resolved() -> None:
    """Nothing marks it now, but it looks as it did."""
    (lost,) = compare({A: 12.0}, {A: 12.0}, [mark(A)], [], unmeasured="now").lost
    assert (lost.state, lost.text) == ("not assessed", "12.0 mm on 2020-01-01; still there, but not measured")


def test_a_mark_where_nothing_was_is_not_compared_unmeasured() -> None:
    done = compare({A: 12.0}, {}, [mark(A)], [mark(A)])
    assert done.found[0].change.state == "not assessed"


def test_an_earlier_nodule_without_sizes_that_is_still_here_becomes_a_finding() -> None:
    """Nothing marks it now. It is not silently forgotten because nobody could outline it then."""
    done = compare({A: 12.0}, {A: 12.0}, [mark(A)], [], unmeasured="then")
    (finding,) = done.found
    assert finding.change.state == "not assessed"
    assert "not measured there" in finding.change.text
    assert finding.measurement is not None
    done = compare({A: 12.0}, {}, [mark(A)], [], unmeasured="then")
    assert (done.found, done.not_measured) == ((), 0), "the place is shown and nothing is there"


def test_findings_without_sizes_of_a_report_alone_are_counted() -> None:
    report = a_report(nodules=(), histories=(), not_measured=2, left_out=3)
    done = compare({}, {A: 12.0}, [], [mark(A)], report=report, images=False)
    assert done.not_measured == 2
    assert [n.code for n in done.notices] == ["prior-by-size", "prior-history-left-out"]


@pytest.mark.parametrize(("category", "small"), [("4B", False), ("4X", False), ("4A", True), ("", True)])
def test_a_4b_that_is_too_small_now_stays_a_finding(category: str, small: bool) -> None:
    report = a_report(nodules=(past(centre_mm=mark(A).centre_mm, category=category),), histories=((),))
    done = compare({A: 12.0}, {A: 2.5}, [mark(A)], [mark(A, 2.5)], report=report)
    assert [lost.state for lost in done.lost] == (["below the least size"] if small else [])
    assert len(done.found) == 1


def test_a_nodule_that_is_too_small_now_is_listed() -> None:
    done = compare({A: 12.0}, {A: 2.5}, [mark(A)], [mark(A, 2.5)])
    assert [lost.state for lost in done.lost] == ["below the least size"]


def test_the_prior_category_goes_to_the_nodule_that_choice_c_names() -> None:
    person = ClinicalData(prior_exam_date="20200101", prior_category="4A")
    balls = {A: 12.0, B: 5.0}
    done = compare(balls, balls, [mark(A), mark(B)], [mark(A), mark(B)], person=person)
    assert [f.change.exams[0].category for f in done.found] == ["4A", ""]
    other = ClinicalData(prior_exam_date="20190101", prior_category="4A")
    done = compare(balls, balls, [mark(A), mark(B)], [mark(A), mark(B)], person=other)
    assert [f.change.exams[0].category for f in done.found] == ["", ""]


def test_the_earlier_report_gives_categories_and_what_was_before() -> None:
    before = past(date="20190101", study_uid="0.9", mean_diameter_mm=11.0)
    report = a_report(nodules=(past(centre_mm=mark(A).centre_mm, category="3"),), histories=((before,),))
    done = compare({A: 12.0}, {A: 12.2}, [mark(A)], [mark(A)], report=report)
    assert [p.date for p in done.found[0].change.exams] == ["20190101", "20200101"]
    assert done.found[0].change.exams[1].category == "3"
    assert done.found[0].change.exams[1].mean_diameter_mm == 12.0, "measured anew, not taken over"


def test_without_images_sizes_alone_are_compared() -> None:
    """What has no partner for certain is neither new nor resolved."""
    report = a_report(nodules=(past(mean_diameter_mm=12.0), past(zone="lower")), histories=((), ()))
    done = compare({}, {A: 13.9}, [], [mark(A)], report=report, images=False)
    assert done.found[0].change.state == "growing"
    assert done.found[0].change.exams[0].how == "report"
    assert [lost.state for lost in done.lost] == ["not assessed"]
    assert [n.code for n in done.notices] == ["prior-by-size"]
    done = compare({}, {A: 30.0}, [], [mark(A)], report=report, images=False)
    assert done.found[0].change.state == "not assessed"


def test_an_earlier_exam_that_cannot_be_aligned_is_said() -> None:
    done = compare({A: 12.0}, {A: 12.0}, [mark(A)], [mark(A)], shrunk=True)
    assert [n.code for n in done.notices] == ["prior-not-aligned"]
    assert done.priors == ()
    assert done.found[0].change is None


def test_an_earlier_exam_that_cannot_be_read_is_said_and_its_report_stands_in() -> None:
    volume, lungs = exam("1.1", {A: 12.0})
    grade = Grader()
    grade.balls = {volume.series_uid: {A: 12.0}}

    def fail() -> Reading:
        raise VolumeError("slice-gap", "a hole")

    now = Reading(volume, lungs, (mark(A),), tuple(grade(volume, lungs, [mark(A)])))
    done = compare_readings(now, DAY, [Prior(date(2020, 1, 1), EARLIER)], fail, grade)
    assert ([n.code for n in done.notices], done.priors) == (["prior-unreadable"], ())
    done = compare_readings(now, DAY, [Prior(date(2020, 1, 1), EARLIER, a_report())], fail, grade)
    assert [n.code for n in done.notices] == ["prior-unreadable", "prior-by-size"]


def test_older_exams_that_were_not_looked_at_are_said() -> None:
    volume, lungs = exam("1.1", {})
    now = Reading(volume, lungs, (), ())
    priors = [Prior(date(2020, 1, 1), None, a_report()), Prior(date(2019, 1, 1), study("0.9", "20190101"))]
    done = compare_readings(now, DAY, priors, lambda: now, Grader())
    assert "prior-older" in [n.code for n in done.notices]


def test_what_merged_is_not_called_resolved() -> None:
    """Two nodules then, one large one now that covers both places."""
    near = (30, 24, 22)
    done = compare({A: 6.0, near: 6.0}, {A: 26.0}, [mark(A, 6.0), mark(near, 6.0)], [mark(A, 26.0)])
    assert [lost.state for lost in done.lost] == ["not assessed"]
    assert "merged" in done.lost[0].text


def test_what_is_outside_this_scan_is_not_called_resolved() -> None:
    grade = Grader()
    volume_then, lungs_then = exam("1.0", {A: 12.0, C: 12.0}, "20200101")
    volume, lungs = exam("1.1", {A: 12.0}, top=36)
    grade.balls = {volume_then.series_uid: {A: 12.0, C: 12.0}, volume.series_uid: {A: 12.0}}
    marks = [mark(A), mark(C)]
    then = Reading(volume_then, lungs_then, tuple(marks), tuple(grade(volume_then, lungs_then, marks)))
    now = Reading(volume, lungs, (mark(A),), tuple(grade(volume, lungs, [mark(A)])))
    done = compare_readings(now, DAY, [Prior(date(2020, 1, 1), EARLIER)], lambda: then, grade)
    assert [lost.state for lost in done.lost] == ["not assessed"]
    assert "outside this scan" in done.lost[0].text
    assert done.lost[0].outside_scan, "the exam cannot be 1 or 2 then"


def test_a_shrunk_nodule_below_the_operating_point_is_kept_or_listed() -> None:
    """It looks otherwise; the mark that lies there tells that something is left."""
    done = compare({A: 16.0}, {A: 8.0}, [mark(A)], [mark(A, 8.0, 0.2)])
    assert [f.change.state for f in done.found] == ["shrinking"]
    done = compare({A: 7.0}, {A: 2.9}, [mark(A)], [mark(A, 2.9, 0.2)])
    assert (done.found, [lost.state for lost in done.lost]) == ((), ["below the least size"])


def test_report_and_page_say_it_all_and_trust_nothing() -> None:
    """Category and UID of an earlier report are foreign text."""
    evil = "<script>alert(1)</script>"
    row = past(category=evil, study_uid=evil)
    change = NoduleChange("growing", f"growing {evil}", (row,), 366, 2.1, 80.0, 300.0, 200.0, None, 1.2)
    lost = LostNodule(past(date="20190101"), "resolved", f"8.0 mm; {evil}", (1.0, 2.0, 3.0))
    finding = make_finding(make_volume(), change=change, growth=change.text)
    report = make_report(
        finding, priors=(PriorExam("20200101", evil, "images", "1", 0.98, evil),), lost=(lost,)
    )  # fmt: skip
    document = json.loads(json_of(report))
    assert document["findings"][0]["change"]["doubling_longest_days"] is None
    assert document["findings"][0]["change"]["exams"][0]["mean_diameter_mm"] == 8.0
    assert document["lost"][0]["expected_mm"] == [1.0, 2.0, 3.0]
    assert document["priors"] == [document["prior"]]
    page = page_of(report)
    assert "<script" not in page
    assert "growing, +2.1 mm" in page
    assert "2019-01-01" in page
