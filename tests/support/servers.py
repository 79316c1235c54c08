"""Real PostgreSQL and Redis servers for tests: each one's own process, in a temporary folder, on a free loopback port.

Main entries: the fixtures `postgres_server` and `redis_server` (one per test process, started on first use),
`postgres_url` and `redis_url` (an empty place on it for one test), and `PostgresServer` and `RedisServer` themselves,
for tests that stop, kill and restart a server of their own. Laws: a server is ended by its own id whatever the test
did; `kill` is SIGKILL to every process of the server; data, port and `url` stay the same over a restart. A server that
is not installed fails the test and says what to install; it never skips it.
"""

from __future__ import annotations

import os
import pwd
import secrets
import shutil
import signal
import socket
import subprocess
import threading
from collections.abc import Iterator, Sequence
from contextlib import suppress
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Self

import pytest

__all__ = ["PostgresServer", "RedisServer", "free_port", "postgres_server", "postgres_url", "redis_server", "redis_url"]

READY_WITHIN_S = 60.0
STOPPED_WITHIN_S = 60.0
_POLL_S = 0.01


def free_port() -> int:
    """A port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _program(name: str, package: str, folders: Sequence[Path] = ()) -> str:
    """The path of a server's program, in the given folders or on PATH."""
    for folder in folders:
        if (folder / name).exists():
            return str(folder / name)
    found = shutil.which(name)
    if found is None:
        pytest.fail(f"{name} is not installed. Run `make test` as root, or: sudo apt-get install {package}", False)
    return found


class _Server:
    """What both servers share: a folder, a port, a process. Use it as a context manager, or `start` and `stop` it."""

    name = ""

    def __init__(self) -> None:
        self.port = free_port()
        self._folder = TemporaryDirectory(prefix=f"akr-{self.name}-")
        self.folder = Path(self._folder.name)
        self._process: subprocess.Popen[bytes] | None = None
        self._waiting = threading.Event()

    @property
    def running(self) -> bool:
        """Whether its process lives."""
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int:
        """The main process."""
        assert self._process is not None, "not started"
        return self._process.pid

    @property
    def log(self) -> str:
        """What the server has said so far."""
        path = self.folder / "log"
        return path.read_text(errors="replace") if path.exists() else ""

    def _command(self) -> list[str]:
        raise NotImplementedError

    def _is_ready(self) -> bool:
        raise NotImplementedError

    def _user(self) -> str | None:
        return None

    def start(self) -> Self:
        """Starts it on the same port and data, and returns when it answers."""
        assert not self.running, "started already"
        with (self.folder / "log").open("ab") as log:
            user = self._user()
            self._process = subprocess.Popen(
                self._command(),
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # an interrupt from the keyboard is for the tests, which then stop it
                user=user,
                group=None if user is None else pwd.getpwnam(user).pw_gid,
                extra_groups=None if user is None else [],
            )
        for _ in range(int(READY_WITHIN_S / _POLL_S)):
            if self._process.poll() is not None:
                raise AssertionError(f"{self.name} ended with {self._process.returncode}:\n{self.log}")
            if self._is_ready():
                return self
            self._waiting.wait(_POLL_S)
        self.kill()
        raise AssertionError(f"{self.name} was not ready within {READY_WITHIN_S} s:\n{self.log}")

    def stop(self) -> None:
        """Shuts it down in an orderly way; connections are cut. Its data stays."""
        if self._process is not None and self.running:
            self._process.send_signal(signal.SIGINT)
            try:
                self._process.wait(STOPPED_WITHIN_S)
            except subprocess.TimeoutExpired:
                self.kill()

    def kill(self) -> None:
        """SIGKILL to every process of the server at once: nobody says goodbye, nothing more is written."""
        if self._process is None or not self.running:
            return
        with suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGSTOP)  # so that it starts nothing while we look
        children = _children(self.pid)
        for pid in [*children, self.pid]:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self._process.wait(STOPPED_WITHIN_S)
        # On a busy machine they die later than their parent; PostgreSQL does not start while one has its memory.
        for _ in range(int(STOPPED_WITHIN_S / _POLL_S)):
            if not any(map(_lives, children)):
                return
            self._waiting.wait(_POLL_S)

    def restart(self) -> Self:
        """Stops it if it runs, and starts it again."""
        self.stop()
        return self.start()

    def freeze(self) -> None:
        """Stops every process of the server in its tracks (SIGSTOP): connections stay open and nothing answers."""
        for pid in [self.pid, *_children(self.pid)]:
            os.kill(pid, signal.SIGSTOP)

    def thaw(self) -> None:
        """Ends `freeze`."""
        for pid in [*_children(self.pid), self.pid]:
            os.kill(pid, signal.SIGCONT)

    def close(self) -> None:
        """Kills it and removes its data."""
        self.kill()
        self._folder.cleanup()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.close()


