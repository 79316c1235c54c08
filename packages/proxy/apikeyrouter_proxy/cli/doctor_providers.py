"""What `doctor` looks at beyond this machine: each provider's address, each key, and a model's name.

Main entries: `examine` and `model`. A provider is tried in the order in which a connection is made (name, TCP, TLS), so
that the first thing that fails is the one that is told. Trying a key lists models: it costs nothing.
"""

from __future__ import annotations

import difflib
import socket
import ssl
from typing import Any
from urllib.parse import quote, urlsplit

from apikeyrouter_proxy.cli import http
from apikeyrouter_proxy.cli.findings import Finding, Tell, fail, ok, warn
from apikeyrouter_proxy.cli.keys import known_keys
from apikeyrouter_proxy.cli.progress import steps
from apikeyrouter_proxy.cli.service import Service

__all__ = ["examine", "model"]

_CONNECT_WITHIN_S = 5.0
_ANSWER_WITHIN_S = 10.0
_HTTPS_PORT, _HTTP_PORT = 443, 80
_MODELS_SHOWN = 5


def examine(service: Service, tell: Tell, *, quiet: bool = False) -> list[Finding]:
    """Every provider that has keys, and its keys. Findings are told as they are made; returned is what is left.
    `quiet`: no bar is drawn."""
    keys = known_keys(service)
    if not keys:
        return [
            warn(
                "Keys",
                "no provider key is registered, so only the simulated provider can answer",
                "Set OPENAI_API_KEY in the environment or in .env, or run `apikeyrouter keys add`.",
            )
        ]
    with steps("Trying keys", len(keys), quiet=quiet) as step:
        for provider in service.get("/api/v1/providers")["data"]:
            own = [key for key in keys if key["provider_id"] == provider["id"]]
            if not own:
                continue
            reached = _reach(provider)
            tell(reached)
            lost = reached.level == "fail" and all(not key["metadata"].get("base_url") for key in own)
            if lost:
                tell(warn("Keys", f"those of {provider['id']} were not tried, since it cannot be reached"))
            for key in own:
                if not lost:
                    tell(_try_key(service, key, provider))
                step(provider["id"])
    return []


def _reach(provider: dict[str, Any]) -> Finding:
    """Whether a connection to the provider comes about."""
    base_url, subject = provider["base_url"], f"Provider {provider['id']}"
    parts = urlsplit(base_url)
    host, port = parts.hostname or "", parts.port or (_HTTPS_PORT if parts.scheme == "https" else _HTTP_PORT)
    variable = " (OPENAI_BASE_URL)" if provider["id"] == "openai" else ""
    try:
        socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except OSError:
        return fail(
            subject, f"the name {host} is not known (DNS)", f"Check the base URL{variable}, and this machine's network."
        )
    try:
        with socket.create_connection((host, port), _CONNECT_WITHIN_S) as connection:
            if parts.scheme == "https":
                with ssl.create_default_context().wrap_socket(connection, server_hostname=host):
                    pass
    except ConnectionRefusedError:
        return fail(
            subject,
            f"{host} port {port} refuses connections: nothing listens there",
            f"Start that server, or correct the base URL{variable}.",
        )
    except ssl.SSLError as failure:
        why = getattr(failure, "verify_message", "") or failure.reason or "the handshake failed"
        return fail(
            subject,
            f"no secure connection to {host} port {port} (TLS): {why}",
            "Check the machine's clock and certificates, and whether http:// was meant instead of https://.",
        )
    except TimeoutError:
        return fail(
            subject,
            f"{host} port {port} does not answer within {_CONNECT_WITHIN_S:g} s",
            "A firewall may be in between.",
        )
    except OSError as failure:
        return fail(
            subject, f"no connection to {host} port {port}: {failure.strerror or failure}", "Check the network."
        )
    if _is_silent(base_url):
        return fail(
            subject,
            f"{host} port {port} takes connections, and answers nothing within {_ANSWER_WITHIN_S:g} s",
            f"That server hangs, or is no web server: see its log or status page, and the base URL{variable}. For "
            "models that only start slowly, raise REQUEST_TIMEOUT.",
        )
    return ok(subject, f"{base_url} can be reached")


def _is_silent(base_url: str) -> bool:
    """Whether a request without a key gets no answer at all: each key would wait for one much longer."""
    parts = urlsplit(base_url)
    try:
        http.ask(f"{parts.scheme}://{parts.netloc}", "GET", f"{parts.path}/models", timeout_s=_ANSWER_WITHIN_S)
    except http.Unreachable as failure:
        return failure.kind == "silent"
    return False


def _try_key(service: Service, key: dict[str, Any], provider: dict[str, Any]) -> Finding:
    """What the provider says to this key."""
    label, subject = key["label"], f"Key {key['label']}"
    if key["state"] == "disabled":
        return warn(subject, "is disabled", f"`apikeyrouter keys enable {label}` puts it back into service.")
    path = f"/api/v1/keys/{quote(key['id'], safe='')}"
    checked = service.send("POST", f"{path}/check")
    if checked["ok"]:
        return ok(subject, f"works at {provider['id']}; it lists {checked['models']} models")
    state, status, detail = service.get(path)["state"], checked["status"], checked["detail"]
    if status == 401:
        return fail(
            subject,
            f"the provider refuses it, so it is wrong, revoked or another provider's: {detail}",
            f"Give it the right secret: `apikeyrouter keys rotate {label}`.",
        )
    if status == 402 or state == "exhausted":
        return fail(
            subject,
            f"its account has no credit or quota left: {detail}",
            "Add credit there, or wait for the next period.",
        )
    if status == 429:
        return warn(subject, f"is rate limited at the moment: {detail}", "It comes back by itself.")
    if status == 403:
        return fail(
            subject, f"may not do this: {detail}", "Check its permissions and project in the provider's console."
        )
    if status == 404:
        return fail(
            subject,
            f"{provider['base_url']} has no list of models: {detail}",
            "Check the base URL; it mostly ends in /v1.",
        )
    return fail(subject, f"could not be tried: {detail}", "Try again; if it stays, look at the provider's status page.")


def model(service: Service, wanted: str) -> list[Finding]:
    """Whether a provider lists this model, else what it may be called."""
    answer = service.ask("GET", "/v1/models")
    listing = answer.json()
    if answer.status != 200 or not isinstance(listing, dict):
        return [warn("Model", "the list of models cannot be had", "Set APIKEYROUTER_KEY to a key of the proxy.")]
    names = [one["id"] for one in listing.get("data", [])]
    if not names:
        return [warn("Model", "no provider lists its models now, so it is not known whether it can be had")]
    _, _, bare = wanted.partition("/")
    if wanted in names or bare in names:
        return [ok("Model", f"{wanted} is to be had")]
    near = difflib.get_close_matches(bare or wanted, names, n=3)
    shown = ", ".join(names[:_MODELS_SHOWN]) + (" ..." if len(names) > _MODELS_SHOWN else "")
    advice = f"Did you mean {' or '.join(near)}?" if near else f"There are: {shown}"
    return [fail("Model", f"no provider lists {wanted!r}", advice)]
