"""The parts of a batch: pseudonyms, ledger, index, machine, lock."""

from __future__ import annotations

import os
import shutil
import sqlite3
import stat
from dataclasses import replace
from pathlib import Path

import pytest
from batch_inbox import add_image, add_stub
from dicom_factory import make_series

from lungscreen.batch.config import BatchConfig
from lungscreen.batch.index import INDEX_FILE, Index
from lungscreen.batch.ledger import FoundStudy, Ledger
from lungscreen.batch.lock import hold_lock, is_held
from lungscreen.batch.machine import Machine, look_at_machine, share_out
from lungscreen.clinical import read_clinical
from lungscreen.database import open_database
from lungscreen.errors import LungscreenError, OutputError, UsageError
from lungscreen.pseudonyms import Pseudonyms, default_key_file, load_key

NAMES = Pseudonyms(b"k" * 32)


# -- pseudonyms ------------------------------------------------------------------------------------------------------
def test_a_key_is_made_once_and_only_its_owner_reads_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "c"))
    first = load_key()
    assert load_key() == first
    assert default_key_file() == tmp_path / "c" / "lungscreen" / "key"
    assert stat.S_IMODE(default_key_file().stat().st_mode) == 0o600
    assert [p.name for p in default_key_file().parent.iterdir()] == ["key"], "no draft is left"
    assert first.key.hex() not in repr(first)


def test_hashes_are_keyed() -> None:
    """HMAC-SHA256 as in RFC 2104, not a hash that anybody can compute from a list of UIDs."""
    import hashlib
    import hmac

    key = NAMES.study_key("1.2.3", "P1", "doe john")
    assert key == hmac.new(b"k" * 32, b"study\0" + b"1.2.3\0P1\0doe john", hashlib.sha256).hexdigest()[:12]
    others = (("1.2.4", "P1", "doe john"), ("1.2.3", "P2", "doe john"), ("1.2.3", "P1", "doe jane"))
    assert (
        len({key, *(NAMES.study_key(*other) for other in others), NAMES.study_key("1.2.3", "P1", "doe john", 1)}) == 5
    )
    assert key != replace(NAMES, key=b"l" * 32).study_key("1.2.3", "P1", "doe john")
    assert NAMES.patient("P1").startswith("p-")
    assert NAMES.patient("") == ""
    assert replace(NAMES, identified=True).patient("P1") == "P1"
    assert len({NAMES.digest("a", "bc"), NAMES.digest("ab", "c"), NAMES.digest("a", "b", "c")}) == 3


@pytest.mark.parametrize("content", [b"", b"short", b"x" * 5000], ids=["empty", "short", "long"])
def test_what_is_no_key_is_refused(content: bytes, tmp_path: Path) -> None:
    file = tmp_path / "key"
    file.write_bytes(content)
    file.chmod(0o600)
    with pytest.raises(UsageError, match="key-invalid"):
        load_key(file)


def test_a_key_that_others_may_read_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "key"
    file.write_bytes(b"0" * 64)
    file.chmod(0o640)
    with pytest.raises(UsageError, match="chmod 600"):
        load_key(file)


def test_a_named_key_is_never_made(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="key-invalid"):
        load_key(tmp_path / "nowhere")
    assert not (tmp_path / "nowhere").exists()


# -- ledger ----------------------------------------------------------------------------------------------------------
def found_study(key: str, **changes: object) -> FoundStudy:
    return replace(FoundStudy(key, f"i{key}", "p-1", "in", "st"), **changes)  # type: ignore[arg-type]


@pytest.fixture
def ledger(tmp_path: Path):
    opened = Ledger(tmp_path)
    yield opened
    opened.close()


def run_of(ledger: Ledger) -> int:
    names = ("user", "host", "software", "pipeline", "pipeline_name", "pipeline_hash", "weights", "engine")
    return ledger.begin_run(**dict.fromkeys(names, "x"))


