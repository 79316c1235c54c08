"""The tables of the PostgreSQL store: making them, and bringing older ones up to date.

Main entry: `migrate`. Laws: the scripts of `migrations_postgres/` run in the order of their numbers, each once, all of
them in one transaction, by one process at a time (an advisory lock); a schema of a newer version, or of another
program, is refused and left untouched.
"""

from __future__ import annotations

from importlib import resources
from typing import TYPE_CHECKING

import asyncpg

from apikeyrouter.domain.errors import StateStoreError
from apikeyrouter.infrastructure.state_store.postgres_url import PostgresTarget

if TYPE_CHECKING:
    Connection = asyncpg.Connection[asyncpg.Record]

__all__ = ["migrate"]

SERVER_VERSION_MIN = 130_000
"""PostgreSQL 13: the first with `pg_current_xact_id`, which tells what became of an interrupted commit."""

_LOCK_CLASS = 0x414B5231
"""The letters AKR1 in ASCII: the first half of our advisory locks; the second is a hash of the schema's name."""


async def migrate(connection: Connection, target: PostgresTarget) -> None:
    """Brings the target's schema up to date. Raises StateStoreError or what the driver raises."""
    version = int(await connection.fetchval("SELECT current_setting('server_version_num')::int"))
    if version < SERVER_VERSION_MIN:
        raise StateStoreError(
            f"The store {target.description} is PostgreSQL {version // 10_000}; 13 or newer is needed: upgrade it."
        )
    scripts = _scripts()
    if await _version(connection, target, len(scripts)) == len(scripts):
        return
    async with connection.transaction():
        await connection.execute("SET LOCAL lock_timeout = 0")
        await connection.execute("SET LOCAL statement_timeout = 0")
        await connection.execute("SELECT pg_advisory_xact_lock($1, hashtext($2))", _LOCK_CLASS, target.schema)
        # Another process may have migrated while we waited for the lock.
        done = await _version(connection, target, len(scripts))
        if done == len(scripts):
            return
        if not await connection.fetchval("SELECT EXISTS (SELECT FROM pg_namespace WHERE nspname = $1)", target.schema):
            await connection.execute(f'CREATE SCHEMA "{target.schema}"')
        for number, script in enumerate(scripts[done:], start=done + 1):
            await connection.execute(script)
            await connection.execute("INSERT INTO schema_version (version) VALUES ($1)", number)


async def _version(connection: Connection, target: PostgresTarget, newest: int) -> int:
    tables = await connection.fetch(
        "SELECT c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace "
        "WHERE n.nspname = $1 AND c.relkind IN ('r', 'p', 'v', 'm', 'f')",
        target.schema,
    )
    names = {row[0] for row in tables}
    if not names:
        return 0
    if not {"schema_version", "leases"} <= names:
        raise StateStoreError(
            f'The store {target.description} has tables of another program in the schema "{target.schema}". Name '
            "another schema with schema=NAME; it is made if need be."
        )
    version = int(await connection.fetchval("SELECT coalesce(max(version), 0) FROM schema_version"))
    if version > newest:
        raise StateStoreError(
            f"The store {target.description} has version {version}; this program knows versions up to {newest}. A "
            "newer apikeyrouter wrote it: upgrade this one, or name another schema."
        )
    return version


def _scripts() -> list[str]:
    """The scripts in the order of their numbers; script N leads to version N."""
    folder = resources.files("apikeyrouter.infrastructure.state_store") / "migrations_postgres"
    scripts = sorted((one for one in folder.iterdir() if one.name.endswith(".sql")), key=lambda one: one.name)
    return [one.read_text(encoding="utf-8") for one in scripts]
