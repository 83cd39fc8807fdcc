"""Priorities, lookup by keyed digests, rejected images, and the settings that a process works with."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("cases", sa.Column("priority", sa.Integer(), nullable=False, server_default="0"))
    op.add_column("processes", sa.Column("settings_digest", sa.String(64), nullable=True))
    op.add_column("series", sa.Column("process_now", sa.Boolean(), nullable=False, server_default=sa.false()))
    for name in ("patient_digest", "accession_digest"):
        op.add_column("series", sa.Column(name, sa.String(64), nullable=True))
        op.create_index(op.f(f"series_{name}"), "series", [name], unique=False)
    op.add_column("series", sa.Column("invalid_code", sa.String(64), nullable=True))
    op.create_table(
        "rejected_images",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("sop_instance_uid", sa.String(64), nullable=False),
        sa.Column("series_instance_uid", sa.String(64), nullable=False),
        sa.Column("code", sa.String(16), nullable=False),
        sa.Column("note_uid", sa.String(64), nullable=False),
        sa.Column("received_at", sa.DateTime(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("rejected_images_key")),
        sa.UniqueConstraint("sop_instance_uid", "note_uid", name="rejected_once"),
    )
    for name in ("sop_instance_uid", "series_instance_uid"):
        op.create_index(op.f(f"rejected_images_{name}"), "rejected_images", [name], unique=False)
