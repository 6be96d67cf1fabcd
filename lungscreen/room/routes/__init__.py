"""The routes: one file a part of docs/reference/room-api.md. Each router has the roles that may use it."""
