"""Which path asks for what: every address that clients of any format call, as one table and a few patterns.

Main entries: `PLAIN`, the usual addresses for one look-up, and `find`, for all others. People type base URLs with and
without `/v1`, and SDKs add what they think is missing, so each endpoint answers below `/v1`, without it, twice, and
below `/openai`, `/anthropic` and `/gemini`; Azure's clients have the model in the path (`/openai/deployments/X/...`).
What is left below the name of a registered provider passes as it is.
Laws: management and health never match; what a path means does not depend on what its percent-encoding hides.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum

from apikeyrouter.domain.models.call import CONVERSATIONS, Operation, Wire

__all__ = ["PLAIN", "Kind", "Target", "find", "wire_of"]

_POST = ("POST",)
_READ = ("GET", "HEAD")
_ANY = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE")


class Kind(StrEnum):
    """How a request is served.

    Serve: by whoever the router chooses. Native: the same among those who have this very endpoint. Count: counts
    tokens, here if need be. Owned: belongs to the key that made something. Raw: any path of one provider. Models: the
    list of models. Unknown: there is no such thing.
    """

    Serve = "serve"
    Native = "native"
    Count = "count"
    Owned = "owned"
    Raw = "raw"
    Models = "models"
    Unknown = "unknown"


@dataclass(frozen=True, slots=True)
class Target:
    """What a path asks for. `wire`: the caller's format. `path`: upstream, below the API's root, "" for the
    operation's own. `model`, `streams`: what the path itself says. `thing`: kind and id of what the request is about
    ("" for none yet). `provider_id`: the one that the path names. `form`: the body may be a multipart form."""

    kind: Kind
    operation: Operation = Operation.Raw
    wire: Wire = Wire.Chat
    methods: tuple[str, ...] = _POST
    path: str = ""
    model: str = ""
    streams: bool = False
    thing: tuple[str, str] = ("", "")
    provider_id: str | None = None
    form: bool = False

    @property
    def plain(self) -> bool:
        """Whether the body says all: a JSON object with the model's name, for whoever the router chooses."""
        return self.kind is Kind.Serve and not self.model and not self.form


_FORMS = frozenset({Operation.ImageEdits, Operation.Transcriptions, Operation.Translations})
_SERVED = (
    Operation.Chat, Operation.Completions, Operation.Embeddings, Operation.Responses, Operation.Messages,
    Operation.Moderations, Operation.Images, Operation.ImageEdits, Operation.Speech, Operation.Transcriptions,
    Operation.Translations, Operation.Rerank,
)  # fmt: skip


def _served() -> dict[str, Target]:
    table = {
        one.value: Target(Kind.Serve, one, CONVERSATIONS.get(one, Wire.Chat), form=one in _FORMS) for one in _SERVED
    }
    table["messages/count_tokens"] = Target(Kind.Count, Operation.CountTokens, Wire.Messages)
    for place, kind in (("responses/input_tokens", Kind.Count), ("responses/compact", Kind.Native)):
        table[place] = Target(kind, Operation.Responses, Wire.Responses, path=place)
    for place, thing, wire in (
        ("files", "file", Wire.Chat),
        ("batches", "batch", Wire.Chat),
        ("messages/batches", "batch", Wire.Messages),
    ):
        owner = "anthropic" if wire is Wire.Messages else None
        methods = (*_POST, *_READ)
        table[place] = Target(
            Kind.Owned, wire=wire, methods=methods, path=place, thing=(thing, ""), provider_id=owner, form=True
        )
    return table


_TARGETS = _served()
_PREFIXES = ("/v1", "/openai/v1", "/anthropic/v1", "", "/openai", "/anthropic", "/v1/v1", "/anthropic/v1/v1")
PLAIN: Mapping[str, Target] = {
    f"{prefix}/{path}": target for prefix in _PREFIXES for path, target in _TARGETS.items()
} | {"/v2/rerank": _TARGETS["rerank"]}
"""The usual addresses."""

