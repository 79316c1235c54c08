"""The database file: how it is created, opened and migrated, and what its failures mean.

Main entries: `connect` for the writing connection (creates and migrates), `connect_reader` for the reading one,
`store_error` from any failure to a StateStoreError that says what happened and what to do.
Laws: the file is readable by its owner only (0600; SQLite gives -wal and -shm the same mode); migrations run in one
transaction, all or none; a database of a newer version, or of another program, is refused and left untouched.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from apikeyrouter.domain.errors import StateStoreError

__all__ = ["DatabaseFile", "connect", "connect_reader", "is_busy", "is_lasting", "store_error"]

APPLICATION_ID = 0x414B5231
"""Marks our databases (`PRAGMA application_id`): "AKR1" in ASCII."""

_LASTING = frozenset(
    {
        sqlite3.SQLITE_BUSY,
        sqlite3.SQLITE_CANTOPEN,
        sqlite3.SQLITE_CORRUPT,
        sqlite3.SQLITE_IOERR,
        sqlite3.SQLITE_LOCKED,
        sqlite3.SQLITE_NOTADB,
        sqlite3.SQLITE_PERM,
        sqlite3.SQLITE_READONLY,
    }
)

_ADVICE = {
    sqlite3.SQLITE_BUSY: "another process has kept it locked for too long; stop that process, or use a file of its own",
    sqlite3.SQLITE_LOCKED: "another process has kept it locked for too long; stop that process",
    sqlite3.SQLITE_CANTOPEN: "the file or its directory cannot be opened; check that both exist and are yours to write",
    sqlite3.SQLITE_PERM: "access was denied; check who owns the file and its directory",
    sqlite3.SQLITE_READONLY: "the file or its directory is read-only; make both writable, or choose another path",
    sqlite3.SQLITE_NOTADB: "the file is not a SQLite database; choose another path, or move that file away",
    sqlite3.SQLITE_CORRUPT: "the database is damaged; restore it from a backup, or move it away to start anew",
    sqlite3.SQLITE_FULL: "there is no room left; free disk space, or raise max_file_bytes if you have set it",
    sqlite3.SQLITE_IOERR: "the disk failed to read or write; check the disk and its file system",
}


@dataclass(frozen=True, slots=True)
class DatabaseFile:
    """Which file, and how to open it. `max_file_bytes`: the most that the file may grow to, None: the disk's size."""

    path: Path
    busy_timeout_s: float = 5.0
    max_file_bytes: int | None = None
    connection_class: type[sqlite3.Connection] = sqlite3.Connection


def is_lasting(error: BaseException) -> bool:
    """Whether the next statement would fail for the same reason, so that trying the others one by one is useless."""
    return isinstance(error, OSError) or _primary_code(error) in _LASTING


def is_busy(error: BaseException) -> bool:
    """Whether another connection holds the lock, so that trying again may help."""
    return _primary_code(error) == sqlite3.SQLITE_BUSY


def store_error(error: BaseException, path: Path) -> StateStoreError:
    """What happened, why, what to do."""
    if isinstance(error, StateStoreError):
        return error
    if isinstance(error, OSError):
        reason = error.strerror or str(error)
        return StateStoreError(f"The store {path} cannot be opened: {reason}. Check the path and who may write there.")
    advice = _ADVICE.get(_primary_code(error), "a row holds a value that SQLite cannot keep, or the file was altered")
    return StateStoreError(f"The store {path} failed: {advice}. SQLite says: {error}.")


def _primary_code(error: BaseException) -> int:
    return int(getattr(error, "sqlite_errorcode", None) or 0) & 0xFF


