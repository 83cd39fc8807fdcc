"""Whose result is a study's answer, what the order of its stacks compares, and the series of a result object."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "studies",
        sa.Column("study_instance_uid", sa.String(length=64), nullable=False),
        sa.Column("choice_due", sa.Boolean(), nullable=False),
        sa.PrimaryKeyConstraint("study_instance_uid", name=op.f("studies_key")),
    )
    op.create_index(op.f("studies_choice_due"), "studies", ["choice_due"], unique=False)
    op.add_column("stacks", sa.Column("rank", sa.JSON(), nullable=True))
    op.add_column("objects", sa.Column("series_instance_uid", sa.String(length=64), nullable=True))
    op.add_column("cases", sa.Column("current", sa.Boolean(), nullable=False, server_default=sa.false()))
    _keep_what_was_on_its_way()


def _keep_what_was_on_its_way() -> None:
    """Older releases sent every result: each stays current until the next choice in its study."""
    cases = sa.table("cases", sa.column("state"), sa.column("reason_code"), sa.column("current"))
    sent = cases.c.state.in_(["PROVEN", "DELIVERING", "DELIVERED"])
    held = (cases.c.state == "HELD") & (cases.c.reason_code == "DELIVERY_REFUSED")
    op.execute(cases.update().where(sent | held).values(current=True))
