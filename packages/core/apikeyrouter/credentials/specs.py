"""What can be exchanged for access tokens, as typed, sealed documents.

Main entry: `spec_of`, which reads a mapping with a `kind`, or the file that Google's console gives for a service
account. Laws: every fault is named at once, and no value is ever quoted, since most are secrets; token endpoints are
https, or on this machine.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

import msgspec

from apikeyrouter.domain.errors import ConfigurationError

__all__ = ["AzureEntra", "ClientCredentials", "Command", "RefreshToken", "ServiceAccount", "Spec", "kind_of", "spec_of"]


class ClientCredentials(msgspec.Struct, tag_field="kind", tag="client_credentials", forbid_unknown_fields=True):
    """OAuth 2.0 client credentials (RFC 6749, 4.4). `scope`, `audience`: as the provider wants them, "" for none."""

    token_url: str
    client_id: str
    client_secret: str
    scope: str = ""
    audience: str = ""


class RefreshToken(msgspec.Struct, tag_field="kind", tag="refresh_token", forbid_unknown_fields=True):
    """OAuth 2.0 refresh token (RFC 6749, 6), as a login leaves it. Where the provider answers with a new refresh token,
    that one is kept."""

    token_url: str
    client_id: str
    refresh_token: str
    client_secret: str = ""
    scope: str = ""


class ServiceAccount(msgspec.Struct, tag_field="kind", tag="google_service_account", forbid_unknown_fields=True):
    """A Google service account (RFC 7523; https://developers.google.com/identity/protocols/oauth2/service-account, read
    2026-11-21). `private_key`: PEM."""

    client_email: str
    private_key: str
    token_uri: str = "https://oauth2.googleapis.com/token"  # noqa: S105 - an address
    scope: str = "https://www.googleapis.com/auth/cloud-platform"


class AzureEntra(msgspec.Struct, tag_field="kind", tag="azure_entra", forbid_unknown_fields=True):
    """A Microsoft Entra application with a client secret
    (https://learn.microsoft.com/entra/identity-platform/v2-oauth2-client-creds-grant-flow, read 2026-11-21)."""

    tenant: str
    client_id: str
    client_secret: str
    scope: str = "https://cognitiveservices.azure.com/.default"
    authority: str = "https://login.microsoftonline.com"


class Command(msgspec.Struct, tag_field="kind", tag="command", forbid_unknown_fields=True):
    """A program that prints a token, or JSON with `access_token` (or `token`) and `expires_in` seconds. It is run
    without a shell. `ttl_s`: how long a token counts for which it names no time."""

    argv: list[str]
    timeout_s: float = 30.0
    ttl_s: float = 3000.0


Spec = ClientCredentials | RefreshToken | ServiceAccount | AzureEntra | Command

_KINDS: dict[str, type[Any]] = {
    "client_credentials": ClientCredentials,
    "refresh_token": RefreshToken,
    "google_service_account": ServiceAccount,
    "azure_entra": AzureEntra,
    "command": Command,
}
_GOOGLES_OWN = frozenset({"client_email", "private_key", "token_uri"})
_COMMAND_TIME_MAX_S = 300.0


def kind_of(spec: Spec) -> str:
    """The spec's kind, for people and for metadata."""
    return next(kind for kind, one in _KINDS.items() if type(spec) is one)


def spec_of(given: Mapping[str, Any] | Spec) -> Spec:
    """The spec that a mapping describes. Raises ConfigurationError naming every fault."""
    if not isinstance(given, Mapping):
        return given
    fields = dict(given)
    if fields.get("type") == "service_account":  # Google's own file
        fields = {name: value for name, value in fields.items() if name in _GOOGLES_OWN}
        fields["kind"] = "google_service_account"
    kind = fields.get("kind")
    if not isinstance(kind, str) or kind not in _KINDS:
        raise ConfigurationError([f"credential: 'kind' must be one of {', '.join(sorted(_KINDS))}"])
    wanted = _KINDS[kind]
    faults = [f"credential {kind}: there is no field {name!r}" for name in fields if name not in _names(wanted)]
    faults += [
        f"credential {kind}: the field {field.name!r} is missing"
        for field in msgspec.structs.fields(wanted)
        if field.required and not fields.get(field.name)
    ]
    if faults:
        raise ConfigurationError(faults)
    try:
        spec: Spec = msgspec.convert(fields, wanted)
    except msgspec.ValidationError as fault:  # names the place and the types, never the value
        raise ConfigurationError([f"credential {kind}: {fault}"]) from None
    _check(spec, kind)
    return spec


def _names(wanted: type[Any]) -> set[str]:
    return {"kind", *(field.name for field in msgspec.structs.fields(wanted))}


def _check(spec: Spec, kind: str) -> None:
    faults = []
    for name in ("token_url", "token_uri", "authority"):
        url = getattr(spec, name, None)
        if url is not None and not _is_safe(url):
            faults.append(f"credential {kind}: {name!r} must be an https address (http only for this machine)")
    if isinstance(spec, AzureEntra) and not all(c.isalnum() or c in "-." for c in spec.tenant):
        faults.append(f"credential {kind}: 'tenant' must be a domain or the id of a directory")
    if isinstance(spec, Command) and (not spec.argv or not 0 < spec.timeout_s <= _COMMAND_TIME_MAX_S):
        faults.append(f"credential {kind}: give 'argv' at least a program, and 'timeout_s' 0 to 300")
    if faults:
        raise ConfigurationError(faults)


def _is_safe(url: str) -> bool:
    try:
        parts = urlsplit(url)
        host = parts.hostname or ""
    except ValueError:
        return False
    if not host or parts.username or parts.password or parts.fragment:
        return False
    if parts.scheme == "https":
        return True
    try:
        return parts.scheme == "http" and ipaddress.ip_address(host).is_loopback
    except ValueError:
        return parts.scheme == "http" and host == "localhost"
