"""The objects of `apikeyrouter.yaml`: providers, pools, keys, prices, budgets, deployments, policies, clients.

Main entries: a class for each; `types.ConfigFile` holds them by name. The text below a member is what editors and
readers see. Laws: unknown members are refused; None means "not said"; what a value may be exactly is checked by whoever
uses it (`meaning`), so that file, environment and API accept the same.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints, WithJsonSchema, create_model

from apikeyrouter.domain.cost.overrides import CLASSES
from apikeyrouter.domain.routing.policy import LISTS

__all__ = [
    "Amount",
    "Budget",
    "Deployment",
    "Key",
    "Limits",
    "ModelGroup",
    "Money",
    "Names",
    "Number",
    "Part",
    "Policy",
    "PolicyRules",
    "Pool",
    "Price",
    "Provider",
    "Secret",
    "Switch",
    "Team",
    "Text",
    "VirtualKey",
    "Whole",
]


def _listed(given: object) -> object:
    """Text with commas is a list as well."""
    return [one.strip() for one in given.split(",") if one.strip()] if isinstance(given, str) else given


def _text(given: object) -> object:
    """Numbers where text is meant, such as amounts and the password 1234."""
    return str(given) if isinstance(given, int | float) and not isinstance(given, bool) else given


def _one_or_many(given: object) -> object:
    return [given] if isinstance(given, str | dict) else given


_TEXTS: dict[str, Any] = {"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}]}
_LIMIT: dict[str, Any] = {"anyOf": [{"type": "integer", "minimum": 1}, {"type": "string"}]}
Text = Annotated[str, BeforeValidator(_text), StringConstraints(max_length=8192)]
Secret = Annotated[Text, WithJsonSchema({"type": "string", "examples": ["${OPENAI_API_KEY}", "${file:secrets/key}"]})]
Names = Annotated[list[Text], BeforeValidator(_listed), WithJsonSchema(_TEXTS)]
Amount = Annotated[Text, WithJsonSchema({"anyOf": [{"type": "number"}, {"type": "string"}]})]
Count = Annotated[int, Field(ge=1, le=10**12), WithJsonSchema(_LIMIT)]
Number = Annotated[float, WithJsonSchema({"anyOf": [{"type": "number"}, {"type": "string"}]})]
Whole = Annotated[int, WithJsonSchema({"anyOf": [{"type": "integer"}, {"type": "string"}]})]
Switch = Annotated[bool, WithJsonSchema({"anyOf": [{"type": "boolean"}, {"type": "string"}]})]
Targets = Annotated[
    list[Any],
    BeforeValidator(_one_or_many),
    WithJsonSchema({"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": ["string", "object"]}}]}),
]


class Part(BaseModel):
    """A part of the file: unknown members are refused, and faults never show what was written."""

    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True, frozen=True)


class Provider(Part):
    """Where a provider is. A known one (`apikeyrouter providers list`) needs no entry, or only what differs; any server
    that speaks OpenAI's format is one with a `base_url`."""

    like: Text | None = None
    """A known provider whose other members are taken over. Default: the one of this name, if there is one."""
    kind: Literal["compatible", "http"] | None = None
    """compatible: speaks OpenAI's format. http: any other API, relayed as it is. Default: compatible."""
    base_url: Text | None = None
    """The address below which its paths are, such as https://llm.example.com/v1."""
    name: Text | None = None
    """For people."""
    aliases: Names | None = None
    """Other names in requests."""
    env: Names | None = None
    """Variables of the environment that hold keys of it."""
    header: Text | None = None
    """The header in which the key travels. Default: authorization."""
    scheme: Text | None = None
    """What stands before the key in it. Default: Bearer."""
    keyless: Switch | None = None
    """Whether it needs no key."""
    dialect: Text | None = None
    """How it tells limits and errors: openai, anthropic, generic ..."""
    operations: Any = None
    """Endpoints that it has: a list, or an object of paths by endpoint. Default: chat/completions."""
    models_path: Text | None = None
    """Where it lists models, "" for nowhere. Default: models."""
    quirks: Names | None = None
    """Where it differs from OpenAI, see the guide on providers."""
    refuses: Names | None = None
    """Members of a request that it rejects."""
    headers: dict[str, Text] | None = None
    """Sent with each request; credentials belong in keys."""
    makes: Names | None = None
    """Beginnings of the names of its models."""
    hosts_open: Switch | None = None
    """Whether it serves models under names of its own choice."""
    tools: Switch | None = None
    """Whether it can call tools. Default: true."""
    images: Switch | None = None
    """Whether it takes images. Default: true."""
    streaming: Switch | None = None
    """Whether it streams. Default: true."""
    docs: Text | None = None
    """A page about it, for people."""
    adapter: Text | None = None
    """A class of your own that speaks to it, as module:Class; the module may lie beside this file."""
    options: dict[str, Any] | None = None
    """What that class is made with."""
    endpoint: Text | None = None
    """Azure OpenAI: the resource, https://NAME.openai.azure.com."""
    api_version: Text | None = None
    """Azure OpenAI: such as 2024-10-21."""
    deployment: Text | None = None
    """Azure OpenAI: the deployment that serves models that `deployments` does not name."""
    deployments: dict[str, Text] | None = None
    """Azure OpenAI: deployments by model."""
    key: Text | None = None
    """kind http: bearer, header:NAME or query:NAME."""
    query_is_fine: Switch | None = None
    """kind http: needed for query:NAME, which ends up in logs on the way."""
    ok: Text | None = None
    """kind http: MEMBER=VALUE without which a reply is a failure."""
    unit: Text | None = None
    """kind http: what is sold, such as web_searches."""
    units: Text | None = None
    """kind http: the member that tells how many a call used."""
    usd_per_request: Amount | None = None
    """kind http: US dollars for a request."""
    usd_per_unit: Amount | None = None
    """kind http: US dollars for a unit."""
    billed: Text | None = None
    """kind http: the member that tells the dollars that were charged."""
    probe: Text | None = None
    """kind http: a path that answers 2xx to a good key and costs nothing."""


