"""The black box of one worker: what it has spent and sent, kept where `kill -9` cannot reach it.

A box is a small file that its worker maps into memory and keeps locked (`flock`) for as long as it lives. Writing two
integers there costs about 40 ns and no system call; the kernel keeps the pages when the process dies. Whoever can lock
the file knows that its worker is gone, and reads what it owed. Main entries: `BlackBox.create`, `find_dead`.

Laws: at every instant the file is readable: a record counts only once its last word is written, in one store of eight
bytes. A record is never reported under a name that is not its own. A box of another store, of another user, or whose
owner lives is left alone; one of an earlier boot (a power cut may have lost pages) or a damaged one is not `trusted`
and says nothing. Only one process at a time holds a wreck. The directory must be on a local disk: locks and boot ids of
other machines mean nothing here.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import io
import mmap
import os
import re
import struct
import subprocess
import sys
import zlib
from functools import cache
from pathlib import Path

from apikeyrouter.domain.interfaces.shared_ledger import Legacy

if sys.platform != "win32":
    import fcntl

__all__ = ["BUDGET_ID_BYTES_MAX", "BlackBox", "Slot", "Wreck", "available", "find_dead"]

BUDGET_ID_BYTES_MAX = 64
CHUNK_BYTES = 65536
"""The file grows by whole chunks, each mapped by itself, so that memory handed out stays where it is. 64 KiB is a
multiple of the page size of every platform that we know (4, 16 and 64 KiB)."""

CHUNKS_MAX = 256
"""About 131,000 windows at once in one process; more is a fault of the caller."""

_SLOT_BYTES = 128  # two cache lines: commit word, two cells, identity
_HEADER_BYTES = 256
_HEADER = struct.Struct("=8s32s36s64s")  # magic with version, store, boot id, worker id; a checksum follows
_IDENTITY = struct.Struct("=qQ64s")  # window, length of the budget id, budget id
_WORDS = struct.Struct("=Qqq")  # commit word, spent, sent
_MAGIC = b"AKRBOX\x00\x01"
_CHUNK_COUNT_AT = 248
_COMMITTED = 1 << 32  # above the checksum, so that no identity's commit word is 0
_WORKER_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
_CREATE_TRIES = 5


def available() -> bool:
    """Whether this platform can keep black boxes: it has `flock` and tells one boot from the next."""
    return sys.platform != "win32" and _boot_id() != ""


class Slot:
    """One window of one budget. `cells[0]` is what was spent, `cells[1]` what was sent and is not settled: signed
    64-bit integers, written as `slot.cells[0] = n`.

    Write so that an end between two writes charges too much rather than too little: `sent` up before anything leaves;
    at settling `spent` up first, then `sent` down.
    """

    __slots__ = ("budget_id", "cells", "position", "window")

    def __init__(self, budget_id: str, window: int, position: int, cells: memoryview[int]) -> None:
        self.budget_id = budget_id
        self.window = window
        self.position = position
        self.cells = cells


class BlackBox:
    """The box of a living worker. Not for several threads. A child made by `fork` without `exec` shares the lock: the
    box then counts as alive until both are gone."""

    def __init__(self, file: io.FileIO, path: Path, header: bytes) -> None:
        self.path = path
        self._file = file
        self._header = header
        self._chunks: list[memoryview[int]] = []
        self._words: list[memoryview[int]] = []
        self._free: list[int] = []
        self._slots: dict[tuple[str, int], Slot] = {}

    @classmethod
    def create(cls, directory: Path, worker_id: str, *, store_identity: str) -> BlackBox:
        """A new, empty box in `directory`, which is made if it is missing.

        `worker_id`: 1 to 64 letters, digits, ".", "_" and "-", new for every start. `store_identity`: the same text for
        all workers of one store and for no other store; only its hash is kept. Raises OSError with a reason: no such
        platform, a directory that cannot be written or that others may write, a full disk; ValueError for the id.
        """
        if _WORKER_ID.fullmatch(worker_id) is None:
            raise ValueError(f"a worker id is 1 to 64 of A-Z a-z 0-9 . _ -, not {worker_id[:80]!r}")
        if not available():
            raise OSError(errno.ENOTSUP, "black boxes need flock and a boot id, which this platform does not have")
        _prepare(directory)
        store = _store_hash(store_identity)
        path = directory / f"{_prefix(store)}{worker_id}.box"
        if path.exists():
            raise FileExistsError(errno.EEXIST, "this worker has a box already", str(path))
        fields = _HEADER.pack(_MAGIC, store, _boot_id().encode(), worker_id.encode())
        header = fields + struct.pack("=I", zlib.crc32(fields))
        file, unfinished = _create_locked(path)
        box = cls(file, path, header)
        try:
            box._grow()
            unfinished.rename(path)  # only whole boxes have their final name
        except OSError:
            file.close()
            unfinished.unlink(missing_ok=True)
            raise
        return box

    def slot(self, budget_id: str, window: int) -> Slot:
        """The slot of a window, both cells 0 when it is new; the same one again while it is not freed.

        Raises OSError when the file cannot grow, ValueError for an empty id or one above 64 bytes of UTF-8.
        """
        known = self._slots.get((budget_id, window))
        if known is not None:
            return known
        name = budget_id.encode()
        if not 0 < len(name) <= BUDGET_ID_BYTES_MAX:
            raise ValueError(f"a budget id in a black box has 1 to {BUDGET_ID_BYTES_MAX} bytes, not {len(name)}")
        identity = _IDENTITY.pack(window, len(name), name)
        if not self._free:
            self._grow()
        position = self._free.pop()
        number, at = divmod(position, CHUNK_BYTES)
        chunk = self._chunks[number]
        cells_at = at + 8
        identity_at = at + _WORDS.size
        chunk[cells_at:identity_at] = bytes(16)
        chunk[identity_at : identity_at + _IDENTITY.size] = identity
        self._words[number][at // 8] = _COMMITTED | zlib.crc32(identity)  # last, and at once: now it counts
        slot = Slot(budget_id, window, position, chunk[cells_at:identity_at].cast("q"))
        self._slots[budget_id, window] = slot
        return slot

    def free(self, slot: Slot) -> None:
        """Ends a slot whose figures are safe elsewhere; another window may use its place. Writing to its `cells`
        afterwards raises ValueError."""
        del self._slots[slot.budget_id, slot.window]
        number, at = divmod(slot.position, CHUNK_BYTES)
        self._words[number][at // 8] = 0
        slot.cells.release()
        self._free.append(slot.position)

    def close(self, *, clean: bool = False) -> None:
        """Lets go of the box; `clean`: nothing is owed, so the file is deleted. Else it is a wreck from now on.

        Slots that somebody still writes to stay writable, without any effect that matters. A second call does nothing.
        """
        if self._file.closed:
            return
        if clean:
            self.path.unlink(missing_ok=True)
        if sys.platform != "win32":
            fcntl.flock(self._file, fcntl.LOCK_UN)  # explicitly: every mapping holds its own copy of the descriptor
        self._file.close()
        self._slots.clear()
        self._words.clear()
        self._chunks.clear()
        self._free.clear()

    def _grow(self) -> None:
        """One more chunk of free slots. Its space is taken by writing: a mapped hole on a full disk would kill the
        process at its first use."""
        number = len(self._chunks)
        if number >= CHUNKS_MAX:
            raise OSError(errno.ENOSPC, "too many windows for one black box", str(self.path))
        start = number * CHUNK_BYTES
        blank = self._header.ljust(CHUNK_BYTES, b"\0") if number == 0 else bytes(CHUNK_BYTES)
        if os.pwrite(self._file.fileno(), blank, start) != CHUNK_BYTES:
            raise OSError(errno.ENOSPC, "no room for a black box", str(self.path))
        chunk = memoryview(mmap.mmap(self._file.fileno(), CHUNK_BYTES, offset=start))
        self._chunks.append(chunk)
        self._words.append(chunk.cast("Q"))
        first = _HEADER_BYTES if number == 0 else 0
        self._free += range(start + CHUNK_BYTES - _SLOT_BYTES, start + first - 1, -_SLOT_BYTES)
        self._words[0][_CHUNK_COUNT_AT // 8] = _count_word(number + 1)


class Wreck:
    """The box of a worker that is gone, locked by us until `remove` or `leave`.

    `legacy`: per (budget id, window) what was spent and what was sent and not settled; complete if `trusted`. Not
    `trusted`: `why` says what is wrong, `legacy` is empty, and nothing is known of what that worker owed.
    """

    def __init__(
        self, file: io.FileIO, path: Path, worker_id: str, legacy: dict[tuple[str, int], Legacy], why: str = ""
    ) -> None:
        self._file = file
        self.path = path
        self.worker_id = worker_id
        self.legacy = legacy
        self.why = why

    @property
    def trusted(self) -> bool:
        """Whether `legacy` may be used."""
        return not self.why

    def remove(self) -> None:
        """Deletes the box: what it says is safe elsewhere."""
        if not self._file.closed:
            self.path.unlink(missing_ok=True)  # while locked: nobody can take it up in between
            self._file.close()

    def leave(self) -> None:
        """Leaves the box to be found again: it could not be dealt with now."""
        self._file.close()


def find_dead(directory: Path, store_identity: str) -> list[Wreck]:
    """Boxes of this store in `directory` whose workers are gone; never our own. Each must be removed or left.

    Deletes what workers left that were killed before their box was ready. Raises OSError if the directory exists and
    cannot be read.
    """
    if not available():
        return []
    try:
        paths = sorted(directory.iterdir())
    except FileNotFoundError:
        return []
    store = _store_hash(store_identity)
    wrecks = []
    for path in paths:
        name = path.name
        if not name.startswith(_prefix(store)) or not name.endswith((".box", ".new")):
            continue
        file = _open_abandoned(path)
        if file is None:
            continue
        if name.endswith(".new"):
            path.unlink(missing_ok=True)
            file.close()
            continue
        worker_id = name[len(_prefix(store)) : -len(".box")]
        try:
            wrecks.append(Wreck(file, path, worker_id, _read(file, store, worker_id)))
        except _Unusable as unusable:
            wrecks.append(Wreck(file, path, worker_id, {}, str(unusable)))
    return wrecks


class _Unusable(Exception):
    """Why a box says nothing that may be believed."""


def _read(file: io.FileIO, store: bytes, worker_id: str) -> dict[tuple[str, int], Legacy]:
    """Everything that a box says. Raises _Unusable."""
    content = os.pread(file.fileno(), CHUNK_BYTES * CHUNKS_MAX + 1, 0)
    if len(content) < CHUNK_BYTES:
        raise _Unusable("the file is too short")
    fields = content[: _HEADER.size]
    magic, of_store, boot, of_worker = _HEADER.unpack(fields)
    if magic != _MAGIC:
        raise _Unusable("it is no black box, or one of another version")
    if content[_HEADER.size : _HEADER.size + 4] != struct.pack("=I", zlib.crc32(fields)):
        raise _Unusable("its header is damaged")
    if of_store != store or of_worker.rstrip(b"\0") != worker_id.encode():
        raise _Unusable("its header belongs to another file")
    if boot.rstrip(b"\0") != _boot_id().encode():
        raise _Unusable("it was written before this machine was started: its last pages may be lost")
    (count_word,) = struct.unpack_from("=Q", content, _CHUNK_COUNT_AT)
    count = count_word >> 32
    if count_word != _count_word(count) or not 0 < count * CHUNK_BYTES <= len(content):
        raise _Unusable("it is shorter than it was")
    legacy: dict[tuple[str, int], Legacy] = {}
    for at in range(_HEADER_BYTES, count * CHUNK_BYTES, _SLOT_BYTES):
        commit, spent, sent = _WORDS.unpack_from(content, at)
        if commit == 0:
            continue
        identity = content[at + _WORDS.size : at + _WORDS.size + _IDENTITY.size]
        if commit != _COMMITTED | zlib.crc32(identity) or spent < 0 or sent < 0:
            raise _Unusable("a record is damaged")
        window, length, name = _IDENTITY.unpack(identity)
        key = (name[:length].decode(), window)
        if key in legacy:
            raise _Unusable("a record is there twice")
        legacy[key] = Legacy(spent, sent)
    return legacy


def _prepare(directory: Path) -> None:
    """Makes the directory, for us alone; an existing one must not be writable for others, who could forge boxes."""
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    if directory.stat().st_mode & 0o022:
        why = "others may write this directory; choose one of your own (chmod 700)"
        raise PermissionError(errno.EPERM, why, str(directory))


def _create_locked(path: Path) -> tuple[io.FileIO, Path]:
    """A new, locked file beside `path`, and its name. Whoever sweeps the directory may take it away before it is
    locked: then the next name."""
    for attempt in range(_CREATE_TRIES):
        unfinished = path.with_suffix(f".{attempt}.new")
        file = io.FileIO(os.open(unfinished, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), "r+")
        if _lock(file):
            return file, unfinished
        file.close()
    raise OSError(errno.EAGAIN, "new files are taken away again and again", str(path.parent))


def _open_abandoned(path: Path) -> io.FileIO | None:
    """The file, locked, if it is ours and nobody else holds it."""
    with contextlib.suppress(OSError):  # removed meanwhile; of another user; no plain file
        file = io.FileIO(os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC), "r+")
        if os.fstat(file.fileno()).st_uid == os.geteuid() and _lock(file):
            return file
        file.close()
    return None


def _lock(file: io.FileIO) -> bool:
    """Locks a file without waiting. False: somebody has it, or it was deleted before we had it."""
    if sys.platform == "win32":
        return False
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return os.fstat(file.fileno()).st_nlink > 0


def _store_hash(store_identity: str) -> bytes:
    return hashlib.sha256(store_identity.encode()).digest()


def _prefix(store: bytes) -> str:
    """The start of every file name of a store: boxes of others need not even be opened."""
    return f"{store[:8].hex()}-"


def _count_word(count: int) -> int:
    """How many chunks there are, and the same inverted: a damaged one is noticed."""
    return count << 32 | (~count & 0xFFFFFFFF)


@cache
def _boot_id() -> str:
    """Names this run of the kernel; empty where nothing does."""
    with contextlib.suppress(OSError):
        return Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip()[:36]
    with contextlib.suppress(OSError, subprocess.SubprocessError):  # macOS
        command = ["/usr/sbin/sysctl", "-n", "kern.bootsessionuuid"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=5, check=True)  # noqa: S603
        return done.stdout.strip()[:36]
    return ""