_ID = r"[A-Za-z0-9_.:-]{1,256}"
_OWNED: tuple[tuple[re.Pattern[str], str, Wire, tuple[str, ...]], ...] = (
    (re.compile(rf"responses/({_ID})"), "response", Wire.Responses, (*_READ, "DELETE")),
    (re.compile(rf"responses/({_ID})/input_items"), "response", Wire.Responses, _READ),
    (re.compile(rf"responses/({_ID})/cancel"), "response", Wire.Responses, _POST),
    (re.compile(rf"files/({_ID})"), "file", Wire.Chat, (*_READ, "DELETE")),
    (re.compile(rf"files/({_ID})/content"), "file", Wire.Chat, _READ),
    (re.compile(rf"batches/({_ID})"), "batch", Wire.Chat, _READ),
    (re.compile(rf"batches/({_ID})/cancel"), "batch", Wire.Chat, _POST),
    (re.compile(rf"messages/batches/({_ID})"), "batch", Wire.Messages, (*_READ, "DELETE")),
    (re.compile(rf"messages/batches/({_ID})/results"), "batch", Wire.Messages, _READ),
    (re.compile(rf"messages/batches/({_ID})/cancel"), "batch", Wire.Messages, _POST),
)
_GEMINI = re.compile(r"(?:models/)(.{1,256}):([A-Za-z]{1,64})")
_VERBS: Mapping[str, tuple[Kind, Operation, bool]] = {
    "generateContent": (Kind.Serve, Operation.Gemini, False),
    "streamGenerateContent": (Kind.Serve, Operation.Gemini, True),
    "countTokens": (Kind.Count, Operation.GeminiCountTokens, False),
    "embedContent": (Kind.Serve, Operation.GeminiEmbed, False),
    "batchEmbedContents": (Kind.Serve, Operation.GeminiEmbed, False),
}
_DEPLOYMENT = re.compile(r"(?:deployments|engines)/([^/]{1,256})/(.+)")
"""Azure's addresses, and OpenAI's before 2022: the model stands in the path, and in the body it need not stand."""

_VENDORS = ("/openai/", "/anthropic/", "/gemini/")
_VERSIONS = ("/v1/", "/v1beta/", "/v2/")
_SLASHES = re.compile(r"/{2,}")
_NOT_PROVIDERS = frozenset({"api", "docs", "swagger", "metrics", "health", "healthz", "livez", "readyz", "favicon.ico"})
_UNKNOWN = Target(Kind.Unknown)


def find(path: str, headers: Mapping[bytes, bytes], providers: Collection[str]) -> Target | None:
    """What a path that is not in `PLAIN` asks for; None for what is no client's business. `path`: decoded, as ASGI
    gives it. `providers`: ids of those that are registered."""
    path = _SLASHES.sub("/", path)
    bare = path.rstrip("/")
    plain = PLAIN.get(bare)
    if plain is not None:
        return plain
    vendor = next((one for one in _VENDORS if path.startswith(one)), None)
    rest = path[len(vendor) - 1 :] if vendor else bare
    version = next((one for one in _VERSIONS if f"{rest}/".startswith(one)), None)
    if (
        version is None
        and vendor is None
        and not bare.startswith(("/responses/", "/files/", "/batches/", "/models", "/deployments/"))
    ):
        return _raw(path, providers)
    beta = version == "/v1beta/"
    rest = rest.strip("/")
    while rest.startswith(("v1/", "v1beta/", "v2/", "openai/")):
        beta = beta or rest.startswith("v1beta/")
        rest = rest.partition("/")[2]
    found = _below_root(rest, beta=beta, headers=headers)
    if found is not None:
        return found
    return (_raw(path, providers) if vendor else None) or replace(_UNKNOWN, wire=wire_of(path, headers))


def _below_root(rest: str, *, beta: bool, headers: Mapping[bytes, bytes]) -> Target | None:
    """`rest`: below the API's root, without slashes around it."""
    plain = _TARGETS.get(rest)
    if plain is not None:
        return plain
    hit = _DEPLOYMENT.fullmatch(rest)
    if hit is not None:
        named = _TARGETS.get(hit[2])
        return replace(named, model=hit[1]) if named is not None and named.kind is Kind.Serve else None
    for pattern, thing, wire, methods in _OWNED:
        hit = pattern.fullmatch(rest)
        if hit is not None:
            provider_id = "anthropic" if wire is Wire.Messages else None
            return Target(
                Kind.Owned, wire=wire, methods=methods, path=rest, thing=(thing, hit[1]), provider_id=provider_id
            )
    hit = _GEMINI.fullmatch(rest)
    if hit is not None and hit[2] in _VERBS:
        kind, operation, streams = _VERBS[hit[2]]
        path = f"models/{{model}}:{hit[2]}" if hit[2] == "batchEmbedContents" else ""
        return Target(kind, operation, Wire.Gemini, path=path, model=hit[1], streams=streams)
    if rest == "models" or rest.startswith("models/"):
        wire = Wire.Gemini if beta else wire_of(rest, headers)
        return Target(Kind.Models, wire=wire, methods=_READ, path=rest)
    return None


def _raw(path: str, providers: Collection[str]) -> Target | None:
    """Any path below a provider's name."""
    name, _, rest = path[1:].partition("/")
    if not rest or name in _NOT_PROVIDERS or name not in providers:
        return None
    return Target(Kind.Raw, methods=_ANY, path=rest, provider_id=name)


def wire_of(path: str, headers: Mapping[bytes, bytes]) -> Wire:
    """The format of a caller whose path says nothing certain."""
    if b"anthropic-version" in headers or "/anthropic/" in path or "messages" in path:
        return Wire.Messages
    if "/v1beta" in path or "/gemini/" in path or path.rpartition(":")[2] in _VERBS:
        return Wire.Gemini
    if b"x-goog-api-key" in headers and b"authorization" not in headers:
        return Wire.Gemini
    return Wire.Responses if "responses" in path else Wire.Chat
