"""Dataset ─► shards, index, tables: everything that training and evaluation read, prepared once.

    OUT/NAME.npz, NAME.json, index.json      shards (see `lungscreen.datasets.shards`)
    OUT/annotations.csv, excluded.csv, series.csv   the same truth as tables, for `lungscreen evaluate detection`
    OUT/refused.csv                          scans and files that were left out, and why

A run that was stopped goes on where it was: a shard whose hashes are right is kept.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from lungscreen import __version__
from lungscreen.config import config_hash
from lungscreen.datasets.scans import Dataset, DatasetScan, check_inside
from lungscreen.datasets.shards import (
    annotations_of,
    check_shard,
    cut_shard,
    read_facts,
    read_index,
    write_index,
    write_shard,
)
from lungscreen.datasets.splits import SplitConfig, assign_split, check_disjoint, patient_key
from lungscreen.errors import InputError, LungscreenError, Notice, OutputError, Refusal
from lungscreen.evaluation.output import make_folder, write_csv
from lungscreen.lungs import LungsConfig, segment_lungs
from lungscreen.sources import source_fingerprint
from lungscreen.volume import build_volume

__all__ = ["PrepareConfig", "PreparedDataset", "check_shards", "prepare_dataset", "shard_name"]

ANNOTATION_COLUMNS = ("seriesuid", "coordX", "coordY", "coordZ", "diameter_mm", "type")

Progress = Callable[[Iterable[DatasetScan]], Iterable[DatasetScan]]


@dataclass(frozen=True)
class PrepareConfig:
    """How shards are cut."""

    spacing_mm: float = 1.0
    margin_mm: float = 12.0
    """Room around lungs and nodules."""
    lungs: LungsConfig = field(default_factory=LungsConfig)
    splits: SplitConfig = field(default_factory=SplitConfig)

    def __post_init__(self) -> None:
        if self.spacing_mm <= 0 or self.margin_mm < 0:
            raise ValueError("spacing_mm: expected above 0; margin_mm: at least 0")


@dataclass(frozen=True)
class PreparedDataset:
    """What came of it."""

    shards: tuple[Mapping[str, Any], ...]
    kept: int
    """Shards of an earlier run that were whole."""
    refused: tuple[Refusal, ...]
    notices: tuple[Notice, ...]


def prepare_dataset(
    dataset: Dataset,
    out: Path,
    config: PrepareConfig | None = None,
    splits: Mapping[str, str] | None = None,
    progress: Progress = iter,
) -> PreparedDataset:
    """Turn every scan into a shard. One bad scan never stops the others: it is in `refused`, with its code.

    `splits`: series UID → side, instead of the drawn ones. `progress` wraps the scans.

    Errors: `shards-differ` where `out` holds shards of other options; `split-leaks`; `output-failed`.
    """
    config = config or PrepareConfig()
    make_folder(out)
    identity = config_hash(dataset.kind, config.spacing_mm, config.margin_mm, config.lungs)
    entries, notices = _earlier(out, identity)
    kept, refused = 0, list(dataset.refused)
    _check_sides(dataset, config, splits)
    for scan in progress(dataset.scans):
        name = scan.name or shard_name(scan.series.series_uid)
        try:
            if name in entries and _whole(out, entries[name], scan, notices):
                kept += 1
            else:
                entries.pop(name, None)
                entries[name] = _prepare_scan(scan, name, out, config)
            entries[name] |= {"split": _side(scan, config, splits)}
        except OutputError:
            raise
        except LungscreenError as error:
            refused.append(_refusal(scan, error.code, error.reason))
        except Exception as error:
            refused.append(_refusal(scan, "internal-error", f"{type(error).__name__} while preparing"))
        _write(out, identity, dataset, entries, config)
    shards = _write(out, identity, dataset, entries, config)
    check_disjoint([(row["patient"], row["split"]) for row in shards])
    _write_tables(out, shards, refused)
    return PreparedDataset(shards, kept, tuple(refused), (*dataset.notices, *notices))


def check_shards(folder: Path) -> tuple[int, tuple[Refusal, ...]]:
    """How many shards an index lists, and those that are not what it says.

    Errors: `input-missing` without an index; `shard-damaged` for a broken one; `split-leaks`.
    """
    index = read_index(folder)
    if index is None:
        raise InputError("input-missing", "expected an index.json", str(folder))
    check_disjoint([(row["patient"], row["split"]) for row in index["shards"]])
    damaged = []
    for row in index["shards"]:
        try:
            check_shard(folder, row)
        except InputError as error:
            damaged.append(Refusal(error.where, error.code, error.reason))
    return len(index["shards"]), tuple(damaged)


def shard_name(series_uid: str) -> str:
    """12 hex digits that say nothing about the patient."""
    return hashlib.sha256(series_uid.encode()).hexdigest()[:12]


def _prepare_scan(scan: DatasetScan, name: str, out: Path, config: PrepareConfig) -> dict[str, Any]:
    volume = build_volume(scan.series)
    annotations = check_inside(scan.annotate(volume), volume)
    lungs = segment_lungs(volume, config.lungs)
    shard = cut_shard(volume, lungs, annotations, config.spacing_mm, config.margin_mm)
    facts = {
        "series_uid": scan.series.series_uid,
        "original_series_uid": scan.original_series_uid,
        "licence": scan.licence,
        "sure": scan.complete,
    }
    said = (*volume.notices, *lungs.notices, *annotations.notices)
    return {
        "name": name,
        "series_uid": scan.series.series_uid,
        "patient": patient_key(scan.patient, scan.series.series_uid),
        "patient_known": bool(scan.patient),
        "fold": scan.fold,
        **write_shard(out, name, shard, facts),
        "nodules": len(annotations.nodules),
        "excluded": len(annotations.excluded),
        "fingerprint": _fingerprint(scan),
        "notices": [asdict(notice) for notice in said],
    }


def _fingerprint(scan: DatasetScan) -> str:
    """Changes where the images or what was annotated in them change."""
    return config_hash(source_fingerprint(scan.series), scan.fingerprint, scan.complete)


def _earlier(out: Path, identity: str) -> tuple[dict[str, dict[str, Any]], list[Notice]]:
    """Shards that an earlier run with the same options listed."""
    index = read_index(out)
    if index is None:
        return {}, []
    if index.get("identity") != identity:
        raise InputError("shards-differ", "the folder holds shards made with other options: choose another", str(out))
    return {row["name"]: row for row in index["shards"]}, []


def _whole(out: Path, entry: Mapping[str, Any], scan: DatasetScan, notices: list[Notice]) -> bool:
    if entry["fingerprint"] != _fingerprint(scan):
        notices.append(
            Notice("shard-remade", f"{entry['name']}: images or annotations have changed; it was made again")
        )
        return False
    try:
        check_shard(out, entry)
    except InputError as error:
        notices.append(Notice("shard-remade", f"{error.where}: {error.reason}; it was made again"))
        return False
    return True


def _side(scan: DatasetScan, config: PrepareConfig, splits: Mapping[str, str] | None) -> str:
    uid = scan.series.series_uid
    if splits is not None and uid in splits:
        return splits[uid]
    return assign_split(patient_key(scan.patient, uid), config.splits)


def _check_sides(dataset: Dataset, config: PrepareConfig, splits: Mapping[str, str] | None) -> None:
    check_disjoint([(patient_key(s.patient, s.series.series_uid), _side(s, config, splits)) for s in dataset.scans])


def _write(
    out: Path, identity: str, dataset: Dataset, entries: Mapping[str, Mapping[str, Any]], config: PrepareConfig
) -> tuple[Mapping[str, Any], ...]:
    shards = tuple(entries[name] for name in sorted(entries))
    head = {"kind": dataset.kind, "software_version": __version__, "identity": identity, "options": asdict(config)}
    write_index(out, {**head, "shards": list(shards)})
    return shards


def _write_tables(out: Path, shards: Sequence[Mapping[str, Any]], refused: Iterable[Refusal]) -> None:
    truths = [(row["series_uid"], annotations_of(read_facts(out, row["name"]))) for row in shards]
    for file, kind in (("annotations.csv", "nodules"), ("excluded.csv", "excluded")):
        rows = [(uid, *a.centre_mm, a.diameter_mm, a.type) for uid, truth in truths for a in getattr(truth, kind)]
        write_csv(out / file, ANNOTATION_COLUMNS, rows)
    write_csv(out / "series.csv", ("seriesuid", "split"), [(row["series_uid"], row["split"]) for row in shards])
    write_csv(out / "refused.csv", ("where", "code", "reason"), [(r.where, r.code, r.reason) for r in refused])


def _refusal(scan: DatasetScan, code: str, reason: str) -> Refusal:
    return Refusal(scan.series.series_uid, code, reason, "series", scan.series.exam.study_uid)
