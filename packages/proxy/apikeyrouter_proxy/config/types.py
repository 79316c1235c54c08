"""What may stand in `apikeyrouter.yaml`: the file as a whole, and how the proxy itself runs.

Main entry: `ConfigFile`; its objects are in `objects`. The JSON schema (`config schema`) and
docs/reference/configuration.md are made of these two modules: the text below a member is what editors and readers see.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, create_model

from apikeyrouter.infrastructure.config.settings import RouterSettings
from apikeyrouter_proxy.config import objects
from apikeyrouter_proxy.config.objects import (
    Budget,
    Deployment,
    Key,
    ModelGroup,
    Names,
    Number,
    Part,
    Policy,
    Pool,
    Price,
    Provider,
    Secret,
    Switch,
    Team,
    Text,
    VirtualKey,
    Whole,
)

__all__ = ["ROUTER_FIELDS", "SECRETS", "ConfigFile", "parts"]

Objective = Literal["fairness", "cost", "reliability", "latency", "quality", "balanced"]


class Server(Part):
    """How the proxy listens, keeps state and lets callers in. A change needs a restart, unless it says otherwise."""

    host: Text | None = None
    """Address to listen on. Another one than loopback needs an admin key or a virtual key. Default: 127.0.0.1."""
    port: Whole | None = None
    """Port; 0 takes a free one. Default: 8000."""
    workers: Whole | None = None
    """Processes that serve together, 1 to 64. Default: 1."""
    store: Text | None = None
    """Where state is kept: memory:, sqlite:///path, postgresql://..., redis://... Default: a file of the user's."""
    encryption_key: Secret | None = None
    """Encrypts stored secrets. Default: a key file beside the database."""
    admin_key: Secret | None = None
    """Opens the management API; 12 characters or more."""
    require_auth: Switch | None = None
    """Demand keys also from this machine. Default: false."""
    allowed_hosts: Names | None = None
    """Names under which open mode may be addressed, besides loopback's."""
    allowed_origins: Names | None = None
    """Origins of web pages that may call."""
    stale_keys_s: Number | None = None
    """Seconds for which known virtual keys hold while the store does not answer. Default: 300."""
    shutdown_timeout_s: Number | None = None
    """Seconds that running requests may take to end. Default: 30."""
    body_limit_bytes: Whole | None = None
    """Largest request body. Default: 10485760."""
    upload_limit_bytes: Whole | None = None
    """Largest multipart form. Default: 33554432."""
    drop_params: Switch | None = None
    """Leave out parameters that a provider does not know, for requests that do not say. Default: false."""
    metrics_public: Switch | None = None
    """Whether /metrics needs no key. Default: false."""
    log_level: Text | None = None
    """DEBUG, INFO, WARNING, ERROR or CRITICAL. Default: INFO."""
    log_format: Text | None = None
    """json, pretty, or auto: pretty on a terminal. Default: auto."""
    log_bodies: Number | None = None
    """Share of requests whose bodies are logged, 0 (never) to 1. Default: 0. A reload is enough."""
    config_watch: Text | None = None
    """Read this file again whenever it was saved: on, off, or the seconds between two looks. Default: off."""
    keys_from_environment: Switch = True
    """Whether keys of the environment (OPENAI_API_KEY and so on) are taken besides those of this file."""


class Webhook(Part):
    """Where alerts go. A change needs a restart."""

    url: Secret | None = None
    """https, or http on this machine."""
    secret: Secret | None = None
    """whsec_ and 24 to 64 bytes in base64: signs each message."""
    allow_private: Switch | None = None
    """Whether it may go into a private network. Default: false."""
    format: Text | None = None
    """standard or slack: how bodies look. Default: what the URL's host expects."""


ROUTER_FIELDS = tuple(
    name
    for name in RouterSettings.model_fields
    if name not in ("log_level", "prices", "prices_file", "policies", "deployments", "model_groups")
)
_RouterFields = create_model(  # type: ignore[call-overload] # names are known at run time only
    "_RouterFields", __base__=Part, **dict.fromkeys(ROUTER_FIELDS, (Any, None))
)


class Router(_RouterFields):  # type: ignore[misc, valid-type] # made just above
    """How requests are routed: the settings of the library, under their own names."""


class ConfigFile(Part):
    """The configuration of an ApiKeyRouter. What is not said comes from the environment or from defaults."""

    version: Literal[1] = 1
    """The version of this format."""
    include: Names | None = None
    """Other files that belong to this one, relative to it; * matches several. A name may be defined once only."""
    name: Text = "default"
    """What this configuration is called where several share a store; each looks after its own keys and budgets."""
    server: Server = Server()
    """How the proxy listens, keeps state and lets callers in."""
    webhook: Webhook = Webhook()
    """Where alerts go."""
    objective: Objective | None = None
    """What requests are optimised for that do not say. Default: fairness. The same as router.default_objective."""
    router: Router = Router()
    """How requests are routed."""
    providers: dict[str, Provider] = Field(default_factory=dict)
    """Where providers are, by name."""
    pools: dict[str, Pool] = Field(default_factory=dict)
    """Quota pools that several keys share, by name."""
    keys: dict[str, Key] = Field(default_factory=dict)
    """Keys of providers, by label."""
    prices: dict[str, Price] = Field(default_factory=dict)
    """Prices of your own, by provider/model."""
    budgets: dict[str, Budget] = Field(default_factory=dict)
    """Limits on spend, by name."""
    deployments: dict[str, Deployment] = Field(default_factory=dict)
    """Names that stand for several models, and fallbacks."""
    aliases: dict[str, Text] = Field(default_factory=dict)
    """Other names of models: provider/model, or a deployment."""
    fallbacks: dict[str, Names] = Field(default_factory=dict)
    """What is tried when nobody can serve a model; the same as `fallbacks` of a deployment of that name."""
    model_groups: dict[str, ModelGroup] = Field(default_factory=dict)
    """Models among which auto chooses, by group."""
    policies: dict[str, Policy] = Field(default_factory=dict)
    """Who may serve whom, by id."""
    virtual_keys: dict[str, VirtualKey] = Field(default_factory=dict)
    """Credentials of clients, by name."""
    teams: dict[str, Team] = Field(default_factory=dict)
    """Budgets and policies of teams, by name."""


SECRETS = frozenset(
    {
        ("server", "encryption_key"), ("server", "admin_key"), ("webhook", "url"), ("webhook", "secret"),
        ("keys", "*", "secret"), ("virtual_keys", "*", "secret"),
    }
)  # fmt: skip
"""Members that are never shown; "*" stands for any name."""


def parts() -> dict[str, type[Part]]:
    """Every part by its class's name, for the schema and the reference."""
    named = [
        one
        for one in (*vars(objects).values(), *globals().values())
        if isinstance(one, type) and issubclass(one, Part) and one is not Part
    ]
    return {one.__name__: one for one in named if not one.__name__.startswith("_")}
