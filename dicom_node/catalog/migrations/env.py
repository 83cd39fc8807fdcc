"""Alembic's entry: runs the steps on the connection that `Catalog.migrate` opened, inside its transaction."""

from __future__ import annotations

from alembic import context

from dicom_node.catalog.tables import Table

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=Table.metadata,
    transactional_ddl=True,
    render_as_batch=True,
)
with context.begin_transaction():
    context.run_migrations()
