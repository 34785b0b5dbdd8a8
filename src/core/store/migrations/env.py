"""Run by Alembic with the store's own connection, inside the store's own transaction."""

from alembic import context

context.configure(connection=context.config.attributes["connection"])
context.run_migrations()
