"""`ProxySettings`: everything that the proxy reads from outside, once, at the start.

Main entry: `ProxySettings.from_environ`. Precedence: arguments, environment, `.env` in the working directory, the
configuration file (`config`), defaults.
Laws: every fault is reported together, as one ConfigurationError; nothing is written back to `os.environ`; secrets are
`Secret`s, and no fault repeats one. `X_FILE` names a file that holds the secret `X` (for container secrets).
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from dotenv import dotenv_values

from apikeyrouter.domain.errors import ConfigurationError
from apikeyrouter.domain.keys.secret import Secret
from apikeyrouter.infrastructure.adapters.base import checked_base_url
from apikeyrouter.infrastructure.adapters.openai_adapter import OPENAI_BASE_URL
from apikeyrouter.infrastructure.config.settings import RouterSettings
from apikeyrouter.infrastructure.state_store import default_store_path, open_store
from apikeyrouter_proxy.body_share import share_between, told_of
from apikeyrouter_proxy.config.layers import FROZEN, Layered, Origin, frozen, lay_under, with_objects
from apikeyrouter_proxy.config.watch import seconds_between
from apikeyrouter_proxy.env_keys import EnvKey, is_placeholder, key_variables, read_env_keys, unquoted
from apikeyrouter_proxy.provider_settings import Configured, configured_providers, read_providers_file
from apikeyrouter_proxy.webhook_target import WebhookTarget, read_target

__all__ = ["ProxySettings", "frozen_environ", "is_loopback"]

_ADMIN_KEY_NAMES = ("APIKEYROUTER_ADMIN_KEY", "MANAGEMENT_API_KEY", "APIKEYROUTER_MANAGEMENT_API_KEY")
_ADMIN_KEY_LENGTH_MIN = 12
"""Failed attempts are slowed to 20 a minute per address; at that pace 12 random characters outlast any attacker."""

_SECRET_NAMES = (
    *_ADMIN_KEY_NAMES,
    "APIKEYROUTER_ENCRYPTION_KEY",
    "OPENAI_API_KEY",
    "OPENAI_API_KEYS",
    "APIKEYROUTER_WEBHOOK_URL",
    "APIKEYROUTER_WEBHOOK_SECRET",
)
_KEY_FILE = re.compile(r"(.+?)(?:S|_\d{1,6})?_FILE")
_LOG_LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")
_LOG_FORMATS = ("auto", "json", "pretty")
_TRUE, _FALSE = frozenset({"1", "true", "yes", "on"}), frozenset({"0", "false", "no", "off"})
_HOST_NAME = re.compile(r"[A-Za-z0-9._-]{1,253}|\[[0-9A-Fa-f:.]+\]")
_ORIGIN = re.compile(r"[a-z][a-z0-9+.-]*://[^/?#\s*]+")
_MIB = 1024 * 1024
_WORKERS_MAX = 64
_Value = TypeVar("_Value")


def is_loopback(host: str) -> bool:
    """Whether an address or host name means this machine alone."""
    name = host.strip().strip("[]").lower()
    if name == "localhost":
        return True
    try:
        address = ipaddress.ip_address(name)
    except ValueError:
        return False
    mapped = getattr(address, "ipv4_mapped", None)
    return bool((mapped or address).is_loopback)


@dataclass(frozen=True, slots=True)
class ProxySettings:
    """Settings of one proxy.

    `host`, `port`: where it listens; port 0 takes a free one. `store_url`: `memory:` or `sqlite:///path`; default: a
    SQLite file in the user's data directory. `admin_key`: opens the management API. `require_auth`: demand keys even
    on loopback. `visiting`: a command that looks at a store, which must not end the simulation of whoever serves it.
    `allowed_hosts`: names under which the proxy may be addressed besides loopback's. `allowed_origins`: web pages that
    may call it. `openai_base_url`: where "openai" lives. `body_limit_bytes`: largest request body;
    `upload_limit_bytes`: largest multipart form. `drop_params`: whether parameters that a provider does not know are
    left out, for requests that do not say.
    `workers`: processes that serve. `stale_keys_s`: how long virtual keys hold while the store does not answer.
    `shutdown_timeout_s`: how long running requests may take to end. `metrics_public`: `/metrics` needs no key.
    `log_format`: "json", "pretty", or "auto" for pretty on a terminal. `log_bodies`: the share of requests whose bodies
    are logged, 0 to 1. `config_watch_s`: between two looks whether the configuration file was saved, 0: nobody looks.
    `webhook`: where alerts go, None for nowhere. `router_config`: fields of `RouterSettings`.
    `providers`: who serves besides OpenAI, as the environment and APIKEYROUTER_PROVIDERS_FILE say. `warnings`: what was
    odd but did not stop the start. `config`: what the configuration file says, and `origin`, what all of this was read
    from.
    """

    host: str = "127.0.0.1"
    port: int = 8000
    log_level: str = "INFO"
    log_format: str = "auto"
    log_bodies: float = 0.0
    config_watch_s: float = 0.0
    store_url: str = field(default="memory:", repr=False)  # it may hold a password
    encryption_key: Secret | None = None
    admin_key: Secret | None = None
    require_auth: bool = False
    visiting: bool = False
    allowed_hosts: tuple[str, ...] = ()
    allowed_origins: tuple[str, ...] = ()
    openai_base_url: str = OPENAI_BASE_URL
    workers: int = 1
    stale_keys_s: float = 300.0
    shutdown_timeout_s: float = 30.0
    body_limit_bytes: int = 10 * _MIB
    upload_limit_bytes: int = 32 * _MIB
    drop_params: bool = False
    metrics_public: bool = False
    webhook: WebhookTarget | None = None
    env_keys: tuple[EnvKey, ...] = ()
    providers: tuple[Configured, ...] = ()
    router_config: Mapping[str, Any] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    config: Layered | None = field(default=None, repr=False)
    origin: Origin | None = field(default=None, repr=False)

    @property
    def bound_to_loopback(self) -> bool:
        """Whether only this machine can connect."""
        return is_loopback(self.host)

    @classmethod
    def from_environ(
        cls, environ: Mapping[str, str], dotenv: Path | None = None, *, arguments: Iterable[str] = ()
    ) -> ProxySettings:
        """Reads the environment, a `.env` file and the configuration file, if there are any. `arguments`: variables in
        `environ` that the command line gave. Raises ConfigurationError listing every fault."""
        faults: list[str] = []
        layered = lay_under(_merged(environ, dotenv, faults), look=dotenv is not None)
        env = layered.environ
        read = _Reader(env, faults)
        none: list[Configured] = []
        from_file = read("APIKEYROUTER_PROVIDERS_FILE", none, lambda path: read_providers_file(path, env))
        from_file = [*layered.meaning.providers, *from_file]
        taken = {one.material.reveal() for one in layered.meaning.keys}
        keys, warnings, key_faults = read_env_keys(env, [one.row for one in from_file if one.row is not None], taken)
        faults += key_faults
        if layered.configuration is not None and not layered.configuration.file.server.keys_from_environment:
            keys = []
        file_keys = [] if layered.faults else layered.meaning.keys
        of_file = [EnvKey(f"keys.{one.name}", one.provider_id, one.material) for one in file_keys]
        level = read("LOG_LEVEL", "INFO", _one_of(_LOG_LEVELS, str.upper), also="APIKEYROUTER_LOG_LEVEL")
        bodies = read("APIKEYROUTER_LOG_BODIES", 0.0, share_between)
        settings = cls(
            host=read("PROXY_HOST", "127.0.0.1", _host),
            port=read("PROXY_PORT", 8000, _port, also="PORT"),
            log_level=level,
            log_format=read("APIKEYROUTER_LOG_FORMAT", "auto", _one_of(_LOG_FORMATS, str.lower)),
            log_bodies=bodies,
            config_watch_s=read("APIKEYROUTER_CONFIG_WATCH", 0.0, seconds_between),
            store_url=read("APIKEYROUTER_STORE", "", _store_url) or f"sqlite:///{default_store_path(env)}",
            encryption_key=read("APIKEYROUTER_ENCRYPTION_KEY", None, Secret),
            admin_key=_admin_key(env, faults),
            require_auth=read("APIKEYROUTER_REQUIRE_AUTH", False, _boolean),
            allowed_hosts=read("APIKEYROUTER_ALLOWED_HOSTS", (), _hosts),
            allowed_origins=read("APIKEYROUTER_ALLOWED_ORIGINS", (), _origins),
            openai_base_url=read("OPENAI_BASE_URL", OPENAI_BASE_URL, checked_base_url),
            workers=read("PROXY_WORKERS", 1, _workers, also="WEB_CONCURRENCY"),
            stale_keys_s=read("APIKEYROUTER_STALE_KEYS_S", 300.0, _number(0, 86_400)),
            shutdown_timeout_s=read("SHUTDOWN_TIMEOUT_SECONDS", 30.0, _number(0, 3600)),
            body_limit_bytes=int(read("APIKEYROUTER_BODY_LIMIT_BYTES", 10.0 * _MIB, _number(1024, 1024 * _MIB))),
            upload_limit_bytes=int(read("APIKEYROUTER_UPLOAD_LIMIT_BYTES", 32.0 * _MIB, _number(1024, 1024 * _MIB))),
            drop_params=read("APIKEYROUTER_DROP_PARAMS", False, _boolean),
            metrics_public=read("APIKEYROUTER_METRICS_PUBLIC", False, _boolean),
            webhook=read_target(
                read("APIKEYROUTER_WEBHOOK_URL", "", str),
                read("APIKEYROUTER_WEBHOOK_SECRET", "", str),
                allow_private=read("APIKEYROUTER_WEBHOOK_ALLOW_PRIVATE", False, _boolean),
                form=read("APIKEYROUTER_WEBHOOK_FORMAT", "", str),
                faults=faults,
            ),
            env_keys=tuple(keys),
            providers=tuple(configured_providers([*keys, *of_file], from_file, env, faults)),
            router_config=with_objects(_router_config(env, faults), layered.meaning, valid=not faults),
            warnings=(*warnings, *layered.meaning.warnings, *told_of(bodies, level)),
            config=layered if layered.configuration is not None else None,
            origin=layered.origin or Origin.of(environ, dotenv, arguments),
        )
        if faults or layered.faults:
            raise layered.error(faults)
        return settings


def frozen_environ(environ: Mapping[str, str], dotenv: Path | None, arguments: Iterable[str] = ()) -> dict[str, str]:
    """What `from_environ` would read, with the content of files in place of their names: settings made of it later are
    the same, whatever happens to the files meanwhile. Raises ConfigurationError."""
    faults: list[str] = []
    env = _merged(environ, dotenv, faults)
    layered = lay_under(env, look=dotenv is not None)
    if faults or layered.faults:
        raise layered.error(faults)
    kept = {name: text for name, text in env.items() if not _names_secret_file(name)}
    return {**kept, FROZEN: frozen(layered.configuration, Origin.of(environ, dotenv, arguments))}


def _merged(environ: Mapping[str, str], dotenv: Path | None, faults: list[str]) -> dict[str, str]:
    env = {**_dotenv(dotenv, faults), **environ}
    _read_secret_files(env, faults)
    return env


class _Reader:
    """Reads one variable at a time and collects what is wrong. A blank value counts as none."""

    def __init__(self, env: Mapping[str, str], faults: list[str]) -> None:
        self._env = env
        self._faults = faults

    def __call__(
        self, name: str, default: _Value, parse: Callable[[str], _Value], *, also: str | None = None
    ) -> _Value:
        for candidate in (name, also):
            text = unquoted(self._env.get(candidate, "")) if candidate else ""
            if text and candidate:
                try:
                    return parse(text)
                except ConfigurationError as error:
                    self._faults += [f"{candidate}: {fault}" for fault in error.faults]
                except ValueError as fault:
                    self._faults.append(f"{candidate}: {fault}")
                return default
        return default


def _dotenv(path: Path | None, faults: list[str]) -> dict[str, str]:
    """The file's variables as written; none when it does not exist."""
    if path is None or not path.is_file():
        return {}
    try:
        values = dotenv_values(path, interpolate=False)
    except (OSError, UnicodeDecodeError) as fault:
        faults.append(f"{path}: cannot be read ({type(fault).__name__}); make it a UTF-8 text file that you may read")
        return {}
    return {name: value for name, value in values.items() if value is not None}


