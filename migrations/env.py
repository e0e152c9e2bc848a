"""How Alembic reaches the database: the caller, `app.db`, passes its connection and holds the transaction."""

from __future__ import annotations

from alembic import context

from app.tables import Base

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=Base.metadata,
    render_as_batch=True,
    compare_type=True,
)
context.run_migrations()