class Limits(Part):
    """Limits of a quota pool. The provider's own headers go before them once they are known."""

    rpm: Count | None = None
    """Requests per minute."""
    tpm: Count | None = None
    """Tokens per minute."""
    rpd: Count | None = None
    """Requests per day."""
    tpd: Count | None = None
    """Tokens per day."""
    itpm: Count | None = None
    """Input tokens per minute."""
    otpm: Count | None = None
    """Output tokens per minute."""
    concurrency: Count | None = None
    """Requests under way at once."""


class Pool(Limits):
    """Limits that several keys share, as keys of one account do. Keys name it as their `pool`."""

    tier: Text | None = None
    """The account's tier at the provider, for presets of limits."""


class Key(Limits):
    """A provider's key. Its name is its label: it stays when the secret changes, and so do its limits and history."""

    provider: Text
    """The provider that it is for: a known one, or one of this file."""
    secret: Secret | None = None
    """The key itself, best as a reference. Left out for providers that need none."""
    weight: Number | None = None
    """Its share of traffic. Default: 1."""
    models: Names | None = None
    """Models that it serves, with * and ?. Default: all."""
    pool: Text | None = None
    """The quota pool that it draws from. Default: its own."""
    tier: Text | None = None
    """The account's tier at the provider, for presets of limits."""
    region: Text | None = None
    """For policies."""
    tags: Names | None = None
    """For policies."""
    base_url: Text | None = None
    """Where this key's account lives, if elsewhere than its provider."""
    cost_per_1k: Amount | None = None
    """US dollars for 1,000 tokens, input and output alike."""
    cost_multiplier: Amount | None = None
    """Times the list price."""
    metadata: dict[str, Any] | None = None
    """Anything else that a key may carry."""


_PriceClasses = create_model(  # type: ignore[call-overload] # names are known at run time only
    "_PriceClasses", __base__=Part, **dict.fromkeys(CLASSES, (Amount | None, None))
)


class Price(_PriceClasses):  # type: ignore[misc, valid-type] # made just above
    """A price of your own for "provider/model": classes of tokens with their unit, or a multiplier of the list's."""

    unit: Literal["per_1k", "per_1m"] | None = None
    """What amounts are for: 1,000 or 1,000,000 tokens."""
    multiplier: Amount | None = None
    """Times the list price instead."""
    per_request: Amount | None = None
    """US dollars for each request."""
    effective_from: Text | None = None
    """The day, or time with its zone, from which it holds."""
    effective_until: Text | None = None
    """Until before this day or time."""
    long_context: list[dict[str, Any]] | None = None
    """Prices of requests with more input than `over` tokens."""
    tiers: dict[str, dict[str, Any]] | None = None
    """Prices of other service tiers."""
    fees: dict[str, Any] | None = None
    """US dollars for what is not sold by tokens."""
    note: Text | None = None
    """For people."""


