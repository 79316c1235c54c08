"""A provider as a row of data: where it is, how it authenticates, which endpoints it has, and where it differs.

Main entry: `ProviderRow`; `row_of` reads one that a user wrote. Rows of the catalogue name the page that their facts
were checked against and the day; the test of the catalogue refuses a row without them.
Laws: a row holds no secret; what it says of a provider is either documented by it or was seen in a recorded exchange.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from enum import StrEnum
from string import Formatter
from typing import Any

import msgspec

from apikeyrouter.domain.errors import ConfigurationError
from apikeyrouter.domain.models.call import Operation
from apikeyrouter.infrastructure.adapters.base import checked_base_url

__all__ = ["KEYLESS", "ProviderRow", "Quirk", "row_of"]

KEYLESS = "keyless"
"""The material of the key of a server that wants none: nothing is sent in its place."""

_ID = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
_HEADER = re.compile(r"[A-Za-z0-9-]{1,64}")
_ENV = re.compile(r"[A-Z][A-Z0-9_]{1,63}")


class Quirk(StrEnum):
    """Where a server differs from OpenAI's chat completions, and what is done about it.

    NoStreamOptions: it refuses `stream_options`; they are left out, and usage is estimated where a stream tells none.
    MaxTokens: it knows `max_tokens` only, so `max_completion_tokens` is renamed.
    NoDeveloperRole: its templates know no role "developer"; those messages go as "system", which means the same.
    NoParallelToolCalls: it refuses `parallel_tool_calls`; true is what it does anyway, false is refused by name.
    NoJsonSchema: `response_format` of type json_schema is refused by name; json_object is not.
    TextOnly: content must be a string; lists of text parts are joined, other parts are refused by name.
    AssistantPrefix: a last message of the assistant needs `"prefix": true` to be continued.
    LastIsUser: the last message must be the user's or a tool's; others are refused by name before they are sent.
    """

    NoStreamOptions = "no_stream_options"
    MaxTokens = "max_tokens"
    NoDeveloperRole = "no_developer_role"
    NoParallelToolCalls = "no_parallel_tool_calls"
    NoJsonSchema = "no_json_schema"
    TextOnly = "text_only"
    AssistantPrefix = "assistant_prefix"
    LastIsUser = "last_is_user"


def _chat_only() -> dict[Operation, str]:
    return {Operation.Chat: "chat/completions"}


class ProviderRow(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One provider that speaks OpenAI's format.

    `id`: in keys, prefixes and metrics. `base_url`: ends before `/chat/completions`; `{NAME}` stands for a variable.
    `env`: variables that hold a key and nothing else's; `shared_env`: variables that people also set for other
    purposes: they are offered, never taken unasked. `header`, `scheme`: how a key travels. `keyless`: works without.
    `dialect`: how limits and errors are told (`domain.quota.dialects`, `domain.resilience.rules`). `operations`: paths
    below the base URL, by operation. `models_path`: where models are listed, "" for nowhere. `quirks`: see `Quirk`.
    `refuses`: members of a request that it rejects: dropped where the caller allows it, else refused by name.
    `headers`: sent with every request. `makes`: beginnings of the names of its own models. `hosts_open`: serves open
    models under names of its own choice. `tools`, `images`, `streaming`: false where it has none.
    `docs`: the page that tells it. `source`: what the row was checked against, if another. `checked`: the day.
    """

    id: str
    base_url: str
    name: str = ""
    aliases: tuple[str, ...] = ()
    env: tuple[str, ...] = ()
    shared_env: tuple[str, ...] = ()
    header: str = "authorization"
    scheme: str = "Bearer"
    keyless: bool = False
    dialect: str = "generic"
    operations: Mapping[Operation, str] = msgspec.field(default_factory=_chat_only)
    models_path: str = "models"
    quirks: frozenset[Quirk] = frozenset()
    refuses: tuple[str, ...] = ()
    headers: Mapping[str, str] = {}
    makes: tuple[str, ...] = ()
    hosts_open: bool = False
    tools: bool = True
    images: bool = True
    streaming: bool = True
    docs: str = ""
    source: str = ""
    checked: str = ""

    @property
    def variables(self) -> tuple[str, ...]:
        """What the base URL leaves open, such as an account's id."""
        return tuple(name for _, name, _, _ in Formatter().parse(self.base_url) if name)

    @property
    def base_env(self) -> str:
        """The variable that puts the provider elsewhere: `GROQ_BASE_URL`."""
        return re.sub(r"[^A-Z0-9]", "_", self.id.upper()) + "_BASE_URL"

    def address(self, environ: Mapping[str, str]) -> str:
        """The base URL, with variables filled in. Raises ConfigurationError naming those that are missing."""
        given = environ.get(self.base_env, "").strip()
        if given:
            return checked_base_url(given)
        values = {name: environ.get(name, "").strip().rstrip("/") for name in self.variables}
        missing = [name for name, value in values.items() if not value]
        if missing:
            raise ConfigurationError(
                [f"provider {self.id!r}: set {' and '.join(missing)}, or its whole base URL in {self.base_env}"]
            )
        return checked_base_url(self.base_url.format(**values))

    def faults(self) -> list[str]:
        """What is wrong with the row, in words."""
        found = []
        if not _ID.fullmatch(self.id):
            found.append("id: 1 to 64 lower-case letters, digits, dots, dashes and underscores")
        if not _HEADER.fullmatch(self.header):
            found.append("header: letters, digits and dashes")
        if any(not _ENV.fullmatch(name) for name in (*self.env, *self.shared_env)):
            found.append("env: names of environment variables, in capitals")
        if not self.operations:
            found.append("operations: at least one")
        if any(path.startswith("/") or "://" in path for path in (*self.operations.values(), self.models_path)):
            found.append("operations, models_path: paths below the base URL, without a leading slash")
        try:
            checked_base_url(re.sub(r"^\{\w+\}", "https://x", self.base_url).replace("{", "").replace("}", ""))
        except ConfigurationError as error:
            found += error.faults
        return found


def row_of(given: Mapping[str, Any], *, like: ProviderRow | None = None) -> ProviderRow:
    """A row that a user wrote: an object with the members of `ProviderRow`. `operations` may be a list of operations
    with their usual paths. `like`: a row whose other members it takes over. Raises ConfigurationError."""
    fields = dict(given)
    if isinstance(fields.get("operations"), list):
        fields["operations"] = {name: name for name in fields["operations"]}
    where = f"provider {fields.get('id', '')!r}"
    try:
        base = msgspec.to_builtins(like) if like is not None else {}
        row = msgspec.convert({**base, **fields}, ProviderRow)
    except (msgspec.MsgspecError, TypeError) as fault:
        raise ConfigurationError([f"{where}: {fault}"]) from None
    faults = row.faults()
    if faults:
        raise ConfigurationError([f"{where}: {fault}" for fault in faults])
    return row
