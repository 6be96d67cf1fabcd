"""The first schema, as it was released: its columns are written out here, so that later tables do not change it."""

from __future__ import annotations

from alembic import op
from sqlalchemy import (
    Boolean,
    Column,
    Float,
    ForeignKey,
    Integer,
    String,
    Text,
    UniqueConstraint,
)

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
    _create_people()
    _create_studies()
    _create_reads()
    _create_audit()
    for statement in _POSTGRESQL if connection.dialect.name == "postgresql" else _SQLITE:
        op.execute(statement)


def downgrade() -> None:
    """There is nothing before.

    Errors: NotImplementedError.
    """
    raise NotImplementedError("there is no earlier schema")


# -- tables -----------------------------------------------------------------------------------------------------------
def _create_people() -> None:
    op.create_table(
        "users",
        Column("id", Integer, primary_key=True),
        Column("name", String(64), nullable=False, unique=True),
        Column("role", String(16), nullable=False),
        Column("password", Text, nullable=False, default=""),
        Column("subject", String(255), nullable=False, default=""),
        Column("active", Boolean, nullable=False, default=True),
        Column("settings", Text, nullable=False, default="{}"),
        Column("pseudonym", String(32), nullable=False, unique=True),
        Column("created", Float, nullable=False),
    )
    op.create_table(
        "sessions",
        Column("token", String(64), primary_key=True),
        Column("user", Integer, ForeignKey("users.id"), nullable=False),
        Column("created", Float, nullable=False),
        Column("seen", Float, nullable=False),
        Column("through", String(16), nullable=False),
        Column("proved", Float, nullable=False),
    )
    op.create_table(
        "tokens",
        Column("token", String(64), primary_key=True),
        Column("user", Integer, ForeignKey("users.id"), nullable=False),
        Column("created", Float, nullable=False),
    )
    op.create_table(
        "wrong",
        Column("id", Integer, primary_key=True),
        Column("who", String(80), nullable=False),
        Column("at", Float, nullable=False),
    )
    op.create_index("ix_wrong_who", "wrong", ["who"])


def _create_studies() -> None:
    op.create_table(
        "studies",
        Column("key", String(12), primary_key=True),
        Column("stamp", String(80), nullable=False),
        Column("status", String(16), nullable=False),
        Column("code", String(64), nullable=False, default=""),
        Column("reason", Text, nullable=False, default=""),
        Column("patient_id", Text, nullable=False, default=""),
        Column("name", Text, nullable=False, default=""),
        Column("date", String(32), nullable=False, default=""),
        Column("accession_number", Text, nullable=False, default=""),
        Column("description", Text, nullable=False, default=""),
        Column("study_uid", Text, nullable=False, default=""),
        Column("search", Text, nullable=False, default=""),
        Column("urgent", Boolean, nullable=False, default=False),
        Column("arrived", Float, nullable=False),
        Column("priors", Integer, nullable=False, default=0),
        Column("notices", Text, nullable=False, default="[]"),
        Column("cad", Text, nullable=False, default="{}"),
        Column("suspicion", Float, nullable=False, default=0.0),
        Column("tier", Integer),
        Column("state", String(16), nullable=False, default="unread"),
        Column("pins", Text, nullable=False, default="{}"),
    )
    op.create_index("studies_order", "studies", ["urgent", "arrived", "key"])
    op.create_table(
        "tiers",
        Column("version", Integer, primary_key=True),
        Column("frozen", Float, nullable=False),
        Column("cuts", Text, nullable=False),
        Column("reference", Integer, nullable=False),
    )
    op.create_table(
        "jobs",
        Column("id", String(32), primary_key=True),
        Column("sender", Integer, ForeignKey("users.id"), nullable=False),
        Column("idempotency_key", String(255)),
        Column("body_sha256", String(64), nullable=False),
        Column("received", Float, nullable=False),
        Column("state", String(16), nullable=False, default="waiting"),
        Column("code", String(64), nullable=False, default=""),
        Column("study", String(12), nullable=False, default=""),
        Column("folder", Text, nullable=False),
        UniqueConstraint("sender", "idempotency_key", name="one_job_of_a_key"),
    )


def _create_reads() -> None:
    op.create_table(
        "reads",
        Column("id", String(32), primary_key=True),
        Column("study", String(12), ForeignKey("studies.key"), nullable=False),
        Column("kind", String(16), nullable=False),
        Column("reader", Integer, ForeignKey("users.id"), nullable=False),
        Column("mode", String(16), nullable=False),
        Column("state", String(16), nullable=False),
        Column("version", Integer, nullable=False, default=1),
        Column("content", Text, nullable=False),
        Column("pins", Text, nullable=False),
        Column("lease_until", Float, nullable=False, default=0.0),
        Column("opened", Float, nullable=False),
        Column("signed_first", Float),
        Column("cad_shown", Float),
        Column("signed_final", Float),
        Column("active_first_s", Float, nullable=False, default=0.0),
        Column("active_second_s", Float, nullable=False, default=0.0),
        Column("last_active", Float, nullable=False, default=0.0),
        Column("first_text", Text, nullable=False, default=""),
        Column("first_sha256", String(64), nullable=False, default=""),
        Column("final_text", Text, nullable=False, default=""),
        Column("final_sha256", String(64), nullable=False, default=""),
        UniqueConstraint("study", "reader", name="one_read_of_a_reader"),
    )
    op.create_index("ix_reads_study", "reads", ["study"])
    op.create_index("ix_reads_reader", "reads", ["reader"])
    op.create_table(
        "marks",
        Column("read", String(32), ForeignKey("reads.id"), primary_key=True),
        Column("id", String(8), primary_key=True),
        Column("position_mm", Text, nullable=False),
        Column("measured", Text, nullable=False),
        Column("outline", Text, nullable=False, default="null"),
        Column("after_cad", Boolean, nullable=False),
        Column("made", Float, nullable=False),
    )
    op.create_table(
        "addenda",
        Column("id", Integer, primary_key=True),
        Column("read", String(32), ForeignKey("reads.id"), nullable=False),
        Column("text", Text, nullable=False),
        Column("who", Integer, ForeignKey("users.id"), nullable=False),
        Column("at", Float, nullable=False),
    )
    op.create_index("ix_addenda_read", "addenda", ["read"])


def _create_audit() -> None:
    op.create_table(
        "audit",
        Column("seq", Integer, primary_key=True, autoincrement=False),
        Column("at", Float, nullable=False),
        Column("who", String(64), nullable=False),
        Column("what", String(32), nullable=False),
        Column("object", String(64), nullable=False),
        Column("detail", Text, nullable=False),
        Column("mac", String(64), nullable=False),
    )
