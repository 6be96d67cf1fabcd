"""Several ledgers as one night: counts, codes, what is missing, one page with links into the parts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from batch_inbox import add_image
from batch_models import MODELS

from lungscreen.batch import BatchConfig, BatchRun, run_batch
from lungscreen.batch.ledger import FoundStudy, Ledger
from lungscreen.batch.lock import hold_lock
from lungscreen.batch.parts import find_parts, join_nights, missing_parts, read_joint_status
from lungscreen.batch.status import status_text
from lungscreen.cli.exit_codes import ExitCode
from lungscreen.cli.main import main
from lungscreen.errors import UsageError
from lungscreen.pipeline import read_pipeline

ABOUT = dict.fromkeys(
    ("user", "host", "software", "pipeline", "pipeline_name", "pipeline_hash", "weights", "engine"), "x"
)
FACTS = {"category": "2", "findings": 1, "top_probability": 0.2, "top_score": 0.5, "kernel": "soft", "notices": []}


def part(folder: Path, studies: dict[str, str], key: str = "k", **facts: Any) -> Path:
    """A folder with a ledger of these studies: key → done, waiting, or the code of a refusal."""
    folder.mkdir(parents=True)
    ledger = Ledger(folder)
    ledger.check_key(key, identified=False)
    run = ledger.begin_run(**ABOUT)
    ledger.enter([FoundStudy(k, f"i{k}", f"p-{k}", "in", "st") for k in studies], "p")
    for study, state in studies.items():
        if state == "waiting":
            continue
        attempt = ledger.start(study, run, "w")
        done = state == "done"
        ledger.finish(
            study, "done" if done else "refused", "p", "in", code="" if done else state, attempt=attempt,
            facts=FACTS | facts if done else {}, seconds={"study": 2.0},
        )  # fmt: skip
    ledger.close()
    return folder


def test_a_folder_of_parts_is_its_parts(tmp_path: Path) -> None:
    one = part(tmp_path / "shard-1-of-3", {"a": "done"})
    three = part(tmp_path / "shard-3-of-3", {"b": "done"})
    other = part(tmp_path / "other", {"c": "done"})
    assert find_parts([tmp_path]) == [one, three]
    assert find_parts([other, tmp_path, one]) == [other, one, three]
    assert missing_parts([one, three, other]) == [str(tmp_path / "shard-2-of-3")]
    with pytest.raises(UsageError, match="input-missing"):
        find_parts([tmp_path / "nowhere"])


def test_counts_and_codes_are_added_up(tmp_path: Path) -> None:
    parts = [
        part(tmp_path / "shard-1-of-2", {"a": "done", "b": "no-lungs"}),
        part(tmp_path / "shard-2-of-2", {"c": "no-lungs", "d": "slice-gap", "e": "waiting"}),
    ]
    status = read_joint_status(parts)
    assert [status[name] for name in ("waiting", "running", "done", "refused", "failed")] == [1, 0, 1, 3, 0]
    assert [(row["code"], row["studies"]) for row in status["codes"]] == [("no-lungs", 2), ("slice-gap", 1)]
    assert (status["at_work"], status["done_at"], status["missing"]) == (False, None, [])
    with hold_lock(parts[0]):
        assert read_joint_status(parts)["at_work"]
    text = status_text(status)
    assert f"{parts[1]}: 1 waiting, 2 refused" in text
    assert "done           1" in text


def test_the_end_is_that_of_the_slowest_part(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rates of parts at work are added; where a part with studies left is not at work, nobody knows the end."""
    parts = [part(tmp_path / name, {"a": "waiting"}) for name in ("one", "two")]
    said: dict[str, dict[str, Any]] = {}
    base = {"waiting": 5, "running": 0, "done": 0, "refused": 0, "failed": 0, "codes": []}
    monkeypatch.setattr("lungscreen.batch.parts.read_status", lambda path: said[path.name])
    said["one"] = {**base, "at_work": True, "studies_per_hour": 100.0, "done_at": "2026-01-01T05:00+00:00"}
    said["two"] = {**base, "at_work": True, "studies_per_hour": 50.5, "done_at": "2026-01-01T06:00+00:00"}
    status = read_joint_status(parts)
    assert (status["studies_per_hour"], status["done_at"]) == (150.5, "2026-01-01T06:00+00:00")
    said["two"] |= {"at_work": False, "done_at": None}
    status = read_joint_status(parts)
    assert (status["studies_per_hour"], status["done_at"]) == (100.0, None)
    said["two"] |= {"waiting": 0}
    assert read_joint_status(parts)["done_at"] == "2026-01-01T05:00+00:00"


