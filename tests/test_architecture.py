"""The house keeps its shape: who may import whom, what is public, and that the docs follow the code."""

from __future__ import annotations

import ast
import configparser
import importlib
import pkgutil
import re
import subprocess
import sys

import pytest
from house import (
    BESIDE,
    LAYERS,
    PACKAGE,
    SHARED,
    STAGES,
    crowded_docstrings,
    imported_parts,
    listed_names,
    modules,
    parts,
    public_definitions,
)
from radon.visitors import ComplexityVisitor
from write_docs import CONTRIBUTING, REFERENCE, cli_page, codes_page, contributing_page, schema_page

from lungscreen.cli.main import COMMANDS
from lungscreen.codes import CODES

MODULES = sorted(m.name for m in pkgutil.walk_packages([str(PACKAGE)], "lungscreen."))
PLACES = {name: n for n, (_, names) in enumerate(LAYERS) for name in names}

MOST_COMPLEX = 10
SHARE_ABOVE = 0.01
"""Of all blocks, above `MOST_COMPLEX`."""
HIGHEST = 14
"""Of any block."""


# -- who owns what ---------------------------------------------------------------------------------------------------
def test_the_results_folder_has_one_owner() -> None:
    """Where a study lies stands in results/folder.py; everybody else asks it."""
    spelled = re.compile(r"""/ "studies"|"studies/|studies/\[""")
    owner = PACKAGE / "results" / "folder.py"
    others = (path for path in PACKAGE.rglob("*.py") if path != owner)
    assert [path.name for path in others if spelled.search(path.read_text(encoding="utf-8"))] == []


# -- who imports whom ------------------------------------------------------------------------------------------------
def test_every_part_has_its_place() -> None:
    """A new folder or module right below the package says where it belongs: in `LAYERS` or `BESIDE` of
    tests/house.py.
    """
    assert set(parts()) <= set(PLACES) | set(BESIDE)
    assert not set(PLACES) & set(BESIDE)


@pytest.mark.parametrize("part", parts())
def test_a_part_imports_lower_layers_only(part: str) -> None:
    """Stages know no stage, and the chain, the jobs, the batch and the words each only what is below them."""
    for other in sorted(imported_parts(part)):
        if part in BESIDE:
            allowed = other in BESIDE[part] or (other in PLACES and LAYERS[PLACES[other]][0] in BESIDE[part])
        elif other in BESIDE:
            allowed = part == "cli"
        else:
            allowed = PLACES[other] < PLACES[part] or (part in SHARED and other in SHARED)
        assert allowed, f"{part} imports {other}"


def test_what_is_shared_has_no_ring() -> None:
    """The shared modules may use each other, one way."""
    edges = {part: imported_parts(part) for part in SHARED if part in parts()}
    while free := [part for part, others in edges.items() if not others & edges.keys()]:
        edges = {part: others for part, others in edges.items() if part not in free}
    assert not edges


# -- what is public --------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("module", sorted(modules()))
def test_all_is_what_is_public(module: str) -> None:
    """`__all__` names every public function and class of a module, and nothing that comes from elsewhere.

    The face of a package that holds no code names what it passes on; one that does, may use what it does not name.
    """
    listed, made = listed_names(module), {d.name: d.kind for d in public_definitions(module)}
    code = {name for name, kind in made.items() if kind != "alias"}
    if listed is None:
        assert not code, f"{module} has no __all__"
        return
    assert sorted(set(listed)) == sorted(listed)
    assert code <= set(listed), f"missing from {module}.__all__: {sorted(code - set(listed))}"
    passed_on = names_passed_on(module)
    assert set(listed) <= set(made) | passed_on, f"not made in {module}: {sorted(set(listed) - set(made) - passed_on)}"
    if not code:
        assert passed_on <= set(listed), f"{module} imports, and does not name: {sorted(passed_on - set(listed))}"


def names_passed_on(module: str) -> set[str]:
    """Names that the face of a package imports from its own package's parts; of a plain module none."""
    if not (PACKAGE / module.replace(".", "/") / "__init__.py").exists() and module != "__init__":
        return set()
    return {
        alias.asname or alias.name
        for node in modules()[module].body
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("lungscreen.")
        for alias in node.names
    }


