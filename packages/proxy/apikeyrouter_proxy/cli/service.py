"""Where a command's work is done: by the proxy that is running, or here, on the store, when none is.

Main entry: `open_service`. Both ways speak the management API of CONTRACT and docs, byte for byte: `Remote` over HTTP,
`Local` by calling the application in this process, on an event loop of its own. So there is one set of rules (what may
be registered, what is remembered about a revoked key), and one reader of answers.
Laws: a URL that somebody named is used or is an error; only the default falls back to the store. Keys are sent to
nothing but an ApiKeyRouter, and not before it has said that it is one. Which way was taken is told on standard error.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import urlsplit

from apikeyrouter_proxy.cli import http
from apikeyrouter_proxy.cli.console import note
from apikeyrouter_proxy.cli.environment import (
    ADMIN_KEY_NAMES,
    CLIENT_KEY_NAME,
    URL_NAME,
    dotenv_path,
    proxy_url,
    read_environ,
    with_file,
)
from apikeyrouter_proxy.cli.failures import CliError
from apikeyrouter_proxy.cli.http import Answer, Unreachable

__all__ = ["Remote", "Service", "Where", "encoded", "identify", "message_of", "open_remote", "open_service"]

_IDENTIFY_WITHIN_S = 5.0
_CLIENT_PREFIX = "/v1/"


class Where:
    """How the user says where the work is to be done. `url` and `store`: None when not said."""

    def __init__(self, url: str | None = None, store: str | None = None, env_file: Path | None = None) -> None:
        self.store = store
        self.env_file = env_file
        self.environ = with_file(read_environ(env_file))
        self.url = url or self.environ.get(URL_NAME, "").strip() or None
        if url and store:
            raise CliError("Give --url or --store: a running proxy has its own store.", 2)


class Service(Protocol):
    """The management API and `/v1`. `place`: for people. `origin`: where it listens, None for this process."""

    place: str
    origin: str | None

    def ask(self, method: str, path: str, body: Any = None, *, prompt: bool = True) -> Answer:
        """One request. `prompt`: a person may be asked for an admin key. Raises CliError when nobody answers."""
        ...

    def stream(
        self, path: str, body: Any, headers: Mapping[str, str] | None = None
    ) -> AbstractContextManager[tuple[Answer, Iterator[bytes]]]:
        """POST; the answer's head, and its body in pieces. Raises CliError."""
        ...

    def get(self, path: str) -> Any:
        """The JSON of a GET. Raises CliError with the answer's own message unless it succeeded."""
        ...

    def send(self, method: str, path: str, body: Any = None) -> Any:
        """The JSON of a request that changes something. Raises CliError with the answer's own message."""
        ...


class Verbs:
    """`get` and `send` over `ask`."""

    def ask(self, method: str, path: str, body: Any = None, *, prompt: bool = True) -> Answer:
        """See `Service.ask`."""
        raise NotImplementedError

    def get(self, path: str) -> Any:
        """See `Service.get`."""
        return self.send("GET", path)

    def send(self, method: str, path: str, body: Any = None) -> Any:
        """See `Service.send`."""
        answer = self.ask(method, path, body)
        if answer.status >= 400:
            raise CliError(message_of(answer, path))
        return answer.json()


class Remote(Verbs):
    """A running proxy. Its keys come from the environment: APIKEYROUTER_ADMIN_KEY for the management API, and
    APIKEYROUTER_KEY for `/v1`; when an admin key is demanded and none is set, a person at a terminal is asked."""

    def __init__(self, origin: str, environ: Mapping[str, str]) -> None:
        self.origin: str | None = origin
        self.place = f"the proxy at {origin}"
        self._base = origin
        self._client_key = environ.get(CLIENT_KEY_NAME, "").strip()
        self._admin_key = next((key for name in ADMIN_KEY_NAMES if (key := environ.get(name, "").strip())), "")
        self._asked = False

    def ask(self, method: str, path: str, body: Any = None, *, prompt: bool = True) -> Answer:
        """See `Service.ask`."""
        answer = self._once(method, path, body)
        if answer.status == 401 and prompt and not path.startswith(_CLIENT_PREFIX) and self._prompted():
            answer = self._once(method, path, body)
        return answer

    def _once(self, method: str, path: str, body: Any) -> Answer:
        try:
            return http.ask(self._base, method, path, encoded(body), self._headers(path, body, None))
        except Unreachable as fault:
            raise CliError(fault.message) from None

    @contextmanager
    def stream(
        self, path: str, body: Any, headers: Mapping[str, str] | None = None
    ) -> Iterator[tuple[Answer, Iterator[bytes]]]:
        """See `Service.stream`."""
        try:
            with http.stream(self._base, "POST", path, encoded(body), self._headers(path, body, headers)) as streamed:
                yield streamed
        except Unreachable as fault:
            raise CliError(fault.message) from None

    @contextmanager
    def listen(self, path: str, *, within_s: float) -> Iterator[tuple[Answer, Iterator[bytes]]]:
        """GET; the answer's head, and its body in pieces, however long it goes on. `within_s`: the longest silence.
        Raises CliError."""
        try:
            headers = self._headers(path, None, None)
            with http.stream(self._base, "GET", path, headers=headers, timeout_s=within_s) as streamed:
                yield streamed
        except Unreachable as fault:
            raise CliError(fault.message) from None

    def _headers(self, path: str, body: Any, headers: Mapping[str, str] | None) -> dict[str, str]:
        sent = {"Accept": "*/*", "User-Agent": "apikeyrouter-cli", **(headers or {})}
        if body is not None:
            sent["Content-Type"] = "application/json"
        key = (self._client_key or self._admin_key) if path.startswith(_CLIENT_PREFIX) else self._admin_key
        if key:
            if not all("!" <= character <= "~" for character in key):
                raise CliError("The key in the environment holds characters that no HTTP header can carry.")
            sent["Authorization"] = f"Bearer {key}"
        return sent

    def _prompted(self) -> bool:
        """Whether a person gave an admin key just now."""
        if self._admin_key or self._asked or not sys.stdin.isatty():
            return False
        from getpass import getpass

        self._asked = True
        self._admin_key = getpass(f"Admin key of {self.place}: ").strip()
        return bool(self._admin_key)