def _names_secret_file(variable: str) -> bool:
    name = variable.removesuffix("_FILE")
    return name != variable and (name in _SECRET_NAMES or _names_key_file(variable))


def _names_key_file(variable: str) -> bool:
    match = _KEY_FILE.fullmatch(variable)
    return match is not None and match[1] in key_variables()


def _read_secret_files(env: dict[str, str], faults: list[str]) -> None:
    """Puts the content of each `X_FILE` in place of `X`."""
    named = [name for name in env if _names_key_file(name)]
    for variable in dict.fromkeys([f"{name}_FILE" for name in _SECRET_NAMES] + named):
        path = env.get(variable, "").strip()
        if not path:
            continue
        target = variable.removesuffix("_FILE")
        if env.get(target, "").strip():
            faults.append(f"{variable}: {target} is set too; keep one of the two")
            continue
        try:
            env[target] = Path(path).read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as fault:
            faults.append(f"{variable}: cannot read {path!r} ({type(fault).__name__})")
            continue
        if not env[target]:
            faults.append(f"{variable}: the file {path!r} is empty")


def _admin_key(env: Mapping[str, str], faults: list[str]) -> Secret | None:
    given = {name: unquoted(env.get(name, "")) for name in _ADMIN_KEY_NAMES}
    given = {name: text for name, text in given.items() if text}
    if not given:
        return None
    name, text = next(iter(given.items()))
    if len(set(given.values())) > 1:
        faults.append(f"{name}: {' and '.join(list(given)[1:])} differs; they name one setting, keep one")
    if is_placeholder(text) or len(text) < _ADMIN_KEY_LENGTH_MIN:
        faults.append(
            f"{name}: is a placeholder or shorter than {_ADMIN_KEY_LENGTH_MIN} characters; "
            "make one with: openssl rand -hex 24"
        )
    elif not all("!" <= character <= "~" for character in text):
        faults.append(f"{name}: holds characters that no HTTP header can carry; make one with: openssl rand -hex 24")
    return Secret(text)


