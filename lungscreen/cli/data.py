"""`lungscreen data prepare|check|insert`: collections as they are downloaded, made ready for training and measuring."""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lungscreen.cli.exit_codes import ExitCode
from lungscreen.errors import UsageError
from lungscreen.text import plain_text

if TYPE_CHECKING:
    from lungscreen.datasets import Dataset, PrepareConfig
    from lungscreen.errors import Notice, Refusal

__all__ = ["add_arguments", "run"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `lungscreen data`."""
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    prepare = actions.add_parser("prepare", help="cut scans to shards of 1 mm around the lungs, with their annotations")
    prepare.add_argument("kind", choices=("lidc", "luna16", "folder"), help="what was downloaded")
    prepare.add_argument("input", type=Path, metavar="DIR", help="where it lies")
    prepare.add_argument("--out", type=Path, required=True, metavar="DIR", help="where the shards go")
    prepare.add_argument("--xml", type=Path, metavar="DIR", help="lidc: the readers' XML, where it lies elsewhere")
    prepare.add_argument(
        "--agreement", type=int, default=3, metavar="N", help="lidc: readers who must have outlined a nodule (3)"
    )
    prepare.add_argument(
        "--crops", type=Path, metavar="CSV", help="lidc: series_uid, crop_x, crop_y of images cut to a box"
    )
    prepare.add_argument(
        "--nodules", type=Path, metavar="CSV", help="folder: seriesuid, x_mm, y_mm, z_mm, diameter_mm (LPS)"
    )
    prepare.add_argument("--excluded", type=Path, metavar="CSV", help="folder: findings that count neither way")
    prepare.add_argument(
        "--complete",
        action="store_true",
        help="folder: every nodule of every scan is in the table; all else is healthy",
    )
    prepare.add_argument("--licence", default="", metavar="TEXT", help="folder: under which the images may be used")
    prepare.add_argument("--patients", type=Path, metavar="CSV", help="series_uid, patient_id where the images lack it")
    prepare.add_argument("--splits", type=Path, metavar="CSV", help="series_uid, split, instead of drawing sides")
    prepare.add_argument("--validation", type=float, default=0.1, metavar="SHARE", help="of the patients (0.1)")
    prepare.add_argument("--test", type=float, default=0.1, metavar="SHARE", help="of the patients (0.1)")
    prepare.add_argument("--seed", type=int, default=0, help="of the drawn sides (0)")
    check = actions.add_parser("check", help="compare prepared shards with their hashes")
    check.add_argument("input", type=Path, metavar="DIR", help="a folder of shards")
    insert = actions.add_parser("insert", help="set real nodules into held-out scans: a test set for `detect`")
    insert.add_argument(
        "input", type=Path, metavar="DIR", help="annotated data as `train detector` reads them, or the shards of a run"
    )
    insert.add_argument("--subsets", nargs="+", required=True, metavar="N", help="whose cubes' nodules are set in")
    insert.add_argument("--scans", nargs="+", required=True, metavar="NAME", help="whole scans that take them")
    insert.add_argument("--out", type=Path, required=True, metavar="DIR", help="images/, annotations.csv and more")
    insert.add_argument("--per-image", type=int, default=6, metavar="N", help="nodules in one image (6)")
    insert.add_argument("--seed", type=int, default=0, help="of the places (0)")


def run(args: argparse.Namespace) -> int:
    """Prepare, check or insert. Returns the exit code."""
    return {"prepare": _prepare, "check": _check, "insert": _insert}[args.action](args)


def _prepare(args: argparse.Namespace) -> int:
    from lungscreen.datasets import prepare_dataset
    from lungscreen.datasets.splits import SPLITS, read_column

    config, splits = _config(args), read_column(args.splits, "split", SPLITS) if args.splits else None
    dataset = _find(args)
    prepared = prepare_dataset(dataset, args.out, config, splits, _with_bar)
    _say((*prepared.notices, *_of_scans(prepared.shards)), prepared.refused)
    by_split = {side: sum(row["split"] == side for row in prepared.shards) for side in SPLITS}
    sides = ", ".join(f"{side} {count}" for side, count in by_split.items())
    nodules = sum(row["nodules"] for row in prepared.shards)
    print(
        f"shards {len(prepared.shards)} ({prepared.kept} kept): {sides}; nodules {nodules}; refused"
        f" {len(prepared.refused)}"
    )
    return ExitCode.SOME_REFUSED if prepared.refused else ExitCode.OK


def _check(args: argparse.Namespace) -> int:
    from lungscreen.datasets import check_shards

    count, damaged = check_shards(args.input)
    _say((), damaged)
    print(f"shards {count}, damaged {len(damaged)}")
    return ExitCode.FAILED if damaged else ExitCode.OK


def _insert(args: argparse.Namespace) -> int:
    from lungscreen.training.insertion import InsertedSetConfig, prepare_insertion, write_inserted_set

    try:
        config = InsertedSetConfig(tuple(args.subsets), tuple(args.scans), args.per_image, seed=args.seed)
    except ValueError as error:
        raise UsageError("usage", str(error)) from None
    shards = prepare_insertion(args.input, args.out, config)
    write_inserted_set(shards, args.out, config, lambda line: print(line, file=sys.stderr))
    print(args.out / "images")
    return ExitCode.OK


def _config(args: argparse.Namespace) -> PrepareConfig:
    from lungscreen.datasets import PrepareConfig, SplitConfig

    try:
        return PrepareConfig(splits=SplitConfig(args.seed, args.validation, args.test))
    except ValueError as error:
        raise UsageError("usage", str(error)) from None


def _find(args: argparse.Namespace) -> Dataset:
    from lungscreen.datasets import ConsensusConfig, find_folder, find_lidc, find_luna16, read_crops
    from lungscreen.datasets.splits import read_column
    from lungscreen.evaluation import read_nodules

    patients = read_column(args.patients, "patient_id") if args.patients else None
    if args.kind == "lidc":
        try:
            consensus = ConsensusConfig(agreement=args.agreement)
        except ValueError as error:
            raise UsageError("usage", str(error)) from None
        return find_lidc(args.input, args.xml, consensus, read_crops(args.crops) if args.crops else None)
    if args.kind == "luna16":
        return find_luna16(args.input, patients)
    if args.nodules is None:
        raise UsageError("usage", "a folder needs --nodules")
    excluded = read_nodules(args.excluded) if args.excluded else None
    return find_folder(args.input, read_nodules(args.nodules), excluded, args.complete, patients, args.licence)


def _with_bar(scans: Iterable[Any]) -> Iterable[Any]:
    """A progress bar on stderr, none where that is no terminal."""
    from tqdm import tqdm

    bar: Iterable[Any] = tqdm(scans, desc="preparing", unit="scan", disable=None, file=sys.stderr)
    return bar


def _of_scans(shards: Iterable[Mapping[str, Any]]) -> list[Notice]:
    """What is said of single scans, each code once with how many; index.json has it scan by scan."""
    from lungscreen.errors import Notice

    codes = Counter(code for row in shards for code in sorted({notice["code"] for notice in row["notices"]}))
    return [
        Notice(code, f"said of {count} scan{'s' if count > 1 else ''}: see index.json")
        for code, count in sorted(codes.items())
    ]


def _say(notices: Iterable[Notice], refused: Iterable[Refusal]) -> None:
    for notice in notices:
        print(f"lungscreen: {notice.code}: {plain_text(notice.text)}", file=sys.stderr)
    for row in refused:
        print(f"lungscreen: {row.code}: {plain_text(row.reason)} [{plain_text(row.where)}]", file=sys.stderr)
