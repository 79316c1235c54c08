"""Proofs of other providers, carried through clients of this format.

Anthropic and Gemini want signatures back with thoughts and tool calls; clients of Responses keep nothing but the
`encrypted_content` of reasoning items, and send it back as it came. So a foreign proof travels in there, marked.
Main entries: `pack`, `unpack`. Law: `unpack(pack(p)) == p`; what is not ours is None, whatever it is.
"""

from __future__ import annotations

import base64
import binascii
import re

import msgspec

__all__ = ["Proof", "pack", "unpack", "without_foreign_reasoning"]

_PREFIX = "akr1."
_MARKED = re.compile(rb'"encrypted_content"\s*:\s*"akr1\.')


class Proof(msgspec.Struct, omit_defaults=True, gc=False):
    """`origin`: the format that it means something to. `call_id`: of the tool call that it belongs to; "": it belongs
    to the thoughts that it stands beside."""

    origin: str = ""
    signature: str | None = None
    encrypted: str | None = None
    call_id: str = ""


_decode = msgspec.json.Decoder(Proof).decode


def pack(proof: Proof) -> str:
    """The proof as `encrypted_content`."""
    return _PREFIX + base64.urlsafe_b64encode(msgspec.json.encode(proof)).decode()


def unpack(encrypted_content: str) -> Proof | None:
    """The proof in there; None when it is OpenAI's own."""
    if not encrypted_content.startswith(_PREFIX):
        return None
    try:
        return _decode(base64.urlsafe_b64decode(encrypted_content[len(_PREFIX) :]))
    except (binascii.Error, ValueError, msgspec.MsgspecError):
        return None


def without_foreign_reasoning(body: bytes) -> bytes:
    """A request for a provider that speaks this format itself, without reasoning items that carry foreign proofs: it
    would refuse them. Costs one search where there are none; the same bytes then."""
    if _MARKED.search(body) is None:
        return body
    try:
        members = msgspec.json.decode(body, type=dict[str, msgspec.Raw])
        items = msgspec.json.decode(members["input"], type=list[msgspec.Raw])
    except (msgspec.MsgspecError, KeyError):
        return body
    kept = [item for item in items if _MARKED.search(item) is None]
    members["input"] = msgspec.Raw(msgspec.json.encode(kept))
    return msgspec.json.encode(members)
