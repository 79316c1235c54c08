"""Arguments over environment over `.env` over the file over defaults: which value counts, and where it comes from.

Main entries: `lay_under`, which puts what the file says below the environment that settings are read from, and
`sources`. Laws: a variable that is set goes before the file's member, whichever of its names it has; faults of a value
that the file gave are told at its line; the file is found by APIKEYROUTER_CONFIG, else `apikeyrouter.yaml` in the
working directory, or stands whole in APIKEYROUTER_CONFIG_YAML.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path as FilePath
from typing import Any

from apikeyrouter.domain.errors import ConfigurationError
from apikeyrouter.infrastructure.config.settings import RouterSettings
from apikeyrouter_proxy.config.faults import ConfigFileError, Fault, Faults, Path, Place, dotted
from apikeyrouter_proxy.config.loading import Configuration, load_file, typed_text
from apikeyrouter_proxy.config.meaning import Meaning, meaning_of
from apikeyrouter_proxy.config.stamps import Stamps
from apikeyrouter_proxy.config.types import ROUTER_FIELDS, ConfigFile
from apikeyrouter_proxy.env_keys import unquoted

__all__ = ["FILE", "FROZEN", "NAME", "TEXT", "VARIABLES", "Layered", "Origin", "frozen", "lay_under", "with_objects"]

NAME = "apikeyrouter.yaml"
FILE = "APIKEYROUTER_CONFIG"
TEXT = "APIKEYROUTER_CONFIG_YAML"
FROZEN = "frozen configuration"
"""What a worker is given in place of files: no name that the process's environment could have."""

_ADMIN = ("APIKEYROUTER_ADMIN_KEY", "MANAGEMENT_API_KEY", "APIKEYROUTER_MANAGEMENT_API_KEY")
VARIABLES: dict[Path, tuple[str, ...]] = {
    ("server", "host"): ("PROXY_HOST",),
    ("server", "port"): ("PROXY_PORT", "PORT"),
    ("server", "workers"): ("PROXY_WORKERS", "WEB_CONCURRENCY"),
    ("server", "store"): ("APIKEYROUTER_STORE",),
    ("server", "encryption_key"): ("APIKEYROUTER_ENCRYPTION_KEY",),
    ("server", "admin_key"): _ADMIN,
    ("server", "require_auth"): ("APIKEYROUTER_REQUIRE_AUTH",),
    ("server", "allowed_hosts"): ("APIKEYROUTER_ALLOWED_HOSTS",),
    ("server", "allowed_origins"): ("APIKEYROUTER_ALLOWED_ORIGINS",),
    ("server", "stale_keys_s"): ("APIKEYROUTER_STALE_KEYS_S",),
    ("server", "shutdown_timeout_s"): ("SHUTDOWN_TIMEOUT_SECONDS",),
    ("server", "body_limit_bytes"): ("APIKEYROUTER_BODY_LIMIT_BYTES",),
    ("server", "upload_limit_bytes"): ("APIKEYROUTER_UPLOAD_LIMIT_BYTES",),
    ("server", "drop_params"): ("APIKEYROUTER_DROP_PARAMS",),
    ("server", "metrics_public"): ("APIKEYROUTER_METRICS_PUBLIC",),
    ("server", "log_level"): ("LOG_LEVEL", "APIKEYROUTER_LOG_LEVEL"),
    ("server", "log_format"): ("APIKEYROUTER_LOG_FORMAT",),
    ("server", "log_bodies"): ("APIKEYROUTER_LOG_BODIES",),
    ("server", "config_watch"): ("APIKEYROUTER_CONFIG_WATCH",),
    ("webhook", "url"): ("APIKEYROUTER_WEBHOOK_URL",),
    ("webhook", "secret"): ("APIKEYROUTER_WEBHOOK_SECRET",),
    ("webhook", "allow_private"): ("APIKEYROUTER_WEBHOOK_ALLOW_PRIVATE",),
    ("webhook", "format"): ("APIKEYROUTER_WEBHOOK_FORMAT",),
    ("providers", "openai", "base_url"): ("OPENAI_BASE_URL",),
    **{("router", name): (f"APIKEYROUTER_{name.upper()}",) for name in ROUTER_FIELDS},
    ("router", "attempts_max"): ("APIKEYROUTER_ATTEMPTS_MAX", "MAX_RETRY"),
    ("objective",): ("APIKEYROUTER_DEFAULT_OBJECTIVE",),
    ("router", "default_routing_strategy"): (
        "APIKEYROUTER_DEFAULT_ROUTING_STRATEGY",
        "DEFAULT_ROUTING_STRATEGY",
    ),
    ("router", "cascade_routing_enabled"): ("APIKEYROUTER_CASCADE_ROUTING_ENABLED", "CASCADE_ROUTING_ENABLED"),
    ("router", "request_timeout_s"): ("APIKEYROUTER_REQUEST_TIMEOUT_S", "REQUEST_TIMEOUT"),
}
"""Members that have a variable as well, the variable's usual name first."""


@dataclass(frozen=True, slots=True)
class Origin:
    """What settings were read from, to read it again. `environ`: with arguments laid over it. `arguments`: the
    variables that arguments stand for. `dotenv`: the `.env` file's path, whether it exists or not."""

    environ: Mapping[str, str] = field(repr=False)
    dotenv: str | None = None
    arguments: frozenset[str] = frozenset()

    @classmethod
    def of(cls, environ: Mapping[str, str], dotenv: FilePath | None, arguments: Iterable[str]) -> Origin:
        """As it was given."""
        return cls(dict(environ), None if dotenv is None else str(dotenv.absolute()), frozenset(arguments))


