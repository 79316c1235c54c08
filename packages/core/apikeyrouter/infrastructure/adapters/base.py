"""What adapters share: operations that a provider speaks itself pass as bytes, other conversations are translated.

An adapter says which operations are `native` (with their paths), which `wire` it translates other conversations into,
and how it authenticates. The rest is here: URL, headers, body, and how replies and streams are read.
Laws: the secret appears only in what `credentials` returns; headers that belong to the format of a caller do not travel
to a provider of another format; nothing native is parsed beyond its usage.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit

import msgspec

from apikeyrouter.domain.cost.usage import Usage
from apikeyrouter.domain.errors import ConfigurationError
from apikeyrouter.domain.interfaces.provider_adapter import ProviderCapabilities, StreamReader
from apikeyrouter.domain.interfaces.transport import Headers, HttpRequest
from apikeyrouter.domain.keys.secret import Secret
from apikeyrouter.domain.models.call import CONVERSATIONS, Call, Operation, Wire
from apikeyrouter.wire.codec import codec_of
from apikeyrouter.wire.losses import UntranslatableError
from apikeyrouter.wire.passing import PassingReader
from apikeyrouter.wire.translate import TranslatingReader, translated_reply, translated_request

__all__ = ["WireAdapter", "checked_base_url", "decoded", "with_member"]

_FORMAT_HEADERS = (b"openai-", b"anthropic-", b"x-stainless-", b"x-codex-", b"x-claude-code-", b"x-goog-")
"""Headers that only a provider of the caller's own format understands."""