@contextmanager
def open_service(where: Where, *, quiet: bool = False) -> Iterator[Service]:
    """The running proxy, or the store. `quiet`: do not tell which. Raises CliError."""
    remote = None if where.store else _running(where)
    if remote is not None:
        if not quiet:
            note(f"Asking {remote.place}.")
        yield remote
        return
    from apikeyrouter_proxy.cli.local import open_local

    with open_local(where.environ, dotenv_path(where.env_file), where.store) as local:
        if not quiet:
            note(f"No proxy is running; working on {local.place}." if not where.store else f"Working on {local.place}.")
        yield local


def open_remote(where: Where) -> Remote:
    """The running proxy, for what only one that runs can tell. Raises CliError when none does."""
    found = _running(where)
    if found is None:
        origin = http.checked_origin(proxy_url(where.environ))
        raise CliError(f"No ApiKeyRouter runs at {origin}. Start one with `apikeyrouter serve`, or name it with --url.")
    return found


def _running(where: Where) -> Remote | None:
    """The proxy that was named, or the default one if it runs. Raises CliError for a named one that does not."""
    origin = http.checked_origin(where.url or proxy_url(where.environ))
    try:
        told = identify(origin)
    except Unreachable as fault:
        if where.url:
            hint = "Start one with `apikeyrouter serve`, or leave --url out to work on the store."
            raise CliError(f"{fault.message} {hint}") from None
        return None
    if told is None:
        if where.url:
            raise CliError(f"{origin} is answered by another program, not by ApiKeyRouter. Check --url.")
        note(f"{origin} is answered by another program.")
        return None
    if origin.startswith("http://") and not _is_local(origin):
        note(f"The connection to {origin} is not encrypted: anybody on the way can read the keys that you send.")
    return Remote(origin, where.environ)


def identify(origin: str) -> dict[str, Any] | None:
    """What an ApiKeyRouter says about itself, or None when another program answers. Raises Unreachable.

    No key is sent: whoever listens there is not known yet.
    """
    try:
        answer = http.ask(origin, "GET", "/", timeout_s=_IDENTIFY_WITHIN_S)
    except Unreachable as fault:
        if fault.kind in ("broken", "silent"):  # somebody listens there and does not speak HTTP
            return None
        raise
    told = answer.json()
    return told if isinstance(told, dict) and told.get("name") == "ApiKeyRouter" else None


def message_of(answer: Answer, path: str) -> str:
    """The message of an error answer; where a key is missing or wrong, how to give this program the right one."""
    if answer.status == 401:
        if path.startswith(_CLIENT_PREFIX):
            names, kind = f"{CLIENT_KEY_NAME} to a virtual key of it (`apikeyrouter virtual-keys create NAME`)", "a"
        else:
            names, kind = f"{ADMIN_KEY_NAMES[0]} to the one that it was started with", "an admin"
        return f"The proxy wants {kind} key, and the environment holds none or a wrong one. Set {names}."
    told = answer.json()
    error = told.get("error") if isinstance(told, dict) else None
    if isinstance(error, dict) and isinstance(error.get("message"), str):
        return str(error["message"])
    return f"The answer was status {answer.status}, without an explanation."


def _is_local(origin: str) -> bool:
    host = urlsplit(origin).hostname or ""
    return host in ("localhost", "::1") or host.startswith("127.")


def encoded(body: Any) -> bytes | None:
    """A body as JSON; None for none."""
    return None if body is None else json.dumps(body).encode()