class Money(Part):
    """A limit on spend."""

    limit: Amount
    """US dollars per period: 10, 10.50 or $10."""
    period: Text = "daily"
    """hourly, daily, weekly, monthly, or total: for good."""
    enforcement_mode: Literal["hard", "soft"] = "hard"
    """hard: what might not fit is refused. soft: it is told, not refused."""
    rolling: Switch = False
    """The last hour, day, 7 or 30 days instead of the calendar's."""
    time_zone: Text = "UTC"
    """Whose calendar counts: an IANA name."""


class Budget(Money):
    """A limit on spend, over everything or a part. A change of scope, period or calendar begins to count anew."""

    scope: Text = "global"
    """global, provider, key, route, virtual_key, team or tag."""
    scope_id: Text | None = None
    """What it covers: a provider, key, model, virtual key, team, or name=value of a tag."""


class Deployment(Part):
    """A name that stands for several models, and what is tried after it."""

    targets: Targets | None = None
    """provider/model, or objects: provider, model, weight, tags, region, keys, without, context_window."""
    fallbacks: Names | None = None
    """Models or deployments, in the order in which they are tried when nobody can serve it."""
    context_fallbacks: Names | None = None
    """The same, for requests that are too long."""
    note: Text | None = None
    """For people."""


class ModelGroup(Part):
    """Models among which `auto` chooses. The group `default` is what `auto` means; any other is asked for as
    auto/NAME."""

    models: Targets | None = None
    """Names of models, or objects: model, role (weak or strong), quality, tasks, context_window, without."""
    strategy: Text | None = None
    """heuristic, cost_optimized, quality, balanced, latency, hybrid or cascade. Default: the router's."""
    reference: Text | None = None
    """The model that savings are told against. Default: the strongest."""
    max_cost: Amount | None = None
    """The most that one request may cost, in US dollars, all of its answers together."""
    strong_share: Number | None = None
    """The share of requests that goes to the strong model, 0 to 1."""
    target_quality: Number | None = None
    """The share of answers that must be as good as the strongest model's, 0 to 1, in place of strong_share."""
    cascade: dict[str, Any] | None = None
    """When a cheap answer is accepted: accept (consistency, logprobs or verifier), samples, agreement, confidence."""
    shadow: Switch | None = None
    """Whether requests for the reference model are told what auto would have done. Default: false."""
    note: Text | None = None
    """For people."""


_PolicyLists = create_model(  # type: ignore[call-overload] # names are known at run time only
    "_PolicyLists", __base__=Part, **dict.fromkeys(LISTS, (Names | None, None))
)


class PolicyRules(_PolicyLists):  # type: ignore[misc, valid-type] # made just above
    """Who may serve, and for what. Of every allowed kind a key needs one name, of the blocked ones none; names may be
    patterns."""

    objective: Any = None
    """What is optimised: a name, or an object with primary, secondary and weights."""
    override: Switch | None = None
    """Whether the objective goes before the caller's. Default: false."""
    fallbacks: Switch | None = None
    """Whether other models may stand in. Default: true."""
    max_cost: Amount | None = None
    """The most that one request may cost, in US dollars."""
    min_reliability: Number | None = None
    """The least success rate of a key, 0 to 1."""
    priority: Whole | None = None
    """Higher goes before. Default: 0."""
    enabled: Switch | None = None
    """Default: true."""
    note: Text | None = None
    """For people."""


class Policy(PolicyRules):
    """A rule about who may serve whom."""

    scope: Text | None = None
    """global, provider, key, route, team or virtual_key. Default: global."""
    scope_id: Text | None = None
    """A provider, key, model or pattern, team, or virtual key."""


class VirtualKey(Part):
    """A credential for clients of this proxy. It holds while it stands here; nothing about it is stored."""

    secret: Secret
    """What the client sends: 16 printable characters or more, best as a reference."""
    role: Literal["client", "admin"] = "client"
    """client: /v1 only. admin: the management API too."""
    models: Names | None = None
    """Models that it may use, as patterns. Default: all."""
    providers: Names | None = None
    """Providers that it may use. Default: all."""
    team: Text | None = None
    """Whose budgets and policies count its requests."""
    tags: dict[str, Text] | None = None
    """What each of its requests carries."""
    expires_at: Text | None = None
    """A day, or a time with its zone. Default: never."""
    rpm: Count | None = None
    """Requests in any 60 seconds."""
    tpm: Count | None = None
    """Tokens in any 60 seconds."""
    parallel: Count | None = None
    """Requests under way at once."""
    weight: Number = 1.0
    """Its share of capacity while requests wait."""


class Team(Part):
    """What holds for everybody of a team; virtual keys name it as their `team`."""

    budget: Money | None = None
    """What the team may spend."""
    policy: PolicyRules | None = None
    """What it may use."""
