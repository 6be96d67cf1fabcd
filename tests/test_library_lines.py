"""What libraries write on the error stream: events of the log, without what names a patient or a place."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from damaged_studies import SLICES, write_clean
from dicom_factory import set_codestream
from pydicom.dataset import Dataset
from pydicom.encaps import generate_frames
from test_volume_decode import JPEG_LOSSLESS, as_jpeg_lossless

from lungscreen.library_lines import MOST_LINES, WINDOW_S, HeardLines, clean_line

STRANGE_JFIF = bytes.fromhex("ffe00010") + b"JFIF\0" + bytes.fromhex("090100000100010000")
"""A segment of a revision that libjpeg does not know, and says so."""
SAID = "Warning: unknown JFIF revision number …"


@pytest.mark.parametrize(
    ("line", "text"),
    [
        (b"Corrupt JPEG data: 3 extraneous bytes before marker 0xd9", None),
        (b"WARNING: In /work/ITK/IO/itkGDCMImageIO.cxx, line 123", "WARNING: In itkGDCMImageIO.cxx, line 123"),
        (b"terminate called after throwing an instance of 'std::bad_alloc'", None),
        (b'  File "/home/DOE JANE/lib/series/stage.py", line 12, in find', "File … stage.py\", line 12, in find"),
        (b"ValueError: DOE^JANE born 19500101", "ValueError: … born …"),
        (b"cannot open /data/Doe Jane/1.dcm", "cannot open …"),
        (b"cannot open C:\\data\\Doe.dcm of patient=4711", "cannot open … of …"),
        (b"M\xfcller, ID 12345678", "…"),
        (b" \t", ""),
        (b"a" * 100_000, "…"),
        (b"\x1b[31mred\x1b[0m", "…"),
    ],
)  # fmt: skip
def test_a_line_keeps_what_a_library_says_and_nothing_that_names_anybody(line: bytes, text: str | None) -> None:
    assert clean_line(line) == (line.decode() if text is None else text)


def test_no_line_is_longer_than_it_may_be() -> None:
    assert len(clean_line(b"many short words " * 1000)) <= 160


def test_so_many_lines_a_minute_and_the_rest_is_counted() -> None:
    now = [0.0]
    events: list[dict[str, object]] = []
    lines = HeardLines(events.append, lambda: now[0])
    for _ in range(MOST_LINES + 5):
        lines.hear(b"a line")
    assert len(events) == MOST_LINES
    now[0] = WINDOW_S
    lines.hear(b"another line")
    assert events[MOST_LINES:] == [
        {"code": "library-said", "left_out": 5},
        {"code": "library-said", "text": "another line"},
    ]
    lines.end()
    assert len(events) == MOST_LINES + 2


def run(script: str, form: str, **options: object) -> subprocess.CompletedProcess[str]:
    """A program that is heard."""
    whole = (
        "import os, sys, time, warnings\n"
        "from lungscreen.library_lines import hear_libraries\n"
        "from lungscreen.logs import start_logs\n"
        f"start_logs({form == 'json'})\n"
        f"with hear_libraries({form == 'json'}):\n" + "".join(f"    {line}\n" for line in script.splitlines())
    )
    return subprocess.run([sys.executable, "-c", whole], capture_output=True, text=True, timeout=60, **options)  # type: ignore[call-overload, no-any-return]


def texts(stderr: str) -> list[str]:
    return [json.loads(line).get("text", "") for line in stderr.splitlines()]


def test_what_a_library_says_last_before_a_crash_is_kept() -> None:
    ended = run("os.write(2, b'double free or corruption')\nos.abort()", "json")
    assert ended.returncode == -signal.SIGABRT
    assert texts(ended.stderr) == ["double free or corruption"]


def test_python_s_own_lines_pass_as_they_are_and_tracebacks_too() -> None:
    ended = run("sys.stderr.write('DOE^JANE\\n')\nraise ValueError('whole words')", "text")
    assert ended.stderr.startswith("DOE^JANE\nTraceback (most recent call last):")
    assert "ValueError: whole words" in ended.stderr


def test_a_library_that_writes_megabytes_is_not_held_up() -> None:
    ended = run("for n in range(100): os.write(2, b'again and again\\n' * 4096)\nprint('through')", "json")
    assert ended.stdout == "through\n"
    events = [json.loads(line) for line in ended.stderr.splitlines()]
    assert len(events) == MOST_LINES + 1
    assert events[-1]["left_out"] == 100 * 4096 - MOST_LINES


def test_a_warning_of_python_s_is_an_event_too() -> None:
    ended = run("warnings.warn('the file /data/DOE.nii is odd')", "json")
    assert texts(ended.stderr) == ["UserWarning: the file … is odd"]


def test_a_process_that_is_started_is_heard_as_well() -> None:
    ended = run("os.system('echo some words >&2')", "text")
    assert ended.stderr == "warning: library said code=library-said text=some words\n"


def test_ctrl_c_ends_the_program_and_loses_no_line() -> None:
    """The signal goes to the whole group, as a terminal sends it."""
    script = "os.write(2, b'before the end\\n')\nos.killpg(os.getpgid(0), __import__('signal').SIGINT)\ntime.sleep(9)"
    ended = run(script, "json", start_new_session=True)
    assert "KeyboardInterrupt" in ended.stderr
    assert [t for t in ended.stderr.splitlines() if "before the end" in t]


@pytest.fixture(scope="module")
def talkative(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A study with one slice over which libjpeg says something that tells of no damage."""
    folder = tmp_path_factory.mktemp("talkative") / "DOE^JANE"

    def edit(dataset: Dataset, k: int) -> None:
        as_jpeg_lossless(dataset, k)
        if k == SLICES // 2:
            stream = next(generate_frames(dataset.PixelData, number_of_frames=1)).rstrip(b"\0")
            set_codestream(dataset, stream[:2] + STRANGE_JFIF + stream[2:])

    write_clean(folder, syntax=JPEG_LOSSLESS, edit=edit)
    return folder


