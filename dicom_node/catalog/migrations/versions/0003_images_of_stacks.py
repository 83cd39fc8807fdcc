"""The images of a stack are rows, not a list in JSON; a series knows how many images and bytes it has."""

from __future__ import annotations

import json

import sqlalchemy as sa
from alembic import op
from alembic.util import CommandError

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "stack_images",
        sa.Column("stack_id", sa.Integer(), nullable=False),
        sa.Column("position", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("instance_id", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(["instance_id"], ["instances.id"], name=op.f("stack_images_instance_id_exists")),
        sa.ForeignKeyConstraint(["stack_id"], ["stacks.id"], name=op.f("stack_images_stack_id_exists")),
        sa.PrimaryKeyConstraint("stack_id", "position", name=op.f("stack_images_key")),
    )
    op.create_index(op.f("stack_images_instance_id"), "stack_images", ["instance_id"], unique=False)
    _carry_images_over()
    op.drop_column("stacks", "instance_ids")
    op.add_column("series", sa.Column("image_count", sa.Integer(), nullable=False, server_default="0"))
    op.add_column("series", sa.Column("quarantined_count", sa.Integer(), nullable=False, server_default="0"))
    op.add_column("series", sa.Column("stored_bytes", sa.BigInteger(), nullable=False, server_default="0"))
    _count_images()


def _carry_images_over() -> None:
    connection = op.get_bind()
    target = sa.table("stack_images", sa.column("stack_id"), sa.column("position"), sa.column("instance_id"))
    for stack_id, stored in connection.execute(sa.text("SELECT id, instance_ids FROM stacks ORDER BY id")).all():
        rows = [
            {"stack_id": stack_id, "position": position, "instance_id": instance_id}
            for position, instance_id in enumerate(_instance_ids(stack_id, stored))
        ]
        if rows:
            connection.execute(sa.insert(target), rows)


def _instance_ids(stack_id: int, stored: object) -> list[int]:
    """What the column holds: SQLite hands text over, PostgreSQL the list. Raises CommandError for anything else."""
    try:
        ids = json.loads(stored) if isinstance(stored, str) else stored
    except ValueError:
        ids = None
    if not isinstance(ids, list) or not all(isinstance(instance_id, int) for instance_id in ids):
        raise CommandError(f"the images of stack {stack_id} cannot be read: {stored!r:.60}")
    return ids


def _count_images() -> None:
    op.execute(
        """
        UPDATE series SET
            image_count = (SELECT count(*) FROM instances
                WHERE instances.series_id = series.id AND NOT instances.quarantined),
            quarantined_count = (SELECT count(*) FROM instances
                WHERE instances.series_id = series.id AND instances.quarantined),
            stored_bytes = (SELECT coalesce(sum(size), 0) FROM instances WHERE instances.series_id = series.id)
        """
    )
