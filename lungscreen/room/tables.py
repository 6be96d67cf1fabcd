"""The tables of the room's database. How they come about and change: `migrations`."""

from __future__ import annotations

from sqlalchemy import (
    Boolean,
    Column,
    Float,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
)

__all__ = [
    "METADATA", "addenda", "audit", "jobs", "marks", "reads", "sessions", "studies", "tiers", "tokens", "users",
    "wrong",
]  # fmt: skip

METADATA = MetaData()

users = Table(
    "users",
    METADATA,
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
"""pseudonym: names the person in exports."""

sessions = Table(
    "sessions",
    METADATA,
    Column("token", String(64), primary_key=True),
    Column("user", Integer, ForeignKey("users.id"), nullable=False),
    Column("created", Float, nullable=False),
    Column("seen", Float, nullable=False),
    Column("through", String(16), nullable=False),
    Column("proved", Float, nullable=False),
)
"""token: SHA-256 of the cookie's. proved: when the password, or the issuer's, was last given."""

tokens = Table(
    "tokens",
    METADATA,
    Column("token", String(64), primary_key=True),
    Column("user", Integer, ForeignKey("users.id"), nullable=False),
    Column("created", Float, nullable=False),
)

wrong = Table(
    "wrong",
    METADATA,
    Column("id", Integer, primary_key=True),
    Column("who", String(80), nullable=False, index=True),
    Column("at", Float, nullable=False),
)
"""Wrong passwords. who: of an account or an address, hashed."""

studies = Table(
    "studies",
    METADATA,
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
    Index("studies_order", "urgent", "arrived", "key"),
)
"""state: unread, second (one read is final, another is wanted), arbitration, final. cad and suspicion stand behind the
gate."""

reads = Table(
    "reads",
    METADATA,
    Column("id", String(32), primary_key=True),
    Column("study", String(12), ForeignKey("studies.key"), nullable=False, index=True),
    Column("kind", String(16), nullable=False),
    Column("reader", Integer, ForeignKey("users.id"), nullable=False, index=True),
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
"""first_text, final_text: what was signed, canonical JSON; nothing signed is changed."""

marks = Table(
    "marks",
    METADATA,
    Column("read", String(32), ForeignKey("reads.id"), primary_key=True),
    Column("id", String(8), primary_key=True),
    Column("position_mm", Text, nullable=False),
    Column("measured", Text, nullable=False),
    Column("outline", Text, nullable=False, default="null"),
    Column("after_cad", Boolean, nullable=False),
    Column("made", Float, nullable=False),
    Column("state", String(16), nullable=False, server_default="measured"),
)
"""Nodules that a reader added, as the product measured them.

state: waiting (it is saved and not measured yet), measured, failed (it could not be measured).
"""

addenda = Table(
    "addenda",
    METADATA,
    Column("id", Integer, primary_key=True),
    Column("read", String(32), ForeignKey("reads.id"), nullable=False, index=True),
    Column("text", Text, nullable=False),
    Column("who", Integer, ForeignKey("users.id"), nullable=False),
    Column("at", Float, nullable=False),
)

jobs = Table(
    "jobs",
    METADATA,
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

audit = Table(
    "audit",
    METADATA,
    Column("seq", Integer, primary_key=True, autoincrement=False),
    Column("at", Float, nullable=False),
    Column("who", String(64), nullable=False),
    Column("what", String(32), nullable=False),
    Column("object", String(64), nullable=False),
    Column("detail", Text, nullable=False),
    Column("mac", String(64), nullable=False),
)
"""Append only: triggers refuse anything else, and `mac` chains each row to the one before."""

tiers = Table(
    "tiers",
    METADATA,
    Column("version", Integer, primary_key=True),
    Column("frozen", Float, nullable=False),
    Column("cuts", Text, nullable=False),
    Column("reference", Integer, nullable=False),
)
"""Deciles of the suspicion score on the reference nights, frozen with a version."""