def _lives(pid: int) -> bool:
    """Whether a process still has anything of its own: a zombie has not."""
    with suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return False


def _children(parent: int) -> list[int]:
    """Processes that `parent` started and that live; from /proc, where it exists."""
    found = []
    for status in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            fields = status.read_text().rpartition(")")[2].split()
            if int(fields[1]) == parent:
                found.append(int(status.parent.name))
    return found


class PostgresServer(_Server):
    """A PostgreSQL server with the role "tests", a superuser with a random password.

    `durable`: commits wait for the disk, as in production; False is faster, and `kill` loses nothing then either (only
    the machine's end would). `settings`: more server settings, e.g. {"max_connections": "20"}. It listens on `port` and
    on a socket in `folder`.
    """

    name = "postgres"

    def __init__(self, *, durable: bool = False, settings: dict[str, str] | None = None) -> None:
        super().__init__()
        self.password = secrets.token_hex(12)
        self._schemas = count(1)
        self._settings = {
            "listen_addresses": "127.0.0.1",
            "port": str(self.port),
            "unix_socket_directories": str(self.folder),
            "shared_buffers": "32MB",
            "max_wal_size": "256MB",
            "max_connections": "120",
            "log_min_messages": "warning",
            "fsync": "on" if durable else "off",
            "full_page_writes": "on" if durable else "off",
            **(settings or {}),
        }
        newest_first = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: -float(path.parent.name))
        self._postgres = _program("postgres", "postgresql", newest_first)
        self._create()

    def _user(self) -> str | None:
        """PostgreSQL refuses to run as root."""
        if os.geteuid() != 0:
            return None
        with suppress(KeyError):
            return pwd.getpwnam("postgres").pw_name
        return "nobody"

    def _create(self) -> None:
        password_file = self.folder / "password"
        password_file.write_text(self.password)
        user = self._user()
        if user is not None:
            owner = pwd.getpwnam(user)
            for path in (self.folder, password_file):
                os.chown(path, owner.pw_uid, owner.pw_gid)
        done = subprocess.run(
            [
                str(Path(self._postgres).with_name("initdb")),
                f"--pgdata={self.folder / 'data'}",
                "--username=tests",
                f"--pwfile={password_file}",
                "--auth-host=scram-sha-256",
                "--auth-local=trust",
                "--encoding=UTF8",
                "--no-locale",
                "--no-sync",
            ],
            cwd=self.folder,
            capture_output=True,
            text=True,
            check=False,
            user=user,
            group=None if user is None else pwd.getpwnam(user).pw_gid,
            extra_groups=None if user is None else [],
        )
        assert done.returncode == 0, done.stdout + done.stderr

    def use_certificate(self, pair: Path) -> None:
        """From the next start on it speaks TLS, with the private key and the certificate in the file `pair`."""
        own = self.folder / "server.pem"
        own.write_bytes(pair.read_bytes())
        own.chmod(0o600)
        user = self._user()
        if user is not None:
            os.chown(own, pwd.getpwnam(user).pw_uid, pwd.getpwnam(user).pw_gid)
        self._settings |= {"ssl": "on", "ssl_cert_file": str(own), "ssl_key_file": str(own)}

    def _command(self) -> list[str]:
        settings = [part for name, value in self._settings.items() for part in ("-c", f"{name}={value}")]
        return [self._postgres, "-D", str(self.folder / "data"), *settings]

    def _is_ready(self) -> bool:
        """The file that the server writes about itself: its id in the first line, its status in the eighth."""
        with suppress(OSError):
            lines = (self.folder / "data" / "postmaster.pid").read_text().splitlines()
            return len(lines) > 7 and lines[0] == str(self.pid) and lines[7].strip() == "ready"
        return False

    @property
    def url(self) -> str:
        """Role, password, port and database. The database is "postgres": it exists from the start."""
        return f"postgresql://tests:{self.password}@127.0.0.1:{self.port}/postgres"

    @property
    def socket_url(self) -> str:
        """The same over the Unix socket, without a password."""
        return f"postgresql://tests@/postgres?host={self.folder}&port={self.port}"

    def fresh_url(self) -> str:
        """A URL with a schema that nobody has used yet."""
        return f"{self.url}?schema=tests_{next(self._schemas)}"


