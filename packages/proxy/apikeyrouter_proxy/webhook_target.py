"""Where webhooks go, how they are signed, and which addresses they may reach.

Main entries: `read_target`, from settings, and `WebhookTarget`. Signatures are those of Standard Webhooks
(https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md): HMAC-SHA-256 over
"id.timestamp.body", as `webhook-signature: v1,<base64>`, one per secret, so that a secret can be replaced at leisure.
Laws: plain http goes to this machine only; an address in a private network is reached only when that was allowed, also
when a name resolves to it later; link-local addresses (clouds' metadata services) never are. Neither the URL's path
nor a secret is in any repr or message: both may be credentials.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import hmac
import ipaddress
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

from apikeyrouter.domain.keys.secret import Secret
from apikeyrouter_proxy.webhook_forms import Form, form_for

__all__ = ["WebhookTarget", "is_reachable", "read_target"]

_MAKE_ONE = 'make one with: echo "whsec_$(openssl rand -base64 32)", and give the receiver the same text'
_PREFIX = "whsec_"
_SECRET_BYTES_MIN, _SECRET_BYTES_MAX = 24, 64
"""Lengths that the specification asks for."""

_SECRETS_MAX = 4
_NAT64 = ipaddress.ip_network("64:ff9b::/96")

Address = ipaddress.IPv4Address | ipaddress.IPv6Address


@dataclass(frozen=True, slots=True)
class WebhookTarget:
    """A receiver. `secrets`: the decoded keys, current one first; none: nothing is signed. `allow_private`: addresses
    of private networks are meant. `local`: the URL names this machine. `form`: how bodies look."""

    url: str
    secrets: tuple[Secret, ...]
    allow_private: bool = False
    form: Form = Form.Standard

    def __repr__(self) -> str:
        return f"<WebhookTarget {self.origin}>"

    @property
    def origin(self) -> str:
        """Scheme, host and port: what may be shown."""
        parts = urlsplit(self.url)
        return f"{parts.scheme}://{parts.netloc}"

    @property
    def local(self) -> bool:
        """Whether the URL itself names this machine."""
        return _is_local_name(urlsplit(self.url).hostname or "")

    def signature(self, message_id: str, timestamp_s: int, body: bytes) -> str:
        """The value of `webhook-signature`: one signature per secret, separated by spaces."""
        signed = f"{message_id}.{timestamp_s}.".encode() + body
        digests = [hmac.digest(secret.reveal_bytes(), signed, "sha256") for secret in self.secrets]
        return " ".join("v1," + base64.b64encode(digest).decode() for digest in digests)

    async def resolve(self, host: str, port: int) -> Sequence[str]:
        """A transport's `Resolver`: the addresses that may be reached. Raises OSError when there is none."""
        found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
        addresses = list(dict.fromkeys(str(address[0]) for *_, address in found))
        usable = [one for one in addresses if is_reachable(one, local=self.local, allow_private=self.allow_private)]
        if addresses and not usable:
            raise OSError(
                "it leads into a private network; set APIKEYROUTER_WEBHOOK_ALLOW_PRIVATE=true if that is meant"
            )
        return usable


def is_reachable(text: str, *, local: bool, allow_private: bool) -> bool:
    """Whether a webhook may go to this address. `local`: the operator's URL names this machine."""
    address = _inner(ipaddress.ip_address(text.partition("%")[0]))
    if local or address.is_loopback:
        return address.is_loopback and (local or allow_private)
    if address.is_link_local or address.is_multicast or address.is_unspecified or address.is_reserved:
        return False
    return address.is_global or allow_private


def _inner(address: Address) -> Address:
    """The IPv4 address that an IPv6 one stands for (mapped, 6to4, NAT64), else itself."""
    if isinstance(address, ipaddress.IPv6Address):
        if address in _NAT64:
            return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
        return address.ipv4_mapped or address.sixtofour or address
    return address


def read_target(
    url: str, secret: str, *, allow_private: bool, faults: list[str], form: str = ""
) -> WebhookTarget | None:
    """The receiver that the settings name; None without one. `form`: "standard", "slack", or "" for what the URL's host
    expects. Adds what is wrong to `faults`, never a value."""
    if not url:
        if secret:
            faults.append("APIKEYROUTER_WEBHOOK_SECRET: nothing is sent without APIKEYROUTER_WEBHOOK_URL; set both")
        return None
    fault = _url_fault(url)
    if fault:
        faults.append(f"APIKEYROUTER_WEBHOOK_URL: {fault}")
    shape = _form(url, form, faults)
    if not secret and shape is Form.Slack:
        return WebhookTarget(url, (), allow_private, shape)  # nobody there checks signatures: the URL is the secret
    if not secret:
        faults.append(
            "APIKEYROUTER_WEBHOOK_SECRET: is missing, and webhooks are always signed, so that their receiver can tell "
            f"them from forged ones; {_MAKE_ONE}"
        )
        return None
    keys = [_decoded(text) for text in secret.split()]
    usable = tuple(Secret(key) for key in keys if key is not None)
    if len(usable) < len(keys) or len(keys) > _SECRETS_MAX:
        faults.append(
            f"APIKEYROUTER_WEBHOOK_SECRET: expected {_PREFIX} and {_SECRET_BYTES_MIN} to {_SECRET_BYTES_MAX} bytes in "
            f"base64 (at most {_SECRETS_MAX} such secrets, the current one first, separated by spaces); " + _MAKE_ONE
        )
    return WebhookTarget(url, usable, allow_private, shape)


def _form(url: str, wanted: str, faults: list[str]) -> Form:
    try:
        return form_for(url, wanted)
    except ValueError:
        faults.append("APIKEYROUTER_WEBHOOK_FORMAT: expected standard or slack; leave it out for what the URL expects")
        return Form.Standard


def _decoded(text: str) -> bytes | None:
    """A secret's bytes, or None when it is none."""
    if not text.startswith(_PREFIX):
        return None
    try:
        key = base64.b64decode(text.removeprefix(_PREFIX), validate=True)
    except (binascii.Error, ValueError):
        return None
    return key if _SECRET_BYTES_MIN <= len(key) <= _SECRET_BYTES_MAX else None


def _url_fault(url: str) -> str:
    """What is wrong with a URL, without repeating it; empty when nothing is."""
    try:
        parts = urlsplit(url)
        usable = bool(parts.hostname) and (parts.port is None or 0 < parts.port < 65_536)
    except ValueError:
        usable = False
    if not usable or any(character.isspace() for character in url) or not url.isascii():
        return "expected a URL such as https://example.com/hooks/budgets"
    if parts.username or parts.password:
        return "must hold no user name or password; webhooks are signed instead"
    if parts.fragment:
        return "must not have a fragment (#...): it is never sent"
    if parts.scheme == "https" or (parts.scheme == "http" and _is_local_name(parts.hostname or "")):
        return ""
    return "must begin with https://, since it leaves this machine; plain http:// is for 127.0.0.1 and localhost only"


def _is_local_name(host: str) -> bool:
    if host.lower() == "localhost":
        return True
    try:
        return _inner(ipaddress.ip_address(host)).is_loopback
    except ValueError:
        return False
