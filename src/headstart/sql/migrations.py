"""How a database comes to look as it does: numbered steps, each done once."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from sqlalchemy import Connection, inspect, text

from headstart.errors import StartError

Migration = Callable[[Connection], None]


def is_up_to_date(connection: Connection, migrations: Sequence[Migration]) -> bool:
    """Whether there is nothing to do, so that who only reads needn't be able to write."""
    if not inspect(connection).has_table("schema_version"):
        return False
    return connection.exec_driver_sql("SELECT version FROM schema_version").scalar() == len(migrations)


def migrate(connection: Connection, migrations: Sequence[Migration]) -> None:
    """Bring the database up to date, within the transaction that is open: `migrations[n]` leads from version n to n +
    1, and version 0 is an empty database. Raises `StartError` if it is newer."""
    connection.exec_driver_sql("CREATE TABLE IF NOT EXISTS schema_version (version INTEGER NOT NULL)")
    found = connection.exec_driver_sql("SELECT version FROM schema_version").scalar()
    version = found or 0
    if version > len(migrations):
        raise StartError(
            f"was made by a newer version of Headstart (version {version} of the tables, this program knows "
            f"{len(migrations)}). Run that one."
        )
    for migration in migrations[version:]:
        migration(connection)
    change = "INSERT INTO schema_version VALUES (:to)" if found is None else "UPDATE schema_version SET version = :to"
    connection.execute(text(change), {"to": len(migrations)})
