"""Marks that are saved before they are measured: their state."""

from __future__ import annotations

from alembic import op
from sqlalchemy import Column, String

__all__ = ["downgrade", "upgrade"]

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Marks that are there were measured before they were saved."""
    op.add_column("marks", Column("state", String(16), nullable=False, server_default="measured"))


def downgrade() -> None:
    """Errors: NotImplementedError."""
    raise NotImplementedError("going back needs the backup")