def _router_config(env: Mapping[str, str], faults: list[str]) -> dict[str, str]:
    """The router's own settings, so that `.env` reaches them too."""
    config = {
        name: text
        for name in RouterSettings.model_fields
        if name != "log_level" and (text := unquoted(env.get(f"APIKEYROUTER_{name.upper()}", "")))
    }
    timeout = unquoted(env.get("REQUEST_TIMEOUT", ""))
    if timeout:
        config.setdefault("request_timeout_s", timeout)
    for bare in ("DEFAULT_ROUTING_STRATEGY", "CASCADE_ROUTING_ENABLED"):
        text = unquoted(env.get(bare, ""))
        if text:
            config.setdefault(bare.lower(), text)
    retries = unquoted(env.get("MAX_RETRY", ""))
    if retries:
        config.setdefault("attempts_max", str(int(retries) + 1) if retries.isdecimal() else retries)
    try:
        RouterSettings(**config, log_level="INFO")
    except ConfigurationError as error:
        for fault in error.faults:
            name, colon, what = fault.partition(":")
            faults.append(f"APIKEYROUTER_{name.upper()}{colon}{what}")
    return config


def _host(text: str) -> str:
    if not _HOST_NAME.fullmatch(text) and not _is_address(text):
        raise ValueError("expected an address or host name such as 127.0.0.1 or 0.0.0.0, without port or scheme")
    return text.strip("[]")


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def _port(text: str) -> int:
    if not text.isdecimal() or int(text) > 65_535:
        raise ValueError("expected a port number from 0 to 65535 (0 takes a free one)")
    return int(text)