@pytest.mark.parametrize("name", MODULES)
def test_every_module_can_be_imported_by_itself(name: str) -> None:
    """What `__all__` names is there, also where it is made on demand."""
    module = importlib.import_module(name)
    assert all(hasattr(module, item) for item in getattr(module, "__all__", ()))


def test_a_public_name_has_one_meaning() -> None:
    """Two functions, classes or types of the same public name make a reader ask which. Commands share the names of
    their two functions, which is what makes them commands; so do a database's migrations.
    """
    made: dict[str, list[str]] = {}
    for module in modules():
        for definition in public_definitions(module):
            if (
                not (module.startswith("cli.") and definition.name in {"add_arguments", "run"})
                and not module.startswith("room.migrations.")
                and not definition.name.isupper()
            ):
                made.setdefault(definition.name, []).append(module)
    twice = {name: ", ".join(sorted(where)) for name, where in made.items() if len(where) > 1}
    assert twice == {}


@pytest.mark.parametrize("module", sorted(modules()))
def test_a_docstring_gives_each_field_its_line(module: str) -> None:
    assert list(crowded_docstrings(module)) == []


def test_modules_of_a_name_stand_once_at_the_root_and_in_evaluation() -> None:
    """`evaluation/x.py` and another `x.py` right below the package or in jobs would be taken for each other."""
    evaluated = {name.split(".")[1] for name in modules() if name.startswith("evaluation.")}
    others = {name.split(".")[-1] for name in modules() if name.startswith("jobs.")} | set(parts())
    assert not evaluated & (others - set(STAGES))


# -- how involved it is ----------------------------------------------------------------------------------------------
def test_few_functions_are_involved() -> None:
    """Cyclomatic complexity as radon counts it, comprehensions and boolean operators included."""
    blocks = [
        (block.complexity, f"{module}.{getattr(block, 'classname', None) or ''}.{block.name}".replace("..", "."))
        for module, tree in modules().items()
        for block in ComplexityVisitor.from_ast(tree).blocks
    ]
    above = sorted((block for block in blocks if block[0] > MOST_COMPLEX), reverse=True)
    listing = "\n".join(f"{count:3} {name}" for count, name in above)
    assert len(above) <= len(blocks) * SHARE_ABOVE, f"{len(above)} of {len(blocks)} blocks are above:\n{listing}"
    assert above[0][0] <= HIGHEST, listing


# -- what is installed, loaded and documented ------------------------------------------------------------------------
def test_every_package_is_installed() -> None:
    """setup.cfg lists packages one by one, since three of them lie outside the folder `lungscreen`."""
    config = configparser.ConfigParser()
    config.read(PACKAGE.parent / "setup.cfg")
    listed = set(config["options"]["packages"].split())
    there = {p.parent.relative_to(PACKAGE.parent).as_posix().replace("/", ".") for p in PACKAGE.rglob("__init__.py")}
    assert listed == there | {"lungscreen._docs", "lungscreen._pipelines", "lungscreen._weights"}


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


def test_the_drawing_of_the_house_is_that_of_the_code() -> None:
    assert CONTRIBUTING.read_text(encoding="utf-8") == contributing_page(), "run `make docs`"


def test_every_code_is_used() -> None:
    """A code that nothing raises would promise what nobody does; what a comment or docstring quotes does not count."""
    said = {
        node.value
        for module, tree in modules().items() if module != "codes"
        for node in ast.walk(tree) if isinstance(node, ast.Constant)
    }  # fmt: skip
    assert not CODES.keys() - said


def test_every_code_that_is_raised_or_said_is_explained() -> None:
    """The first argument of an error, a notice or a refusal's code, where it is written out."""
    places = {"Notice": 0, "Refusal": 1}
    for module, tree in modules().items():
        for node in ast.walk(tree):
            if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Name)):
                continue
            place = 0 if node.func.id.endswith("Error") else places.get(node.func.id)
            code = node.args[place] if place is not None and len(node.args) > 1 and place < len(node.args) else None
            if isinstance(code, ast.Constant) and isinstance(code.value, str):
                assert code.value in CODES, f"{module}:{node.lineno} says {code.value!r}"