def connect(file: DatabaseFile) -> sqlite3.Connection:
    """The writing connection, schema up to date. It does not wait for locks any more: the writer does, at BEGIN, where
    alone another writer can be in the way. Raises StateStoreError, OSError or sqlite3.Error."""
    _create_private(file.path)
    connection = _open(file)
    try:
        _refuse_strangers(connection, file.path)
        _use_wal(connection, file.path)
        # Freed pages that are written anyway are zeroed: a deleted key's ciphertext does not linger in them.
        connection.execute("PRAGMA secure_delete=FAST")
        connection.execute(f"PRAGMA journal_size_limit={16 * 1024 * 1024}")
        _migrate(connection, file.path)
        if file.max_file_bytes is not None:
            page_bytes = connection.execute("PRAGMA page_size").fetchone()[0]
            connection.execute(f"PRAGMA max_page_count={max(1, file.max_file_bytes // page_bytes)}")
        connection.execute("PRAGMA busy_timeout=0")
    except BaseException:
        connection.close()
        raise
    return connection


def connect_reader(file: DatabaseFile) -> sqlite3.Connection:
    """A connection that cannot write, to a database that `connect` has opened before."""
    connection = _open(file)
    connection.execute("PRAGMA query_only=ON")
    return connection


def _create_private(path: Path) -> None:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    if path.exists():
        return
    os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
    # A file is only as durable as its entry in the directory (not every platform can sync one).
    with contextlib.suppress(OSError):
        directory = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)


def _open(file: DatabaseFile) -> sqlite3.Connection:
    connection = sqlite3.connect(
        file.path, timeout=file.busy_timeout_s, isolation_level=None, factory=file.connection_class
    )
    connection.execute("PRAGMA foreign_keys=ON")
    connection.execute("PRAGMA temp_store=MEMORY")
    return connection


def _refuse_strangers(connection: sqlite3.Connection, path: Path) -> None:
    application_id = connection.execute("PRAGMA application_id").fetchone()[0]
    tables = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
    if application_id != APPLICATION_ID and (application_id or tables):
        raise StateStoreError(f"The store {path} is the database of another program. Choose another path.")


def _use_wal(connection: sqlite3.Connection, path: Path) -> None:
    # Only the change to WAL needs the file to itself; asking first keeps later openings free of that wait.
    if connection.execute("PRAGMA journal_mode").fetchone()[0] == "wal":
        return
    if connection.execute("PRAGMA journal_mode=WAL").fetchone()[0] != "wal":
        raise StateStoreError(
            f"The store {path} is on a file system without shared memory (often a network drive), which SQLite's "
            "write-ahead log needs. Choose a path on a local disk."
        )


def _migrate(connection: sqlite3.Connection, path: Path) -> None:
    scripts = _migrations()
    if _known_version(connection, len(scripts), path) == len(scripts):
        return
    connection.execute("BEGIN IMMEDIATE")
    try:
        # Another process may have migrated while we waited for the lock.
        for script in scripts[_known_version(connection, len(scripts), path) :]:
            for statement in _statements(script):
                connection.execute(statement)
        connection.execute(f"PRAGMA application_id={APPLICATION_ID}")
        connection.execute(f"PRAGMA user_version={len(scripts)}")
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def _known_version(connection: sqlite3.Connection, newest: int, path: Path) -> int:
    version = int(connection.execute("PRAGMA user_version").fetchone()[0])
    if version > newest:
        raise StateStoreError(
            f"The store {path} has version {version}; this program knows versions up to {newest}. A newer "
            "apikeyrouter wrote it: upgrade this one, or choose another path."
        )
    return version


def _migrations() -> list[str]:
    """The scripts in the order of their numbers; script N leads to version N."""
    folder = resources.files("apikeyrouter.infrastructure.state_store") / "migrations"
    scripts = sorted((one for one in folder.iterdir() if one.name.endswith(".sql")), key=lambda one: one.name)
    return [one.read_text(encoding="utf-8") for one in scripts]


def _statements(script: str) -> list[str]:
    """The statements one by one: `executescript` would commit the transaction that holds them together."""
    statements, pending = [], ""
    for line in script.splitlines(keepends=True):
        pending += line
        if sqlite3.complete_statement(pending):
            statements.append(pending)
            pending = ""
    return statements
