"""What the docs show works as it stands: pipelines and other configurations, and the commands' names and options."""

from __future__ import annotations

import argparse
import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

from lungscreen.cli.exit_codes import ExitCode
from lungscreen.cli.main import COMMANDS, command_parser, main
from lungscreen.config import packaged_folder, read_table, read_toml
from lungscreen.pipeline import read_pipeline

TOP = Path(__file__).parent.parent
PAGES = [TOP / "README.md", *sorted((TOP / "docs").glob("*.md"))]


def blocks(language: str) -> list[tuple[str, str]]:
    """Page and text of every block of a language; an empty one is a block without."""
    pattern = re.compile(r"^```(\w*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
    return [
        (page.name, match[2])
        for page in PAGES
        for match in pattern.finditer(page.read_text(encoding="utf-8"))
        if match[1] == language
    ]


def numbered(found: list[tuple[str, str]]) -> list[object]:
    return [pytest.param(*block, id=f"{block[0]} {n}") for n, block in enumerate(found)]


@pytest.mark.parametrize(("page", "text"), numbered(blocks("toml")))
def test_a_configuration_of_the_docs_works_as_it_stands(page: str, text: str, tmp_path: Path) -> None:
    path = tmp_path / "own.toml"
    path.write_text(text, encoding="utf-8")
    if page == "node.md":
        from lungscreen.node.config import read_node_config

        assert read_node_config(path)
    elif page == "room-admin.md":
        from lungscreen.room.config import RoomConfig

        assert read_table(RoomConfig, read_toml(path), "room")
    else:
        assert read_pipeline(str(path)).name


def commands() -> list[tuple[str, list[str]]]:
    """Page and words of every command line that the docs show, comments and prompts taken off."""
    found = []
    for page, text in blocks(""):
        for line in text.replace("\\\n", " ").splitlines():
            command = line.split("   #")[0].strip()
            if command.startswith("lungscreen ") and "…" not in command:
                found.append((page, shlex.split(command.split(" | ")[0].split(" < ")[0], comments=True)[1:]))
    return found


@pytest.mark.parametrize(
    ("page", "words"), [pytest.param(*one, id=f"{one[0]} {n} {one[1][0]}") for n, one in enumerate(commands())]
)
def test_a_command_of_the_docs_has_the_options_that_are_shown(page: str, words: list[str]) -> None:
    """Names of options only: `DIR` and `...` stand for what the reader puts there."""
    if words[0].startswith("-"):
        return
    assert words[0] in COMMANDS, page
    known: set[str] = set()
    parsers = [command_parser(words[0])]
    while parsers:
        for action in parsers.pop()._actions:
            known |= set(action.option_strings)
            if isinstance(action, argparse._SubParsersAction):
                parsers += list(action.choices.values())
    shown = {word.split("=")[0].strip("[]") for word in words[1:] if word.strip("[").startswith("--")}
    assert shown <= known, f"{page}: {sorted(shown - known)}"


def test_pipelines_are_listed_and_printed(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main(["pipelines"]) == ExitCode.OK
    listed = capsys.readouterr()
    names = {line.split()[0] for line in listed.out.splitlines()}
    assert names == {path.stem for path in packaged_folder("pipelines").glob("*.toml")}
    assert Path(listed.err.split(": ", 1)[1].strip()).is_file(), "the docs are where it says"
    assert main(["pipelines", "screening"]) == ExitCode.OK
    own = tmp_path / "own.toml"
    own.write_text(capsys.readouterr().out, encoding="utf-8")
    assert read_pipeline(str(own)) == read_pipeline("screening")
    assert main(["pipelines", "screning"]) == ExitCode.USAGE


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed")
def test_the_units_are_valid(tmp_path: Path) -> None:
    """As systemd reads them; the program is another one, since /opt/lungscreen need not be here."""
    units = sorted((TOP / "docs" / "deploy").glob("lungscreen-*"))
    assert len(units) == 4
    for unit in units:
        text = unit.read_text(encoding="utf-8").replace("/opt/lungscreen/bin/lungscreen", "/bin/true")
        (tmp_path / unit.name).write_text(text, encoding="utf-8")
    verify = ["systemd-analyze", "verify", *(str(tmp_path / unit.name) for unit in units)]
    done = subprocess.run(verify, capture_output=True, text=True, check=False)
    ours = [line for line in done.stderr.splitlines() if "lungscreen-" in line]
    assert (done.returncode, ours) == (0, [])


def test_the_units_call_commands_that_are_there() -> None:
    for unit in (TOP / "docs" / "deploy").glob("lungscreen-*.service"):
        (line,) = re.findall(r"^ExecStart=/opt/lungscreen/bin/lungscreen (.*)$", unit.read_text(), re.MULTILINE)
        words = line.split()
        command_parser(words[0]).parse_args(words[1:])


def test_the_container_takes_what_the_package_is_made_of() -> None:
    copied = re.findall(r"^COPY (?!--)(.*) \S+$", (TOP / "docs" / "deploy" / "Containerfile").read_text(), re.MULTILINE)
    names = {name for line in copied for name in line.split()}
    assert names >= {"setup.cfg", "pyproject.toml", "lungscreen", "pipelines", "weights", "docs"}
    assert all((TOP / name).exists() for name in names)