@dataclass(slots=True)
class Layered:
    """The environment with the file below it. `environ`: what settings are read from. `from_file`: where in the file a
    variable's value comes from. `faults`: of the file."""

    environ: dict[str, str] = field(repr=False)
    configuration: Configuration | None = None
    meaning: Meaning = field(default_factory=Meaning)
    from_file: dict[str, Path] = field(default_factory=dict)
    faults: list[Fault] = field(default_factory=list)
    origin: Origin | None = None

    def error(self, others: Iterable[str]) -> ConfigurationError:
        """All faults in one error: those of the file, and those of settings, at their lines where the file said it."""
        found = list(self.faults)
        told = {one.where for one in found}
        for line in others:
            name, colon, what = line.partition(": ")
            path = self.from_file.get(name) if colon else None
            if path is not None and dotted(path) in told:
                continue
            place = self._place(path) if path is not None else None
            found.append(Fault(dotted(path), what, place) if path is not None else Fault("", line))
        if self.configuration is None and not self.faults:
            return ConfigurationError([one.message for one in found])
        return ConfigFileError(found, self.configuration.stamps if self.configuration is not None else Stamps())

    def _place(self, path: Path) -> Place | None:
        known = self.configuration
        return None if known is None else known.places.get(path) or known.place_of(*path)


def lay_under(environ: Mapping[str, str], *, look: bool) -> Layered:
    """The environment with what the configuration file says below it. `look`: also for one in the working directory."""
    layered = Layered(dict(environ))
    faults = Faults()
    layered.faults = faults.found
    given = layered.environ.pop(FROZEN, "")
    if given:
        layered.origin, configuration = _thawed(given, faults)
    else:
        configuration = _found(layered.environ, faults, look=look)
    if configuration is None:
        return layered
    layered.configuration = configuration
    for path, names in VARIABLES.items():
        value = _member(configuration.file, path)
        if value is not None and not any(unquoted(layered.environ.get(name, "")) for name in names):
            layered.environ[names[0]] = _as_text(value)
            layered.from_file[names[0]] = path
    layered.meaning = meaning_of(configuration, environ, faults)
    layered.meaning.warnings += configuration.told
    return layered


def with_objects(config: Mapping[str, Any], meaning: Meaning, *, valid: bool) -> dict[str, Any]:
    """Fields of `RouterSettings` with the file's prices, deployments, groups and policies below those of the
    environment. `valid`: whether `config` is known to be."""
    found = dict(config)
    if not valid or not (meaning.prices or meaning.deployments or meaning.groups or meaning.policies):
        return found
    given = RouterSettings(**config)
    named = {one.name for one in given.deployments}
    found["deployments"] = (*given.deployments, *(one for one in meaning.deployments if one.name not in named))
    named = {one.name for one in given.model_groups}
    found["model_groups"] = (*given.model_groups, *(one for one in meaning.groups if one.name not in named))
    named = {one.policy_id for one in given.policies}
    found["policies"] = (*given.policies, *(one for one in meaning.policies if one.policy_id not in named))
    dated = {(one.key, one.effective_from) for one in given.prices}
    found["prices"] = (*given.prices, *(one for one in meaning.prices if (one.key, one.effective_from) not in dated))
    return found


def config_path(environ: Mapping[str, str], *, look: bool) -> FilePath | None:
    """The file that counts, None when there is none."""
    given = unquoted(environ.get(FILE, ""))
    if given:
        return FilePath(given).expanduser()
    default = FilePath(NAME)
    return default if look and not unquoted(environ.get(TEXT, "")) and default.is_file() else None


def _found(environ: dict[str, str], faults: Faults, *, look: bool) -> Configuration | None:
    path = config_path(environ, look=look)
    if path is not None:
        return load_file(path, environ, faults)
    text = environ.get(TEXT, "")
    return typed_text(text, environ, faults, TEXT) if text.strip() else None


def _member(file: ConfigFile, path: Path) -> Any:
    value: Any = file
    for part in path:
        value = value.get(part) if isinstance(value, dict) else getattr(value, str(part), None)
    return value


def _as_text(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return ",".join(map(str, value)) if isinstance(value, list) else str(value)


# -- workers --------------------------------------------------------------------------------------------------------


def frozen(configuration: Configuration | None, origin: Origin) -> str:
    """Configuration and origin as text that `lay_under` takes in place of files. It holds secrets."""
    given: dict[str, Any] = {"origin": [dict(origin.environ), origin.dotenv, sorted(origin.arguments)]}
    if configuration is not None:
        given["file"] = configuration.file.model_dump(exclude_unset=True)
        given["tree"], given["files"], given["told"] = configuration.tree, configuration.files, configuration.told
        given["places"] = [[list(path), one.file, one.line, one.column] for path, one in configuration.places.items()]
        given["names"] = [[list(path), one.file, one.line, one.column] for path, one in configuration.names.items()]
        given["stamps"] = configuration.stamps.as_rows()
    return json.dumps(given)


def _thawed(text: str, faults: Faults) -> tuple[Origin, Configuration | None]:
    given = json.loads(text)
    environ, dotenv, arguments = given["origin"]
    origin = Origin(environ, dotenv, frozenset(arguments))
    if "file" not in given:
        return origin, None
    for rows, known in ((given["places"], faults.places), (given["names"], faults.names)):
        known.update({tuple(path): Place(file, line, column) for path, file, line, column in rows})
    file = ConfigFile.model_validate(given["file"])
    places, names = dict(faults.places), dict(faults.names)
    told, stamps = tuple(given["told"]), Stamps.of_rows(given["stamps"])
    return origin, Configuration(file, given["tree"], tuple(given["files"]), places, names, told, stamps)
