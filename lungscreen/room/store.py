"""The room's database: SQLite by default, PostgreSQL by its address. The ledger of the results is never written.

read()    a transaction that only looks
write()   a transaction that changes; in SQLite one at a time
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from alembic.config import Config
from alembic.runtime.environment import EnvironmentContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.exc import SQLAlchemyError

from lungscreen.errors import OutputError, UsageError

__all__ = ["Store", "open_store"]

BUSY_S = 30.0
"""How long a writer waits for another one."""

_WRITES = "room_writes"

_MIGRATION_LOCK = 0x6C756E67
"""PostgreSQL's advisory lock that lets one process at a time migrate."""


class Store:
    """The open database."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    @property
    def is_sqlite(self) -> bool:
        """Whether it is a file of this machine, for one service process."""
        return self._engine.dialect.name == "sqlite"

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """A transaction that only looks."""
        with self._engine.connect() as connection, connection.begin():
            yield connection

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """A transaction that changes: all of the block, or nothing. It is on disk when the block has ended."""
        with self._engine.connect().execution_options(**{_WRITES: True}) as connection, connection.begin():
            yield connection

    def close(self) -> None:
        """Let go of every connection."""
        self._engine.dispose()


def open_store(address: str | Path) -> Store:
    """The database at a path (SQLite) or an address (`postgresql://user@host/room`), migrated to the newest schema.

    Errors: `output-failed` where it cannot be opened or made; `ledger-invalid` where it is of a newer version.
    """
    engine = _engine(address)
    try:
        _migrate(engine)
    except SQLAlchemyError as error:
        engine.dispose()
        kind = type(getattr(error, "orig", None) or error).__name__
        raise OutputError("output-failed", f"cannot open the room's database ({kind})") from None
    return Store(engine)


def _engine(address: str | Path) -> Engine:
    if isinstance(address, Path):
        try:
            address.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            os.close(os.open(address, os.O_CREAT | os.O_RDWR, 0o600))
        except OSError as error:
            raise OutputError("output-failed", f"cannot make the room's database: {error.strerror}") from None
        engine = create_engine(
            f"sqlite:///{address}",
            connect_args={"timeout": BUSY_S},
            pool_size=20,
            max_overflow=40,
            hide_parameters=True,
        )
        event.listen(engine, "connect", _on_connect)
        event.listen(engine, "begin", _on_begin)
        return engine
    if not address.startswith("postgresql"):
        raise UsageError("usage", "expected an address that begins with postgresql://")
    whole = address.replace("postgresql://", "postgresql+psycopg://", 1)
    return create_engine(whole, pool_size=20, max_overflow=20, pool_pre_ping=True, hide_parameters=True)


def _on_connect(connection: Any, _: Any) -> None:
    connection.isolation_level = None
    for setting in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON"):
        connection.execute(f"PRAGMA {setting}")


def _on_begin(connection: Connection) -> None:
    writes = connection.get_execution_options().get(_WRITES)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


def _migrate(engine: Engine, to: str = "head") -> None:
    """Alembic's migrations up to a version, run from the installed package; each in one transaction."""
    config = Config()
    folder = str(Path(__file__).with_name("migrations"))
    config.set_main_option("script_location", folder)
    config.set_main_option("version_locations", folder)
    config.set_main_option("path_separator", "os")
    script = ScriptDirectory.from_config(config)

    def upgrade(now: Any, _: Any) -> Any:
        known = {revision.revision for revision in script.walk_revisions()}
        if set(now) - known:
            raise UsageError("ledger-invalid", "the room's database was written by a newer version")
        return script._upgrade_revs(to, now)

    with engine.connect().execution_options(**{_WRITES: True}) as connection, connection.begin():
        if engine.dialect.name == "postgresql":
            connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({_MIGRATION_LOCK})")
        with EnvironmentContext(config, script, fn=upgrade) as context:
            context.configure(connection=connection, transactional_ddl=True)
            context.run_migrations()