def _workers(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= _WORKERS_MAX:
        raise ValueError(f"expected a number of processes from 1 to {_WORKERS_MAX}")
    return int(text)


def _boolean(text: str) -> bool:
    if text.lower() in _TRUE:
        return True
    if text.lower() in _FALSE:
        return False
    raise ValueError("expected true or false")


def _one_of(known: tuple[str, ...], fold: Callable[[str], str]) -> Callable[[str], str]:
    def parse(text: str) -> str:
        if fold(text) not in known:
            raise ValueError(f"expected one of {', '.join(known)}")
        return fold(text)

    return parse


def _number(low: float, high: float) -> Callable[[str], float]:
    def parse(text: str) -> float:
        try:
            number = float(text)
        except ValueError:
            number = float("nan")
        if not low <= number <= high:
            raise ValueError(f"expected a number from {low:g} to {high:g}")
        return number

    return parse


def _store_url(text: str) -> str:
    open_store(text)
    return text


def _listed(text: str) -> list[str]:
    return [item for part in text.split(",") if (item := part.strip())]


def _hosts(text: str) -> tuple[str, ...]:
    hosts = []
    for item in _listed(text.lower()):
        name, colon, port = item.rpartition(":")
        bare = name if colon and port.isdecimal() and "]" not in port else item
        if not _HOST_NAME.fullmatch(bare):
            raise ValueError("expected host names separated by commas, such as llm.example.com; '*' is not supported")
        hosts.append(bare)
    return tuple(hosts)


def _origins(text: str) -> tuple[str, ...]:
    origins = tuple(item.rstrip("/").lower() for item in _listed(text))
    for origin in origins:
        if not _ORIGIN.fullmatch(origin):
            raise ValueError(
                "expected origins separated by commas, such as https://app.example.com:8443, without a path; "
                "'*' would let every web page spend your money and is not supported"
            )
    return origins