def points_of(folder: Path) -> Path:
    path = folder.parent / "points.csv"
    from lungscreen.series import find_series

    (study,) = find_series([folder]).studies
    path.write_text(f"seriesuid,x_mm,y_mm,z_mm\n{study.series[0].series_uid},-84,-4,-604\n")
    return path


COMMANDS = {
    "screen": ("screen",),
    "batch": ("batch", "run", "--workers", "1"),
    "detect": ("detect", "--no-lungs"),
    "assess": ("assess", "--no-lungs", "--points"),
}


@pytest.mark.slow
@pytest.mark.parametrize(("command", "form"), [*((command, "json") for command in COMMANDS), ("detect", "text")])
def test_a_library_s_line_is_an_event_of_every_command(
    talkative: Path, command: str, form: str, tmp_path: Path
) -> None:
    words = [*COMMANDS[command], *([str(points_of(talkative))] if command == "assess" else [])]
    words += [str(talkative), "--out", str(tmp_path / "out"), *(["--log-json"] if form == "json" else [])]
    ended = subprocess.run(
        [sys.executable, "-m", "lungscreen.cli.main", *words], capture_output=True, text=True, timeout=300
    )
    assert ended.returncode in (0, 3), ended.stderr
    assert "DOE" not in ended.stderr
    if form == "text":
        assert ended.stderr.count(f"warning: library said code=library-said text={SAID}\n") >= 1
        return
    events = [json.loads(line) for line in ended.stderr.splitlines()]
    assert all({"time", "level", "event"} <= set(event) for event in events)
    assert {event["text"] for event in events if event.get("code") == "library-said"} == {SAID}
    assert "run ended" in {event["event"] for event in events}


@pytest.mark.parametrize("words", [["screen", "nowhere"], ["screen", ".", "--pipeline", "nowhere.toml"]])
def test_an_error_of_the_command_is_an_event_too(words: list[str], tmp_path: Path) -> None:
    ended = subprocess.run(
        [sys.executable, "-m", "lungscreen.cli.main", *words, "--out", str(tmp_path / "out"), "--log-json"],
        capture_output=True, text=True, timeout=60, cwd=tmp_path, env={**os.environ, "HOME": str(tmp_path)},
    )  # fmt: skip
    assert ended.returncode == 2
    events = [json.loads(line) for line in ended.stderr.splitlines()]
    assert events[-1]["event"] == "command failed"
    assert events[-1]["code"] in ("input-missing", "config-invalid", "usage")
