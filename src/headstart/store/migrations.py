"""How the database came to look as it does, one function per version. A published one is never changed again."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import Connection

from headstart.sql.migrations import Migration


def _responses(connection: Connection) -> None:
    """Responses, and the items of their conversations (`store.responses`)."""
    for statement in (
        "CREATE TABLE responses ("
        " number INTEGER PRIMARY KEY AUTOINCREMENT,"  # never given twice: it also says which is older
        " id TEXT NOT NULL UNIQUE,"
        " organisation TEXT NOT NULL,"
        " parent INTEGER REFERENCES responses (number),"
        " created_at REAL NOT NULL,"
        " body BLOB)",
        "CREATE INDEX responses_by_parent ON responses (parent)",
        "CREATE INDEX responses_by_age ON responses (created_at) WHERE body IS NOT NULL",
        "CREATE TABLE items ("
        " response INTEGER NOT NULL REFERENCES responses (number) ON DELETE CASCADE,"
        " position INTEGER NOT NULL,"
        " output INTEGER NOT NULL,"
        " id TEXT NOT NULL,"
        " body BLOB NOT NULL,"
        " PRIMARY KEY (response, position))",
    ):
        connection.exec_driver_sql(statement)


MIGRATIONS: Sequence[Migration] = (_responses,)
"""`MIGRATIONS[n]` leads from version n to n + 1; version 0 is an empty file."""
