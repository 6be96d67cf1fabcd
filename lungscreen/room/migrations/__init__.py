"""Schema versions of the room's database, by Alembic; a version that was released is never changed."""