def state(ledger: Ledger, key: str) -> str:
    row = ledger.get(key)
    assert row is not None
    return row.state


def test_urgent_first_then_oldest(ledger: Ledger) -> None:
    ledger.enter(
        [
            found_study("a", arrived=3.0),
            found_study("b", arrived=1.0),
            found_study("c", arrived=2.0),
            found_study("d", arrived=9.0, urgent=True),
        ],
        "p",
    )
    order = []
    run = run_of(ledger)
    while row := ledger.next_waiting():
        ledger.start(row.key, run, "w")
        order.append(row.key)
    assert order == ["d", "b", "c", "a"]


def test_what_was_done_is_done_once(ledger: Ledger) -> None:
    """The same study under the same pipeline is not taken up again; another pipeline or new slices make it new."""
    assert ledger.enter([found_study("a")], "p") == 1
    ledger.finish("a", "done", "p", "in")
    assert ledger.enter([found_study("a", stamp="touched")], "p") == 0
    assert ledger.enter([found_study("a", input="fewer", only_shrunk=True)], "p") == 0
    assert ledger.enter([found_study("a", input="in")], "p") == 0
    assert ledger.enter([found_study("a")], "other pipeline") == 1
    ledger.finish("a", "done", "other pipeline", "in")
    assert ledger.enter([found_study("a", input="more")], "other pipeline") == 1
    assert state(ledger, "a") == "waiting"


def test_a_refused_study_is_new_when_its_files_were_sent_again(ledger: Ledger) -> None:
    ledger.enter([found_study("a")], "p")
    ledger.finish("a", "refused", "p", "in", code="pixels-damaged")
    assert ledger.enter([found_study("a")], "p") == 0
    assert ledger.enter([found_study("a", stamp="newer files")], "p") == 1
    row = ledger.get("a")
    assert row is not None
    assert row.code == ""


def test_slices_that_come_while_it_runs_make_it_wait_again(ledger: Ledger) -> None:
    ledger.enter([found_study("a")], "p")
    ledger.start("a", run_of(ledger), "w")
    assert ledger.enter([found_study("a", input="more")], "p") == 0
    ledger.finish("a", "done", "p", "in")
    assert state(ledger, "a") == "waiting"


def test_an_attempt_that_dies_counts_and_the_second_is_the_last(ledger: Ledger) -> None:
    ledger.enter([found_study("a")], "p")
    for expected in (True, False):
        attempt = ledger.start("a", run_of(ledger), "w")
        assert ledger.count_attempt("a", "worker-died", 2, attempt) is expected
    assert [a["outcome"] for a in ledger.attempts()] == ["died", "died"]


def test_interruptions_cost_no_attempt_but_three_put_it_last_and_alone(ledger: Ledger) -> None:
    ledger.enter([found_study("a", arrived=1.0), found_study("b", arrived=2.0)], "p")
    for count in range(1, 4):
        ledger.start("a", run_of(ledger), "w")
        (row,) = ledger.recover(3)
        assert (row.interruptions, row.attempts, row.alone) == (count, 0, False)
        ledger.put_back("a")
    first = ledger.next_waiting()
    assert first is not None
    assert first.key == "b", "it is run last now"
    ledger.start("a", run_of(ledger), "w")
    (row,) = ledger.recover(3)
    assert row.alone, "so that the supervisor fails it"


def test_retry_puts_back_by_code(ledger: Ledger) -> None:
    ledger.enter([found_study("a"), found_study("b"), found_study("c")], "p")
    ledger.finish("a", "refused", "p", "in", code="no-lungs")
    ledger.finish("b", "failed", "p", "in", code="time-limit")
    ledger.finish("c", "done", "p", "in")
    assert ledger.retry("time-limit") == 1
    assert ledger.counts() == {"waiting": 1, "running": 0, "done": 1, "refused": 1, "failed": 0}
    assert ledger.retry() == 1
    assert ledger.codes() == {}


