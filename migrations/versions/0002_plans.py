"""Jobs refer to the plan that they carry out; columns that nothing read go."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    # Column by column and not by copying the table: SQLite would delete the events and artifacts of a table it drops.
    op.add_column("jobs", sa.Column("plan_sha256", sa.String(64), nullable=True))
    op.create_index(op.f("ix_jobs_plan_sha256"), "jobs", ["plan_sha256"], unique=False)
    op.execute("UPDATE jobs SET spec_resolved = spec WHERE spec_resolved IS NULL")
    op.drop_column("jobs", "dry_run")
    op.drop_column("models", "normalized_bytes")


def downgrade() -> None:
    op.add_column("models", sa.Column("normalized_bytes", sa.BigInteger(), nullable=True))
    op.add_column("jobs", sa.Column("dry_run", sa.Boolean(), nullable=False, server_default=sa.false()))
    op.drop_index(op.f("ix_jobs_plan_sha256"), "jobs")
    op.drop_column("jobs", "plan_sha256")
