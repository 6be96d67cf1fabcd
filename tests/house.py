"""The house as its files show it: who imports whom, in which layer a part lies, what is public, how involved it is."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import lungscreen

__all__ = [
    "BESIDE",
    "LAYERS",
    "PACKAGE",
    "SHARED",
    "STAGES",
    "Definition",
    "crowded_docstrings",
    "house_drawing",
    "imported_parts",
    "imports_of",
    "listed_names",
    "modules",
    "parts",
    "public_definitions",
]

PACKAGE = Path(lungscreen.__file__).parent

SHARED = (
    "cells", "codes", "config", "database", "days", "dicomfile", "errors", "files", "geometry", "kernels",
    "library_lines", "logs", "morphology", "operating_points", "patches", "pseudonyms", "records", "shares", "sources",
    "stopwatch", "text", "threads", "uids", "units", "weights",
)  # fmt: skip
"""What everybody may use. It knows nobody else."""

STAGES = ("series", "volume", "lungs", "detect", "measure", "classify", "assess")
"""The way of a study, in its order. No stage knows another one."""

LAYERS: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("shared", SHARED),
    ("stages", (*STAGES, "clinical")),
    ("result", ("results",)),
    ("comparison", ("comparison",)),
    ("outputs", ("outputs",)),
    ("chain", ("pipeline", "cohort")),
    ("jobs", ("jobs",)),
    ("programmes", ("batch", "runtimes")),
    ("servers", ("node", "room")),
    ("words", ("cli", "api")),
)
"""From the ground up: a part imports parts of lower layers only."""

BESIDE = {
    "deidentify": {"shared", "stages"},
    "phantom": {"shared"},
    "evaluation": {"shared", "stages", "result", "outputs"},
    "datasets": {"shared", "stages", "evaluation"},
    "monitor": {"shared", "stages", "result", "outputs", "batch", "room"},
    "training": {"shared", "stages", "datasets", "evaluation", "phantom"},
}
"""What stands beside the chain → layers and parts that it may use. Of the others only the words use it."""


@dataclass(frozen=True)
class Definition:
    """A public name where it is made. kind: function, class or alias."""

    name: str
    module: str
    kind: str


@cache
def modules() -> dict[str, ast.Module]:
    """Dotted name, without "lungscreen." → syntax tree."""
    found = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        name = path.relative_to(PACKAGE).with_suffix("").as_posix().replace("/", ".")
        found[name.removesuffix(".__init__")] = ast.parse(path.read_text(encoding="utf-8"))
    return found


def parts() -> list[str]:
    """Packages and modules right below `lungscreen`."""
    return sorted({name.split(".")[0] for name in modules()} - {"__init__"})


def imports_of(module: str) -> Iterator[str]:
    """Dotted names of the package's own that a module imports, anywhere in it, without "lungscreen."."""
    for node in ast.walk(modules()[module]):
        if isinstance(node, ast.ImportFrom) and node.module == "lungscreen":
            yield from (alias.name for alias in node.names if not alias.name.isupper() and alias.name != "__version__")
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("lungscreen."):
            yield (node.module or "").removeprefix("lungscreen.")
        elif isinstance(node, ast.Import):
            yield from (a.name.removeprefix("lungscreen.") for a in node.names if a.name.startswith("lungscreen."))


def imported_parts(part: str) -> set[str]:
    """Other parts that any module of a part imports."""
    inside = [name for name in modules() if name.split(".")[0] == part]
    return {other.split(".")[0] for name in inside for other in imports_of(name)} - {part}


def listed_names(module: str) -> list[str] | None:
    """`__all__` of a module, None without."""
    for node in modules()[module].body:
        if isinstance(node, ast.Assign) and any(isinstance(t, ast.Name) and t.id == "__all__" for t in node.targets):
            return list(ast.literal_eval(node.value))
    return None


def public_definitions(module: str) -> Iterator[Definition]:
    """Functions and classes of a module without an underscore, and what else of its own `__all__` names."""
    listed = listed_names(module) or ()
    for node in modules()[module].body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) and not node.name.startswith("_"):
            yield Definition(node.name, module, "class" if isinstance(node, ast.ClassDef) else "function")
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            names = [n.id for target in targets for n in ast.walk(target) if isinstance(n, ast.Name)]
            yield from (Definition(name, module, "alias") for name in names if name in listed)


def crowded_docstrings(module: str) -> Iterator[str]:
    """Docstrings of a module that say what one field or argument is in the middle of a line: each begins its own."""
    for node in ast.walk(modules()[module]):
        names = _described(node)
        text = ast.get_docstring(node) if names else None
        for line in (text or "").splitlines():
            later = re.findall(r"(?<=[.;])\s+((?:[a-z_0-9]+(?:, )?)+):\s", line)
            if any(set(found.split(", ")) <= names for found in later):
                yield f"{getattr(node, 'name', module)}: {line.strip()}"


def _described(node: ast.AST) -> set[str]:
    """Fields of a class or arguments of a function."""
    if isinstance(node, ast.ClassDef):
        return {n.target.id for n in node.body if isinstance(n, ast.AnnAssign) and isinstance(n.target, ast.Name)}
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
        return {argument.arg for argument in (*node.args.args, *node.args.kwonlyargs)}
    return set()


# -- the drawing -----------------------------------------------------------------------------------------------------
def house_drawing() -> str:
    """Markdown: a diagram of the layers with the imports that no other one implies, and a table of all imports."""
    there, edges = parts(), {part: imported_parts(part) - set(SHARED) for part in parts()}
    rows = [(title, [p for p in names if p in there]) for title, names in (*LAYERS, ("beside", tuple(BESIDE)))]
    rows = [(title, names) for title, names in rows if names and title != "shared"]
    lines = ["```mermaid", "flowchart TD"]
    for title, names in reversed(rows):
        lines += [f"  subgraph {title}", *(f"    {name}" for name in names), "  end"]
    lines += [f"  {part} --> {other}" for _, names in rows for part in names for other in _nearest(part, edges)]
    lines += ["```", "", "| layer | part | imports, beside the shared modules |", "|---|---|---|"]
    for title, names in reversed(rows):
        for name in names:
            used = " ".join(f"`{other}`" for other in sorted(edges[name])) or "nothing"
            lines.append(f"| {title} | `{name}` | {used} |")
    shared = " ".join(f"`{name}`" for name in SHARED if name in there)
    return "\n".join([*lines, "", f"Shared modules: {shared}.", ""])


def _nearest(part: str, edges: dict[str, set[str]]) -> list[str]:
    """The imports of a part that none of its other imports reaches already."""
    further = {deep for other in edges[part] for deep in _reached(other, edges) - {other}}
    return sorted(edges[part] - further)


def _reached(part: str, edges: dict[str, set[str]]) -> set[str]:
    found, left = set(), [part]
    while left:
        if (name := left.pop()) not in found:
            found.add(name)
            left += edges.get(name, ())
    return found