def test_another_key_is_refused(ledger: Ledger) -> None:
    ledger.check_key("f1", identified=False)
    ledger.check_key("f1", identified=False)
    for fingerprint, identified in (("f2", False), ("f1", True)):
        with pytest.raises(UsageError, match="key-differs"):
            ledger.check_key(fingerprint, identified)


def test_a_newer_schema_is_refused_and_an_older_one_migrated(tmp_path: Path) -> None:
    path = tmp_path / "x.sqlite"

    def first(connection: sqlite3.Connection) -> None:
        connection.execute("CREATE TABLE a (b)")
        connection.execute("INSERT INTO a VALUES (1)")

    def second(connection: sqlite3.Connection) -> None:
        connection.execute("ALTER TABLE a ADD COLUMN c DEFAULT 2")

    path.touch()
    with pytest.raises(UsageError, match="ask again"):
        open_database(path, [first], read_only=True)
    open_database(path, [first]).close()
    with pytest.raises(UsageError, match="older version"):
        open_database(path, [first, second], read_only=True)
    opened = open_database(path, [first, second])
    assert tuple(opened.execute("SELECT b, c FROM a").fetchone()) == (1, 2)
    opened.close()
    with pytest.raises(UsageError, match="newer version"):
        open_database(path, [first])


def test_a_migration_that_fails_changes_nothing(tmp_path: Path) -> None:
    def broken(connection: sqlite3.Connection) -> None:
        connection.execute("CREATE TABLE a (b)")
        raise sqlite3.OperationalError("disk I/O error")

    with pytest.raises(OutputError):
        open_database(tmp_path / "x.sqlite", [broken])
    opened = open_database(tmp_path / "x.sqlite", [])
    assert opened.execute("SELECT COUNT(*) FROM sqlite_master").fetchone()[0] == 0
    opened.close()


def test_a_damaged_ledger_is_said_to_be(tmp_path: Path) -> None:
    (tmp_path / "ledger.sqlite").write_bytes(b"no database at all, but long enough to look at" * 100)
    with pytest.raises(UsageError, match="ledger-invalid"):
        Ledger(tmp_path)


# -- index -----------------------------------------------------------------------------------------------------------
@pytest.fixture
def inbox(tmp_path: Path) -> Path:
    folder = tmp_path / "inbox"
    add_stub(folder, 1)
    add_stub(folder / "urgent", 2)
    (folder / "letter.txt").write_text("Dear colleague")
    return folder


@pytest.fixture
def index(tmp_path: Path):
    (tmp_path / "out").mkdir()
    opened = Index(tmp_path / "out", NAMES)
    yield opened
    opened.close()


def test_paths_and_uids_are_for_the_owner_only(index: Index, tmp_path: Path) -> None:
    assert stat.S_IMODE((tmp_path / "out" / INDEX_FILE).stat().st_mode) == 0o600


