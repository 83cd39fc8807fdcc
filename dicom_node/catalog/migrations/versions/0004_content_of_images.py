"""Images have a content beside their bytes: what was kept aside for its bytes alone waits to be compared."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("instances", sa.Column("use", sa.String(length=16), nullable=False, server_default="in use"))
    op.add_column("instances", sa.Column("content_digest", sa.String(length=64), nullable=True))
    op.add_column("instances", sa.Column("comparisons", sa.Integer(), nullable=False, server_default="0"))
    op.add_column("instances", sa.Column("comparison_until", sa.DateTime(), nullable=True))
    # Until now other bytes were taken for another content.
    op.execute("UPDATE instances SET use = 'waiting' WHERE quarantined")
    op.drop_column("instances", "quarantined")
    op.create_index(op.f("instances_use"), "instances", ["use"], unique=False)
