"""One exchange of a credential for an access token: the request, and what its reply means.

Main entries: `token_request` and `read_token`; `run_command` for helper programs.
Laws: secrets travel in bodies, never in URLs; nothing that is raised quotes a reply's tokens; a refusal is told from a
fault that time may mend (`TokenError.final`).
"""

from __future__ import annotations

import asyncio
import base64
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

import msgspec

from apikeyrouter.credentials.specs import AzureEntra, ClientCredentials, Command, RefreshToken, ServiceAccount, Spec
from apikeyrouter.domain.interfaces.transport import HttpRequest

__all__ = ["Token", "TokenError", "read_token", "run_command", "token_request"]

_JWT_BEARER = "urn:ietf:params:oauth:grant-type:jwt-bearer"
_ASSERTION_LIFE_S = 3600
"""The longest that Google allows."""

_LIFE_S = 3600.0
"""Of a token whose reply names no time: RFC 6749 leaves it open; an hour is what most servers give."""

_FINAL = frozenset({"invalid_grant", "invalid_client", "unauthorized_client", "invalid_scope", "access_denied"})
"""RFC 6749, 5.2: asking again changes nothing."""

_OUTPUT_MAX_BYTES = 64 * 1024
_WORD_LENGTH_MAX = 64


@dataclass(slots=True)
class Token:
    """`value`: the access token. `life_s`: seconds that it counts from now. `refresh_token`: what replaces the one that
    was exchanged, or None."""

    value: str
    life_s: float
    refresh_token: str | None = None

    def __repr__(self) -> str:
        return f"<Token for {self.life_s:.0f} s>"


class TokenError(Exception):
    """No token came. `final`: asking again with the same credential is pointless; somebody must log in again."""

    def __init__(self, message: str, *, final: bool) -> None:
        super().__init__(message)
        self.message = message
        self.final = final


def token_request(spec: Spec, utc_s: float) -> HttpRequest:
    """The exchange as a request. `utc_s`: Unix seconds now. Raises TokenError for a private key that cannot be used."""
    url, form = _form_of(spec, utc_s)
    body = urlencode({name: value for name, value in form.items() if value}).encode("ascii")
    headers = [(b"content-type", b"application/x-www-form-urlencoded"), (b"accept", b"application/json")]
    return HttpRequest("POST", url, headers, body)


def _form_of(spec: Spec, utc_s: float) -> tuple[str, dict[str, str]]:
    match spec:
        case ClientCredentials():
            return spec.token_url, {
                "grant_type": "client_credentials",
                "client_id": spec.client_id,
                "client_secret": spec.client_secret,
                "scope": spec.scope,
                "audience": spec.audience,
            }
        case RefreshToken():
            return spec.token_url, {
                "grant_type": "refresh_token",
                "refresh_token": spec.refresh_token,
                "client_id": spec.client_id,
                "client_secret": spec.client_secret,
                "scope": spec.scope,
            }
        case AzureEntra():
            return f"{spec.authority.rstrip('/')}/{spec.tenant}/oauth2/v2.0/token", {
                "grant_type": "client_credentials",
                "client_id": spec.client_id,
                "client_secret": spec.client_secret,
                "scope": spec.scope,
            }
        case ServiceAccount():
            return spec.token_uri, {"grant_type": _JWT_BEARER, "assertion": _assertion(spec, utc_s)}
        case Command():
            raise TypeError("a command is run, not asked over HTTP")


def _assertion(spec: ServiceAccount, utc_s: float) -> str:
    """A JWT signed with RS256 (RFC 7519, 7523)."""
    claims = {
        "iss": spec.client_email,
        "scope": spec.scope,
        "aud": spec.token_uri,
        "iat": int(utc_s),
        "exp": int(utc_s) + _ASSERTION_LIFE_S,
    }
    signed = b".".join([_base64url(msgspec.json.encode(one)) for one in ({"alg": "RS256", "typ": "JWT"}, claims)])
    # For service accounts only: reading private keys brings 14 modules along, 1.2 MiB.
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import padding, rsa

    try:
        key = serialization.load_pem_private_key(spec.private_key.encode(), password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise TokenError("The service account's private key cannot be read: it must be PEM.", final=True) from None
    if not isinstance(key, rsa.RSAPrivateKey):
        raise TokenError("The service account's private key is no RSA key.", final=True)
    return (signed + b"." + _base64url(key.sign(signed, padding.PKCS1v15(), hashes.SHA256()))).decode("ascii")


def _base64url(data: bytes) -> bytes:
    return base64.urlsafe_b64encode(data).rstrip(b"=")


def read_token(status: int, body: bytes) -> Token:
    """The token in a reply. Raises TokenError."""
    try:
        reply = msgspec.json.decode(body)
    except msgspec.DecodeError:
        reply = None
    if not isinstance(reply, dict):
        raise TokenError(f"The token endpoint answered {status} without a JSON object.", final=False)
    if status != 200 or "access_token" not in reply:
        word = _word(reply.get("error"))
        raise TokenError(
            f"The token endpoint answered {status} {word or '(no error named)'}.",
            final=word in _FINAL or status in (401, 403),
        )
    return _token_of(reply, _LIFE_S)


def _token_of(reply: dict[str, Any], life_s: float) -> Token:
    value = reply.get("access_token") or reply.get("token")
    if not isinstance(value, str) or not value:
        raise TokenError("The reply holds no access token.", final=False)
    told = reply.get("expires_in")
    if isinstance(told, str) and told.isdecimal():
        told = int(told)
    if isinstance(told, int | float) and not isinstance(told, bool) and told > 0:
        life_s = float(told)
    refresh = reply.get("refresh_token")
    return Token(value, life_s, refresh if isinstance(refresh, str) and refresh else None)


def _word(error: object) -> str:
    """An error code as it may be shown: short, and of harmless characters."""
    text = error if isinstance(error, str) else ""
    return text if len(text) <= _WORD_LENGTH_MAX and all(c.isalnum() or c in "_-. " for c in text) else ""


async def run_command(spec: Command) -> Token:
    """Runs the helper. Raises TokenError; the helper is killed when it takes too long."""
    try:
        process = await asyncio.create_subprocess_exec(
            *spec.argv,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
        )
    except (OSError, ValueError) as fault:
        raise TokenError(
            f"The helper {spec.argv[0]!r} could not be started: {type(fault).__name__}.", final=False
        ) from None
    try:
        async with asyncio.timeout(spec.timeout_s):
            output, _ = await process.communicate()
    except TimeoutError:
        raise TokenError(f"The helper {spec.argv[0]!r} took longer than {spec.timeout_s:g} s.", final=False) from None
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if process.returncode != 0:
        raise TokenError(f"The helper {spec.argv[0]!r} ended with status {process.returncode}.", final=False)
    text = output[:_OUTPUT_MAX_BYTES].strip()
    if text.startswith(b"{"):
        try:
            reply = msgspec.json.decode(text, type=dict[str, Any])
        except msgspec.MsgspecError:
            raise TokenError(f"The helper {spec.argv[0]!r} printed broken JSON.", final=False) from None
        return _token_of(reply, spec.ttl_s)
    try:
        return _token_of({"access_token": text.decode("ascii")}, spec.ttl_s)
    except UnicodeDecodeError:
        raise TokenError(f"The helper {spec.argv[0]!r} printed no token.", final=False) from None