def test_one_page_over_all_parts(tmp_path: Path) -> None:
    """Ranked together, each linked into its part; the part that is not there is named."""
    parts = [
        part(tmp_path / "night" / "shard-1-of-3", {"aa": "done", "bb": "no-lungs"}),
        part(tmp_path / "night" / "shard-2-of-3", {"cc": "done"}, category="4B", top_probability=0.9),
    ]
    out = tmp_path / "together"
    document = join_nights(parts, out)
    assert json.loads((out / "night.json").read_text()) == document
    assert (document["done"], document["refused"], document["studies"]) == (2, 1, 3)
    assert [(row["key"], row["report"]) for row in document["ranked"]] == [
        ("cc", "../night/shard-2-of-3/studies/cc/report.html"),
        ("aa", "../night/shard-1-of-3/studies/aa/report.html"),
    ]
    page = (out / "night.html").read_text()
    assert "href='../night/shard-1-of-3/worklist.html'" in page
    assert "../night/shard-3-of-3 is missing." in page


def test_a_study_in_two_nights_counts_once_as_it_ended_last(tmp_path: Path) -> None:
    first = part(tmp_path / "one", {"aa": "no-lungs"})
    second = part(tmp_path / "two", {"aa": "done"})
    for order in ([first, second], [second, first]):
        document = join_nights(order, tmp_path / "out")
        assert (document["done"], document["refused"]) == (1, 0)
        assert document["ranked"][0]["report"] == "../two/studies/aa/report.html"


def test_parts_under_different_keys_are_not_joined(tmp_path: Path) -> None:
    parts = [part(tmp_path / name, {"aa": "done"}, key=name) for name in ("one", "two")]
    with pytest.raises(UsageError, match="key-differs"):
        join_nights(parts, tmp_path / "out")
    assert not (tmp_path / "out" / "night.json").exists()


def test_the_page_does_not_go_into_a_part(tmp_path: Path) -> None:
    night = part(tmp_path / "one", {"aa": "done"})
    with pytest.raises(UsageError, match="usage"):
        join_nights([night], night)


def test_the_commands(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Two parts that were really read, asked about and joined by the command."""
    inbox, out = tmp_path / "inbox", tmp_path / "out"
    inbox.mkdir()
    add_image(inbox, 1)
    (inbox / "empty.mha").touch()
    config = BatchConfig(workers=1, threads=1, keep_free_mb=0.0)
    for number in (1, 2):
        run = BatchRun(
            [inbox], out, read_pipeline("screening"), shard=(number, 2), engine="here", config=config
        )  # fmt: skip
        run_batch(run, models=MODELS)
    assert main(["batch", "status", str(out), "--json"]) == ExitCode.OK
    status = json.loads(capsys.readouterr().out)
    assert (status["done"], status["refused"], len(status["parts"])) == (1, 1, 2)
    assert main(["batch", "status", str(out / "shard-1-of-2"), "--json"]) == ExitCode.OK
    assert "parts" not in json.loads(capsys.readouterr().out), "of one folder it says what it always said"
    assert main(["batch", "join", str(out), "--out", str(tmp_path / "all")]) == ExitCode.OK
    assert capsys.readouterr().out == f"{tmp_path / 'all' / 'night.html'}\n"
    (row,) = json.loads((tmp_path / "all" / "night.json").read_text())["ranked"]
    assert (tmp_path / "all" / row["report"]).is_file()
    assert main(["batch", "status", str(inbox)]) == ExitCode.USAGE
