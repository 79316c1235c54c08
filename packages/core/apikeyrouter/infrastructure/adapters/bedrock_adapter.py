"""Amazon Bedrock: conversations of every format become Converse, signed (SigV4) or with a bearer.

Main entries: `BedrockAdapter`, and `bedrock_settings`, which reads the AWS_* variables. Material of a key is either
`ACCESS_KEY_ID:SECRET_ACCESS_KEY[:SESSION_TOKEN]`, whose requests botocore signs (the extra `bedrock`; imported at the
first signature, and the one clock that a signature needs is botocore's own), or a Bedrock API key, which goes out as a
bearer. Sources: the service models 2023-09-30 (runtime) and 2023-04-20 (control plane) that botocore 1.44.5 ships,
https://docs.aws.amazon.com/bedrock/latest/userguide/api-keys-use.html (bearers, read 2026-11-21).
Laws: only the signature leaves, never a secret key; a raw path is signed as it is sent.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urlsplit

from apikeyrouter.domain.cost.usage import Usage
from apikeyrouter.domain.cost.usage_replies import usage_of_reply
from apikeyrouter.domain.errors import ConfigurationError
from apikeyrouter.domain.interfaces.transport import Headers, HttpRequest
from apikeyrouter.domain.keys.secret import Secret
from apikeyrouter.domain.models.call import Call, Wire
from apikeyrouter.infrastructure.adapters.base import WireAdapter, decoded
from apikeyrouter.wire.converse.makers import makers_model
from apikeyrouter.wire.losses import UntranslatableError

__all__ = ["BedrockAdapter", "BedrockSettings", "UnsignableError", "bedrock_settings"]

_REGION = re.compile(r"[a-z]{2,4}(?:-[a-z]+){1,3}-\d{1,2}")
_HOST = re.compile(r"bedrock(?:-runtime)?(?:-fips)?\.([a-z0-9-]+)\.(?:amazonaws\.com|api\.aws)")
_PAIR = re.compile(rb"(\w{16,128}):([A-Za-z0-9/+=]{8,256})(?::(\S+))?")
_NO_BOTOCORE = "signing needs botocore: pip install 'apikeyrouter-core[bedrock]', or use a Bedrock API key"
_AREAS = {"us": "us", "eu": "eu", "ap": "apac", "us-gov": "us-gov"}
"""Where a region's name begins -> prefix of the profiles of its area (userguide/geographic-cross-region-inference)."""

_REGIONS = ("BEDROCK_REGION", "AWS_REGION", "AWS_DEFAULT_REGION")
_BASE_URLS = ("BEDROCK_BASE_URL", "AWS_ENDPOINT_URL_BEDROCK_RUNTIME")
_TOKEN = "AWS_BEARER_TOKEN_BEDROCK"  # noqa: S105 - the name of a variable
_PARTS = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN")


class UnsignableError(UntranslatableError):
    """Nothing can be signed here: botocore is missing, or the material is no pair. The message says what to do."""

    def __init__(self, why: str) -> None:
        self.faults = [why]
        ValueError.__init__(self, f"The request cannot be signed for Bedrock: {why}.")


@dataclass(frozen=True, slots=True)
class BedrockSettings:
    """What the variables say. `region`: "" when none does. `pair`: material made of AWS_ACCESS_KEY_ID and its kin, ""
    unless BEDROCK_REGION says that they are meant for Bedrock: people have them for everything else at Amazon too.
    `missing`: what such a set lacks."""

    region: str
    pair: str = ""
    missing: tuple[str, ...] = ()


def bedrock_settings(environ: Mapping[str, str]) -> BedrockSettings:
    """The region, and the pair of keys where it is meant for Bedrock."""
    region = next((text for name in _REGIONS if (text := environ.get(name, "").strip())), "")
    if not environ.get(_REGIONS[0], "").strip() or environ.get(_TOKEN, "").strip():
        return BedrockSettings(region)
    given = [environ.get(name, "").strip() for name in _PARTS]
    missing = tuple(name for name, text in zip(_PARTS[:2], given, strict=False) if not text)
    return BedrockSettings(region, "" if missing else ":".join(filter(None, given)), missing)


