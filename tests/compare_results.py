"""Two results folders: every difference that a change of the structure must not make (`make compare`).

Studies are matched by study UID and patient; keys, times, seconds, versions of the software and of the schema, and
hashes that name the run are left out. Ends with 1 where anything else differs.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import hashlib
import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

IGNORED = {
    "key", "schema_version", "provenance.software_version", "provenance.created", "provenance.pipeline_hash",
    "provenance.options.input", "provenance.options.batch",
}  # fmt: skip
"""Fields of report.json that name the run or the software."""

IGNORED_FOLDERS = ("provenance.seconds.",)

MOST_SHOWN = 40
"""Differences of one study that are printed."""


def main() -> int:
    """Compare, and say what differs."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("before", type=Path)
    parser.add_argument("after", type=Path)
    args = parser.parse_args()
    before, after = studies(args.before), studies(args.after)
    lines = [f"only in {args.before}: {name}" for name in sorted(before.keys() - after.keys())]
    lines += [f"only in {args.after}: {name}" for name in sorted(after.keys() - before.keys())]
    for name in sorted(before.keys() & after.keys()):
        found = list(differences(before[name], after[name]))
        lines += [f"{name}: {line}" for line in found[:MOST_SHOWN]]
        lines += [f"{name}: and {len(found) - MOST_SHOWN} more"] if len(found) > MOST_SHOWN else []
    lines += list(tables(args.before, args.after))
    same = len(before.keys() & after.keys())
    sys.stdout.write("\n".join([*lines, f"{same} studies compared, {len(lines)} differences"]) + "\n")
    return 1 if lines else 0


def studies(folder: Path) -> dict[str, Path]:
    """Folders of a results folder's studies by study UID and patient."""
    found = {}
    for path in sorted(folder.glob("studies/[!.]*/report.json")):
        document = json.loads(path.read_text(encoding="utf-8"))
        found[f"{document['exam']['study_uid']} {document['patient']['name'] or ''}"] = path.parent
    return found


def differences(before: Path, after: Path) -> Iterator[str]:
    """What differs between two folders of a study."""
    names = [{path.name for path in folder.iterdir()} for folder in (before, after)]
    yield from (f"{name} is gone" for name in sorted(names[0] - names[1]))
    yield from (f"{name} is new" for name in sorted(names[1] - names[0]))
    for name in sorted(names[0] & names[1]):
        if name == "report.json":
            yield from documents(*(json.loads((f / name).read_text(encoding="utf-8")) for f in (before, after)))
        elif name == "report.html":
            yield from pages(*(plain_page(f / name) for f in (before, after)))
        elif content(before / name) != content(after / name):
            yield f"{name} differs"


def documents(before: Any, after: Any) -> Iterator[str]:
    """Fields of two report.json that differ."""
    one, two = dict(fields(before)), dict(fields(after))
    for path in sorted(one.keys() | two.keys()):
        if path in IGNORED or path.startswith(IGNORED_FOLDERS):
            continue
        if path not in one or path not in two:
            yield f"report.json {path}: {'new' if path in two else 'gone'}"
        elif one[path] != two[path]:
            yield f"report.json {path}: {one[path]!r} → {two[path]!r}"


def fields(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Every value of a document with its path."""
    if isinstance(value, dict):
        for name, item in value.items():
            yield from fields(item, f"{path}.{name}" if path else name)
    elif isinstance(value, list):
        yield f"{path}[]", len(value)
        for n, item in enumerate(value):
            yield from fields(item, f"{path}[{n}]")
    else:
        yield path, value


def plain_page(path: Path) -> list[str]:
    """A page, element by element, without what names the run."""
    text = path.read_text(encoding="utf-8")
    for label in ("Software", "Pipeline", "input", "batch", "Made", "Seconds"):
        text = re.sub(rf"<dt>{label}</dt><dd>[^<]*</dd>", "", text)
    text = re.sub(r"<style>.*?</style>", "", text, flags=re.DOTALL)
    text = re.sub(r"base64,[^\"]+", lambda match: hashlib.sha256(match[0].encode()).hexdigest(), text)
    return re.sub(r"(?=<(?:td|dd|p|h\d|image|path|circle|text)\b)", "\n", text).splitlines()


def pages(before: list[str], after: list[str]) -> Iterator[str]:
    """Elements of two pages that differ."""
    if len(before) != len(after):
        yield f"report.html has {len(before)} → {len(after)} elements"
    for one, two in zip(before, after, strict=False):
        if one != two:
            yield f"report.html: {one.strip()[:150]} → {two.strip()[:150]}"


def content(path: Path) -> bytes:
    """A file's bytes, unpacked where it is packed."""
    data = path.read_bytes()
    return gzip.decompress(data) if path.suffix == ".gz" else data


def tables(before: Path, after: Path) -> Iterator[str]:
    """Rows of the tables that differ, in any order of rows; studies are named by their UIDs."""
    for name in ("worklist.csv", "findings.csv", "candidates.csv", "refused.csv"):
        head, first = rows_of(before / name)
        other, second = rows_of(after / name, len(head))
        rows = first, second
        if head != other[: len(head)]:
            yield f"{name}: columns differ"
        if name != "refused.csv" and rows[0] != rows[1] and sorted(rows[0]) == sorted(rows[1]):
            yield f"{name}: same rows in another order"
        yield from (f"{name}: gone: {row}"[:300] for row in sorted(set(rows[0]) - set(rows[1])))
        yield from (f"{name}: new: {row}"[:300] for row in sorted(set(rows[1]) - set(rows[0])))


def rows_of(path: Path, columns: int | None = None) -> tuple[list[str], list[str]]:
    """The head of a table and the first cells of its rows as text, without links, which hold keys."""
    with path.open(newline="", encoding="utf-8") as file:
        head, *rows = csv.reader(file)
    keep = [n for n, column in enumerate(head[:columns]) if column != "report"]
    return head, [",".join(row[n] for n in keep) for row in rows]


if __name__ == "__main__":
    sys.exit(main())
