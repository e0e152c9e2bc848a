"""Alembic's revisions; `python -m app.db upgrade` runs them."""