def test_a_second_look_opens_nothing(index: Index, inbox: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = index.scan([inbox])
    assert first.opened == 11
    index.mark_entered([study.key for study in first.found])

    def fail(*_: object) -> None:
        raise AssertionError("a file was opened")

    monkeypatch.setattr("lungscreen.batch.index.visit.look_into", fail)
    second = index.scan([inbox], everything=False)
    assert (second.opened, second.found) == (0, [])
    known = [replace(study, entered=True) for study in first.found]
    assert index.scan([inbox]).found == known, "all are given where all are asked for"


def test_urgent_folder_and_urgent_rows(tmp_path: Path, inbox: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "c.csv").write_text("patient_id,priority\nID001,STAT\nID002,routine\n")
    plain = Index(tmp_path / "out", NAMES)
    assert [o.urgent for o in sorted(plain.scan([inbox]).found, key=lambda o: o.patient)].count(True) == 1
    plain.close()
    table = read_clinical(tmp_path / "c.csv")
    opened = Index(tmp_path / "out", NAMES, clinical=table)
    found = {o.patient: o for o in opened.scan([inbox]).found}
    assert found[NAMES.patient("ID001")].urgent
    assert found[NAMES.patient("ID002")].urgent
    opened.close()


def test_other_clinical_data_make_a_study_new_but_not_its_priority(tmp_path: Path, inbox: Path) -> None:
    (tmp_path / "out").mkdir()
    found = []
    for line in ("ID001,60,routine", "ID001,60,urgent", "ID001,61,urgent"):
        (tmp_path / "c.csv").write_text(f"patient_id,age,priority\n{line}\n")
        opened = Index(tmp_path / "out", NAMES, clinical=read_clinical(tmp_path / "c.csv"))
        found.append({o.patient: o.input for o in opened.scan([inbox]).found}[NAMES.patient("ID001")])
        opened.close()
    assert found[0] == found[1] != found[2]


def test_new_slices_change_the_fingerprint_and_a_touch_does_not(index: Index, inbox: Path) -> None:
    before = {o.key: o for o in index.scan([inbox]).found}
    index.mark_entered(before)
    slices = sorted((inbox / "study001").iterdir())
    os.utime(slices[0], ns=(1, 1))
    (touched,) = index.scan([inbox], everything=False).found
    assert touched.input == before[touched.key].input
    assert touched.stamp != before[touched.key].stamp
    index.mark_entered([touched.key])
    slices[0].unlink()
    (shrunk,) = index.scan([inbox], everything=False).found
    assert shrunk.only_shrunk
    assert shrunk.input != touched.input


def test_a_copy_under_another_name_is_another_study(index: Index, tmp_path: Path) -> None:
    """One study UID of two people: two keys, never one folder."""
    for name in ("Doe^Jane", "Roe^Richard"):
        make_series(
            tmp_path / "in" / name[:3],
            slices=3,
            study_uid="1.2.3",
            series_uid=f"1.2.3.{len(name)}",
            tags={"PatientName": name},
        )
    found = index.scan([tmp_path / "in"]).found
    assert len({o.key for o in found}) == len({o.identity for o in found}) == 2
    who = index.task(found[0].key, "", 0).identity
    assert NAMES.study_key("1.2.3", who.patient_id, who.name) in {o.key for o in found}


def test_an_inbox_that_is_away_is_left_as_it_was(index: Index, inbox: Path, tmp_path: Path) -> None:
    """Unmounted: the mount point is empty, or gone. Back again: nothing has to be opened."""
    index.mark_entered(o.key for o in index.scan([inbox]).found)
    inbox.rename(tmp_path / "elsewhere")
    assert index.scan([inbox]).away == [str(inbox)]
    inbox.mkdir()
    assert index.scan([inbox]).away == [str(inbox)]
    inbox.rmdir()
    (tmp_path / "elsewhere").rename(inbox)
    back = index.scan([inbox], everything=False)
    assert (back.away, back.opened, back.found) == ([], 0, [])


def test_links_are_followed_but_never_in_circles(index: Index, inbox: Path) -> None:
    (inbox / "loop").symlink_to(inbox)
    (inbox / "copy").symlink_to(inbox / "study001")
    (inbox / "nowhere").symlink_to(inbox / "gone")
    assert len(index.scan([inbox]).found) == 2
    assert {r.code for r in index.input_refusals(inbox)} == {"not-dicom", "file-unreadable"}


def test_a_folder_that_goes_while_it_is_looked_at_ends_nothing(index: Index, inbox: Path) -> None:
    """Listed, and gone before it is entered: it is looked at again, and the others are found."""

    def gone() -> bool:
        shutil.rmtree(inbox / "study001", ignore_errors=True)
        return False

    scan = index.scan([inbox], stop=gone)
    assert len(scan.found) == 1
    assert not scan.disturbed
    assert "file-unreadable" not in {r.code for r in index.input_refusals(inbox)}


def test_a_look_that_is_stopped_goes_on_where_it_was(index: Index, inbox: Path) -> None:
    asked = iter([False] * 8)
    part = index.scan([inbox], stop=lambda: next(asked, True))
    assert part.found == []
    assert 0 < part.opened < 11
    rest = index.scan([inbox])
    assert rest.opened == 11 - part.opened
    assert len(rest.found) == 2


def test_an_archive_is_opened_once(index: Index, tmp_path: Path) -> None:
    import zipfile

    paths = make_series(tmp_path / "a", slices=3)
    (tmp_path / "in").mkdir()
    with zipfile.ZipFile(tmp_path / "in" / "a.zip", "w") as archive:
        for path in paths:
            archive.write(path, path.name)
        archive.writestr("inner.zip", b"PK")
    (found,) = index.scan([tmp_path / "in"]).found
    assert found.files == 3
    assert {str(look.source).rpartition("!")[0] for look in index.task(found.key, "", 0).looks} == {
        str(tmp_path / "in" / "a.zip")
    }
    assert [r.code for r in index.input_refusals(tmp_path / "in")] == ["archive-nested"]
    assert index.scan([tmp_path / "in"]).opened == 0


def test_a_hole_of_whole_steps(index: Index, tmp_path: Path) -> None:
    paths = make_series(tmp_path / "in", slices=12, step_mm=2.5)
    (found,) = index.scan([tmp_path / "in"]).found
    assert not index.has_hole(found.key)
    paths[5].unlink()
    index.scan([tmp_path / "in"])
    assert index.has_hole(found.key)


def test_earlier_exams_are_part_of_the_input(index: Index, tmp_path: Path) -> None:
    """An earlier exam that arrives later makes the later exam new, not the other way round."""
    make_series(tmp_path / "in" / "late", slices=3, tags={"StudyDate": "20240506"})
    (late,) = index.scan([tmp_path / "in"]).found
    assert index.task(late.key, late.input, 0).earlier == ()
    make_series(tmp_path / "in" / "early", slices=3, tags={"StudyDate": "20230506"})
    found = {o.key: o for o in index.scan([tmp_path / "in"]).found}
    assert found[late.key].input != late.input
    assert len(index.task(late.key, late.input, 0).earlier) == 3
    (other,) = found.keys() - {late.key}
    assert index.task(other, "", 0).earlier == ()


def test_shards_share_the_studies_out(inbox: Path, tmp_path: Path) -> None:
    for number in range(3, 9):
        add_image(inbox, number)
    found: list[str] = []
    for part in (1, 2, 3):
        (tmp_path / str(part)).mkdir()
        opened = Index(tmp_path / str(part), NAMES, shard=(part, 3))
        found += [o.key for o in opened.scan([inbox]).found]
        opened.close()
    assert len(found) == len(set(found)) == 8


# -- machine and lock ------------------------------------------------------------------------------------------------
def test_the_containers_limits_count(tmp_path: Path) -> None:
    """Cgroup v2: one and a half cores, 6 GB, set in a group above this one."""
    (tmp_path / "own").write_text("0::/a/b\n")
    (tmp_path / "meminfo").write_text("MemTotal:       65536000 kB\n")
    group = tmp_path / "cg" / "a"
    group.mkdir(parents=True)
    (group / "cpu.max").write_text("100000 100000\n")
    (group / "memory.max").write_text(f"{6 << 30}\n")
    machine = look_at_machine(tmp_path / "cg", tmp_path / "own", tmp_path / "meminfo")
    assert machine == Machine(1.0, 6144.0)


def test_cgroup_v1_and_no_limit(tmp_path: Path) -> None:
    (tmp_path / "own").write_text("5:memory:/x\n4:cpu,cpuacct:/x\n")
    (tmp_path / "meminfo").write_text("MemTotal:       8388608 kB\n")
    for name in ("memory", "cpu"):
        (tmp_path / "cg" / name / "x").mkdir(parents=True)
    (tmp_path / "cg" / "memory" / "x" / "memory.limit_in_bytes").write_text("9223372036854771712\n")
    (tmp_path / "cg" / "cpu" / "x" / "cpu.cfs_quota_us").write_text("-1\n")
    (tmp_path / "cg" / "cpu" / "x" / "cpu.cfs_period_us").write_text("100000\n")
    machine = look_at_machine(tmp_path / "cg", tmp_path / "own", tmp_path / "meminfo")
    assert machine == Machine(float(len(os.sched_getaffinity(0))), 8192.0)
    (tmp_path / "cg" / "memory" / "x" / "memory.limit_in_bytes").write_text(str(1 << 30))
    assert look_at_machine(tmp_path / "cg", tmp_path / "own", tmp_path / "meminfo").memory_mb == 1024


@pytest.mark.parametrize(
    ("machine", "given", "expected"),
    [
        (Machine(8, 64_000), {}, (8, 1)),
        (Machine(8, 9_000), {}, (2, 4)),
        (Machine(1.5, 900), {}, (1, 1)),
        (Machine(8, 64_000), {"workers": 3}, (3, 2)),
        (Machine(8, 64_000), {"workers": 3, "threads": 5}, (3, 5)),
    ],
)
def test_cores_and_memory_are_shared_out(machine: Machine, given: dict[str, int], expected: tuple[int, int]) -> None:
    assert share_out(machine, BatchConfig(**given)) == expected  # type: ignore[arg-type]


@pytest.mark.parametrize("wrong", [{"workers": 0}, {"study_limit_s": 0}, {"grace_s": -1}, {"most_attempts": 0}])
def test_settings_are_checked(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        BatchConfig(**wrong)  # type: ignore[arg-type]


def test_one_run_at_a_time(tmp_path: Path) -> None:
    assert not is_held(tmp_path)
    with hold_lock(tmp_path):
        assert is_held(tmp_path)
        with pytest.raises(UsageError, match=f"process {os.getpid()}"), hold_lock(tmp_path):
            pass
    with hold_lock(tmp_path):
        pass


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(LungscreenError, match="output-failed"), hold_lock(tmp_path):
        pass


# -- what a user names -----------------------------------------------------------------------------------------------
def test_a_dicomdir_leads_to_its_files_and_says_what_is_gone(index: Index, tmp_path: Path) -> None:
    from test_series_files import make_medium

    medium = make_medium(tmp_path)
    (study,) = index.scan([medium]).found
    assert study.files == 3
    assert index.scan([medium]).opened == 0
    next(medium.parent.rglob("IM000001")).unlink()
    (study,) = index.scan([medium]).found
    assert study.files == 2
    (row,) = index.input_refusals(medium)
    assert row.code == "dicomdir-reference"
    assert row.where.endswith("PT000000/SE000000/IM000001")


def test_a_single_file_an_empty_folder_and_one_that_is_not_there(index: Index, inbox: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    inputs = [next((inbox / "study001").iterdir()), tmp_path / "empty", tmp_path / "nowhere", inbox / "letter.txt"]
    (study,) = index.scan(inputs).found
    assert study.files == 1
    assert [row.code for place in inputs for row in index.input_refusals(place)] == [
        "input-empty", "input-missing", "not-dicom",
    ]  # fmt: skip
    assert index.keys_of(inputs) == [study.key]


def test_a_folder_of_letters_holds_no_ct(index: Index, tmp_path: Path) -> None:
    (tmp_path / "letters").mkdir()
    (tmp_path / "letters" / "a.txt").write_text("Dear colleague")
    assert index.scan([tmp_path / "letters"]).found == []
    assert "no-ct" in {row.code for row in index.input_refusals(tmp_path / "letters")}