class WireAdapter:
    """The base of adapters; see `ProviderAdapter` for what the methods mean.

    `base_url`: without a trailing slash. `wire`: the format that conversations are translated into. `native`:
    operations that pass as they are, with their paths below the base URL (`{model}` stands for the model's name).
    `headers`: sent with every request. `capabilities`: None: everything, for the native operations and those that can
    be translated.
    """

    def __init__(
        self,
        base_url: str,
        *,
        dialect: str,
        wire: Wire,
        native: Mapping[Operation, str],
        headers: Mapping[str, str] | None = None,
        capabilities: ProviderCapabilities | None = None,
    ) -> None:
        self.base_url = checked_base_url(base_url)
        self.dialect = dialect
        self.wire = wire
        self.native = dict(native)
        self._headers: Headers = [(k.lower().encode("ascii"), v.encode("latin-1")) for k, v in (headers or {}).items()]
        self._capabilities = capabilities or ProviderCapabilities(operations=self._servable())

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.base_url!r}, dialect={self.dialect!r})"

    def _servable(self) -> tuple[Operation, ...]:
        return tuple(dict.fromkeys([*self.native, *CONVERSATIONS, Operation.Raw]))

    # -- what subclasses say ----------------------------------------------------------------------------------------

    def credentials(self, secret: Secret) -> Headers:
        """The headers that authenticate."""
        return [(b"authorization", b"Bearer " + secret.reveal_bytes())]

    def claims(self, model: str) -> bool:  # noqa: ARG002 - subclasses look at it
        """Whether a model of this name is this provider's own."""
        return False

    def native_body(self, call: Call) -> bytes:
        """The body of a native call. The base replaces the model's name where the caller wrote another."""
        if call.peek.model != call.model and call.content_type == b"application/json" and call.body:
            return with_member(call.body, "model", call.model)
        return call.body

    def translated_body(self, call: Call) -> tuple[bytes, tuple[str, ...]]:
        """The body of a call in another format, and what was dropped. Raises UntranslatableError, MalformedError."""
        return translated_request(call, self.wire)

    def path_of(self, call: Call) -> str:
        """The path below the base URL."""
        if call.path:
            return call.path
        template = self.native.get(call.operation)
        if not template:
            template = self.native[_own_operation(self.wire) or Operation.Chat]
        return template.replace("{model}", call.model) if "{" in template else template

    def prepared(self, request: HttpRequest, call: Call) -> HttpRequest:  # noqa: ARG002 - subclasses look at it
        """The last word on a request, for providers that sign or that need more headers."""
        return request

    # -- the protocol -----------------------------------------------------------------------------------------------

    def get_capabilities(self) -> ProviderCapabilities:
        """What this provider can do, as configured."""
        return self._capabilities

    def passes(self, operation: Operation) -> bool:
        """See `ProviderAdapter.passes`."""
        return operation in self.native or operation is Operation.Raw

    def build_request(self, call: Call, secret: Secret, *, base_url: str | None = None) -> HttpRequest:
        """See `ProviderAdapter.build_request`. Raises UntranslatableError where the format cannot say it."""
        dropped: tuple[str, ...] = ()
        headers = self.credentials(secret) + self._headers
        passes = self.passes(call.operation)
        if passes:
            body = self.native_body(call)
            headers += call.headers
            content_type = call.content_type
        elif call.operation in CONVERSATIONS and _own_operation(self.wire) in (None, *self.native):
            body, dropped = self.translated_body(call)
            headers += [one for one in call.headers if not one[0].startswith(_FORMAT_HEADERS)]
            content_type = b"application/json"
        else:
            raise UntranslatableError(self.dialect, [f"{call.operation.value}: this provider has no such endpoint"])
        if body:
            headers.append((b"content-type", content_type))
        url = f"{base_url or self.base_url}/{self.path_of(call)}"
        if call.query and passes:
            url += ("&" if "?" in url else "?") + call.query
        request = HttpRequest(call.method, url, headers, body, call.deadline_s)
        if dropped:
            request.dropped = dropped
        return self.prepared(request, call)

    def build_models_request(self, secret: Secret, *, base_url: str | None = None) -> HttpRequest:
        """See `ProviderAdapter.build_models_request`."""
        headers = [*self.credentials(secret), *self._headers]
        return HttpRequest("GET", f"{base_url or self.base_url}/models", headers)

    def read_models(self, body: bytes) -> Sequence[dict[str, Any]]:
        """See `ProviderAdapter.read_models`."""
        listing = decoded(body)
        models = listing.get("data") if isinstance(listing, dict) else None
        if not isinstance(models, list):
            raise ValueError("the reply has no list of models under 'data'")  # noqa: TRY004 - wrong value, not type
        return [m for m in models if isinstance(m, dict) and isinstance(m.get("id"), str)]

    def read_reply(self, call: Call, body: bytes) -> tuple[bytes, Usage | None]:
        """See `ProviderAdapter.read_reply`."""
        if self.passes(call.operation):
            wire = CONVERSATIONS.get(call.operation)
            if wire is not None:
                return body, codec_of(wire).usage_of(body)
            try:
                return body, self.native_usage(call, body)
            except ValueError:
                if call.operation is Operation.Raw:  # any bytes may come from there
                    return body, None
                raise
        return translated_reply(call, self.wire, body)

    def native_usage(self, call: Call, body: bytes) -> Usage | None:  # noqa: ARG002 - subclasses look at it
        """The usage of a native reply that is no conversation. Raises ValueError when it is no valid reply."""
        return None

    def open_stream(self, call: Call) -> StreamReader:
        """See `ProviderAdapter.open_stream`."""
        if self.passes(call.operation):
            wire = CONVERSATIONS.get(call.operation)
            return codec_of(wire).reader(call) if wire is not None else PassingReader(self.dialect)
        return TranslatingReader(call, self.wire)


def checked_base_url(base_url: str) -> str:
    """The URL without a trailing slash. Raises ConfigurationError unless it is absolute http(s) without credentials."""
    parts = urlsplit(base_url.strip())
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ConfigurationError([f"base URL {base_url!r}: expected something like https://api.example.com/v1"])
    if parts.username or parts.password or parts.query or parts.fragment:
        raise ConfigurationError(
            [f"base URL of host {parts.hostname!r}: must have no user, password, query or fragment"]
        )
    return base_url.strip().rstrip("/")


def decoded(body: bytes) -> Any:
    """The JSON in a reply. Raises ValueError, whatever is wrong with it."""
    try:
        return msgspec.json.decode(body)
    except RecursionError:
        raise ValueError("the reply is nested too deeply") from None


def with_member(body: bytes, name: str, value: object) -> bytes:
    """The JSON object with one member replaced; every other member keeps its very bytes."""
    members = msgspec.json.decode(body, type=dict[str, msgspec.Raw])
    members[name] = msgspec.Raw(msgspec.json.encode(value))
    return msgspec.json.encode(members)


def _own_operation(wire: Wire) -> Operation | None:
    """The operation whose path conversations of a format go to; None for formats that only providers speak, whose
    adapters say their path themselves."""
    return next((operation for operation, one in CONVERSATIONS.items() if one is wire), None)
