"""Deliveries tell what the destination failed from what never reached it."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("deliveries", sa.Column("reached", sa.Boolean(), nullable=False, server_default=sa.true()))
    op.add_column("deliveries", sa.Column("failures", sa.Integer(), nullable=False, server_default="0"))