class RedisServer(_Server):
    """A Redis server with an append-only file, which never evicts.

    `appendfsync`: "always" (what was answered is on disk), "everysec" (Redis's default) or "no". `arguments`: more of
    its command line, e.g. ["--maxmemory", "10mb"]. `password`: None for none.
    """

    name = "redis"

    def __init__(
        self, *, appendfsync: str = "everysec", password: str | None = None, arguments: Sequence[str] = ()
    ) -> None:
        super().__init__()
        self._redis = _program("redis-server", "redis-server")
        self._appendfsync = appendfsync
        self._arguments = list(arguments)
        self.password = password

    def _command(self) -> list[str]:
        command = [self._redis, "--bind", "127.0.0.1", "--port", str(self.port), "--dir", str(self.folder)]
        command += ["--unixsocket", str(self.folder / "socket"), "--save", "", "--loglevel", "warning"]
        command += ["--appendonly", "yes", "--appendfsync", self._appendfsync, "--maxmemory-policy", "noeviction"]
        if self.password is not None:
            command += ["--requirepass", self.password]
        return command + self._arguments

    def _is_ready(self) -> bool:
        """It answers a ping, and it has read its file."""
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=1.0) as connection:
                connection.sendall(b"PING\r\n")
                return connection.recv(64).startswith((b"+PONG", b"-NOAUTH"))
        except OSError:
            return False

    @property
    def url(self) -> str:
        """Database 0."""
        secret = "" if self.password is None else f":{self.password}@"
        return f"redis://{secret}127.0.0.1:{self.port}/0"

    def command(self, *words: str) -> bytes:
        """Sends one command on a connection of its own; the raw first part of the reply."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=5.0) as connection:
            if self.password is not None:
                connection.sendall(_redis_words("AUTH", self.password))
                connection.recv(64)
            connection.sendall(_redis_words(*words))
            return connection.recv(65_536)


def _redis_words(*words: str) -> bytes:
    parts = [f"*{len(words)}\r\n".encode()]
    parts += [b"$%d\r\n%s\r\n" % (len(word.encode()), word.encode()) for word in words]
    return b"".join(parts)


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgresServer]:
    """A server for tests that leave it running; it gives durability up for speed."""
    with PostgresServer() as server:
        yield server


@pytest.fixture(scope="session")
def redis_server() -> Iterator[RedisServer]:
    """A server for tests that leave it running."""
    with RedisServer() as server:
        yield server


@pytest.fixture
def postgres_url(postgres_server: PostgresServer) -> str:
    """An empty schema of the server, as the URL of a store."""
    return postgres_server.fresh_url()


@pytest.fixture
def redis_url(redis_server: RedisServer) -> str:
    """The server's database 0, empty."""
    assert redis_server.command("FLUSHALL").startswith(b"+OK")
    return redis_server.url
