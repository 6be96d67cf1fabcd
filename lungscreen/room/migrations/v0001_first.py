"""The first schema."""

from __future__ import annotations

from alembic import op

from lungscreen.room.tables import METADATA

__all__ = ["downgrade", "upgrade"]

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

_SQLITE = (
    "CREATE TRIGGER audit_no_update BEFORE UPDATE ON audit BEGIN SELECT RAISE(ABORT, 'append only'); END",
    "CREATE TRIGGER audit_no_delete BEFORE DELETE ON audit BEGIN SELECT RAISE(ABORT, 'append only'); END",
    "CREATE TRIGGER signed_first_stays BEFORE UPDATE OF first_text ON reads WHEN OLD.first_text != '' AND"
    " NEW.first_text != OLD.first_text BEGIN SELECT RAISE(ABORT, 'signed'); END",
    "CREATE TRIGGER signed_final_stays BEFORE UPDATE ON reads WHEN OLD.final_text != '' AND"
    " (NEW.final_text != OLD.final_text OR NEW.content != OLD.content) BEGIN SELECT RAISE(ABORT, 'signed'); END",
)

_POSTGRESQL = (
    "CREATE FUNCTION room_refuse() RETURNS trigger AS $$ BEGIN RAISE EXCEPTION 'append only'; END $$ LANGUAGE plpgsql",
    "CREATE TRIGGER audit_no_change BEFORE UPDATE OR DELETE OR TRUNCATE ON audit FOR EACH STATEMENT"
    " EXECUTE FUNCTION room_refuse()",
    "CREATE TRIGGER signed_first_stays BEFORE UPDATE ON reads FOR EACH ROW WHEN (OLD.first_text != '' AND"
    " NEW.first_text != OLD.first_text) EXECUTE FUNCTION room_refuse()",
    "CREATE TRIGGER signed_final_stays BEFORE UPDATE ON reads FOR EACH ROW WHEN (OLD.final_text != '' AND"
    " (NEW.final_text != OLD.final_text OR NEW.content != OLD.content)) EXECUTE FUNCTION room_refuse()",
)


def upgrade() -> None:
    """Make the tables, and the triggers that keep what is signed or audited from being changed."""
    connection = op.get_bind()
    METADATA.create_all(connection)
    for statement in _POSTGRESQL if connection.dialect.name == "postgresql" else _SQLITE:
        op.execute(statement)


def downgrade() -> None:
    """There is nothing before.

    Errors: NotImplementedError.
    """
    raise NotImplementedError("there is no earlier schema")
