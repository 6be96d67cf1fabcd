"""One SQLite file of ours: opened, checked, migrated."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Sequence
from pathlib import Path

from lungscreen.errors import OutputError, UsageError

__all__ = ["Migration", "guarded", "open_database"]

Migration = Callable[[sqlite3.Connection], None]
"""Brings a database from one schema version to the next."""

BUSY_S = 30.0
"""How long a reader or writer waits for another one."""


def open_database(
    path: Path, migrations: Sequence[Migration], *, mode: int = 0o644, read_only: bool = False
) -> sqlite3.Connection:
    """The database, at the newest schema version: `PRAGMA user_version` counts the migrations that were run.

    WAL, so that a status can be read while a run writes; every commit is synced before it counts.

    Errors: `ledger-invalid` where it is damaged, no database, or of a newer version; `output-failed` where it cannot be
    written.
    """
    try:
        if read_only:
            # Where no log lies beside it, nobody writes: read the file alone, and leave nothing behind.
            still = "" if path.with_name(f"{path.name}-wal").exists() else "&immutable=1"
            address = f"{path.resolve().as_uri()}?mode=ro{still}"
            connection = sqlite3.connect(address, uri=True, timeout=BUSY_S, isolation_level=None)
        else:
            os.close(os.open(path, os.O_CREAT | os.O_RDWR, mode))
            connection = sqlite3.connect(path, timeout=BUSY_S, isolation_level=None)
    except (OSError, sqlite3.OperationalError) as error:
        raise OutputError("output-failed", f"cannot open the ledger: {error}", str(path)) from None
    connection.row_factory = sqlite3.Row
    try:
        with guarded(path):
            _migrate(connection, migrations, path, read_only)
    except BaseException:
        connection.close()
        raise
    return connection


class guarded:  # noqa: N801 - reads like the keyword it stands beside
    """Turns SQLite's errors into ours: a full disk is `output-failed`, a damaged file `ledger-invalid`."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        if isinstance(error, sqlite3.OperationalError) and "malformed" not in str(error):
            raise OutputError("output-failed", f"cannot write the ledger: {error}", str(self._path)) from None
        if isinstance(error, sqlite3.DatabaseError):
            raise UsageError("ledger-invalid", f"the ledger is damaged: {error}", str(self._path)) from None


def _migrate(connection: sqlite3.Connection, migrations: Sequence[Migration], path: Path, read_only: bool) -> None:
    version = connection.execute("PRAGMA user_version").fetchone()[0]
    if version > len(migrations):
        reason = f"written by a newer version (schema {version}, known up to {len(migrations)})"
        raise UsageError("ledger-invalid", reason, str(path))
    if read_only:
        if version < len(migrations):
            reason = "written by an older version: run the batch once" if version else "just being made: ask again"
            raise UsageError("ledger-invalid", reason, str(path))
        return
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=FULL")
    for number in range(version, len(migrations)):
        connection.execute("BEGIN IMMEDIATE")
        try:
            migrations[number](connection)
            connection.execute(f"PRAGMA user_version={number + 1}")
            connection.execute("COMMIT")
        except BaseException:
            connection.execute("ROLLBACK")
            raise