class BedrockAdapter(WireAdapter):
    """Bedrock in one region. Keys may have a `base_url` of their own: another region.

    `region`: default that of the address, else BEDROCK_REGION, AWS_REGION or AWS_DEFAULT_REGION. `base_url`: of the
    runtime; default BEDROCK_BASE_URL or AWS_ENDPOINT_URL_BEDROCK_RUNTIME, else Amazon's own. Models are named by model
    id, inference profile or ARN. Raises ConfigurationError when no region is known, or an address is malformed.
    """

    def __init__(
        self,
        region: str | None = None,
        *,
        base_url: str | None = None,
        environ: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        env = os.environ if environ is None else environ
        given = base_url or next((text for name in _BASE_URLS if (text := env.get(name, "").strip())), "")
        self.region = region or _region_of(given) or bedrock_settings(env).region
        if not _REGION.fullmatch(self.region):
            raise ConfigurationError(
                [f"provider 'bedrock': region {self.region!r}: set {_REGIONS[0]} or AWS_REGION, such as us-east-1"]
            )
        super().__init__(
            given or f"https://bedrock-runtime.{self.region}.amazonaws.com",
            dialect="bedrock",
            wire=Wire.Converse,
            native={},
            headers=headers,
        )

    def claims(self, model: str) -> bool:
        """Whether the name has the form of Bedrock's: a maker in front of the model's, or an ARN."""
        return model.startswith("arn:aws") or bool(makers_model(model).maker and "/" not in model)

    def credentials(self, secret: Secret) -> Headers:
        """The bearer; nothing for a pair, which signs."""
        material = secret.reveal_bytes()
        return [] if b":" in material else [(b"authorization", b"Bearer " + material)]

    def native_body(self, call: Call) -> bytes:
        """The caller's bytes: the model's name is in the path alone."""
        return call.body

    def path_of(self, call: Call) -> str:
        """The path below the base URL; the name of the model is one segment of it."""
        if call.path:
            return call.path
        return f"model/{quote(call.model, safe='')}/{'converse-stream' if call.streams else 'converse'}"

    def build_request(self, call: Call, secret: Secret, *, base_url: str | None = None) -> HttpRequest:
        """See `ProviderAdapter.build_request`."""
        request = super().build_request(call, secret, base_url=base_url)
        return self._signed(request, secret)

    def native_usage(self, call: Call, body: bytes) -> Usage | None:  # noqa: ARG002 - raw replies name no model
        """That of InvokeModel and of Converse, behind a raw path."""
        return usage_of_reply("bedrock", body) if body.lstrip()[:1] == b"{" else None

    def build_models_request(self, secret: Secret, *, base_url: str | None = None) -> HttpRequest:
        """See `ProviderAdapter.build_models_request`. The control plane has the list."""
        root = (base_url or self.base_url).replace("://bedrock-runtime", "://bedrock", 1)
        url = f"{root}/foundation-models?byOutputModality=TEXT"
        return self._signed(HttpRequest("GET", url, [*self.credentials(secret), *self._headers]), secret)

    def read_models(self, body: bytes) -> Sequence[dict[str, Any]]:
        """See `ProviderAdapter.read_models`. Models that are served through profiles alone are listed by that of the
        region's area."""
        listing = decoded(body)
        models = listing.get("modelSummaries") if isinstance(listing, dict) else None
        if not isinstance(models, list):
            raise ValueError("the reply has no list of models under 'modelSummaries'")  # noqa: TRY004 - wrong value
        area = next((_AREAS[name] for name in sorted(_AREAS, reverse=True) if self.region.startswith(name)), "global")
        found = []
        for one in models:
            if isinstance(one, dict) and isinstance(one.get("modelId"), str):
                ways = one.get("inferenceTypesSupported") or ["ON_DEMAND"]
                if "ON_DEMAND" in ways or "INFERENCE_PROFILE" in ways:
                    told = one["modelId"] if "ON_DEMAND" in ways else f"{area}.{one['modelId']}"
                    found.append({"id": told, "owned_by": one.get("providerName", ""), **one})
        return found

    def _signed(self, request: HttpRequest, secret: Secret) -> HttpRequest:
        """With the headers of the signature. Raises UnsignableError."""
        material = secret.reveal_bytes()
        if b":" not in material:
            return request
        parts = _PAIR.fullmatch(material)
        if parts is None:
            raise UnsignableError("expected a key of the form ACCESS_KEY_ID:SECRET_ACCESS_KEY[:SESSION_TOKEN]")
        try:
            from botocore.auth import SigV4Auth
            from botocore.awsrequest import AWSRequest
            from botocore.credentials import Credentials
        except ImportError:
            raise UnsignableError(_NO_BOTOCORE) from None
        names = [part.decode() if part else None for part in parts.groups()]
        draft = AWSRequest(request.method, request.url, data=request.body)
        SigV4Auth(Credentials(*names), "bedrock", _region_of(request.url) or self.region).add_auth(draft)
        kept = [one for one in request.headers if one[0] != b"authorization" and not one[0].startswith(b"x-amz-")]
        request.headers = [*kept, *((name.lower().encode(), value.encode()) for name, value in draft.headers.items())]
        return request


def _region_of(url: str) -> str:
    """The region in an address of Amazon's; "" in any other."""
    found = _HOST.fullmatch(urlsplit(url).hostname or "")
    return found.group(1) if found else ""
