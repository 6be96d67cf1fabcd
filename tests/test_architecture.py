"""The house keeps its shape: who may import whom, what is public, and that the docs follow the code."""

from __future__ import annotations

import ast
import configparser
import importlib
import pkgutil
import subprocess
import sys
from pathlib import Path

import pytest
from write_docs import REFERENCE, cli_page, codes_page, schema_page

import lungscreen
from lungscreen.cli.main import COMMANDS
from lungscreen.codes import CODES

PACKAGE = Path(lungscreen.__file__).parent
STAGES = {"series", "volume", "lungs", "detect", "measure", "classify", "assess", "report"}
ABOVE = {
    "batch",
    "pipeline",
    "comparison",
    "jobs",
    "cli",
    "training",
    "evaluation",
    "datasets",
    "phantom",
}
"""Those that put stages together, or work beside them: no stage knows of them."""
MODULES = sorted(m.name for m in pkgutil.walk_packages([str(PACKAGE)], "lungscreen."))


def imported_parts(path: Path) -> set[str]:
    """Parts of this package that a file imports, anywhere in it."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("lungscreen."):
            found.add(node.module.split(".")[1])
        if isinstance(node, ast.Import):
            found |= {a.name.split(".")[1] for a in node.names if a.name.startswith("lungscreen.")}
    return found


@pytest.mark.parametrize("stage", sorted(STAGES))
def test_no_stage_imports_a_stage(stage: str) -> None:
    root = PACKAGE / stage
    files = sorted(root.rglob("*.py")) if root.is_dir() else [root.with_suffix(".py")]
    for path in files:
        others = imported_parts(path) & ((STAGES | ABOVE) - {stage})
        assert not others, f"{path.relative_to(PACKAGE)} imports {sorted(others)}"


@pytest.mark.parametrize("name", MODULES)
def test_all_is_what_is_there(name: str) -> None:
    """`__all__` names only what exists, and every public function or class of a module that has one."""
    if name.endswith("__main__"):
        return
    module = importlib.import_module(name)
    names = getattr(module, "__all__", None)
    if names is None:
        return
    assert len(set(names)) == len(names)
    for item in names:
        assert hasattr(module, item), f"{name}.__all__ names {item!r}, which is not there"


def test_every_package_is_installed() -> None:
    """setup.cfg lists packages one by one, since two of them lie outside the folder `lungscreen`."""
    config = configparser.ConfigParser()
    config.read(PACKAGE.parent / "setup.cfg")
    listed = set(config["options"]["packages"].split())
    there = {p.parent.relative_to(PACKAGE.parent).as_posix().replace("/", ".") for p in PACKAGE.rglob("__init__.py")}
    assert listed == there | {"lungscreen._pipelines", "lungscreen._weights"}


def test_importing_the_package_is_cheap() -> None:
    """Neither the package nor the help of the command loads numpy, torch or any other large library."""
    heavy = "{'numpy', 'torch', 'SimpleITK', 'scipy', 'pydicom', 'monai', 'sklearn', 'matplotlib'}"
    code = f"import sys, lungscreen; import lungscreen.cli.main; print({heavy} & set(sys.modules))"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert shown.strip() == "set()"


def test_every_command_is_a_module() -> None:
    for name in COMMANDS:
        module = importlib.import_module(f"lungscreen.cli.{name.replace('-', '_')}")
        assert callable(module.add_arguments)
        assert callable(module.run)


def test_codes_in_the_docs_are_those_of_the_code() -> None:
    assert (REFERENCE / "codes.md").read_text(encoding="utf-8") == codes_page(), "run `make docs`"


def test_commands_in_the_docs_are_those_of_the_code() -> None:
    assert (REFERENCE / "cli.md").read_text(encoding="utf-8") == cli_page(), "run `make docs`"


def test_report_json_in_the_docs_is_that_of_the_schema() -> None:
    assert (REFERENCE / "report-json.md").read_text(encoding="utf-8") == schema_page(), "run `make docs`"


def test_every_code_is_used() -> None:
    """A code that nothing raises would promise what nobody does."""
    text = "\n".join(p.read_text(encoding="utf-8") for p in PACKAGE.rglob("*.py") if p.name != "codes.py")
    unused = [name for name in CODES if f'"{name}"' not in text]
    assert not unused
