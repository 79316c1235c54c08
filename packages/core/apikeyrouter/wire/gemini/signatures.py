"""Proofs of thought that travel through a client which only knows Google's `thoughtSignature`.

A signature of Google's own is base64 and goes as it is. Those of other formats (signatures, ciphers, item ids) are
wrapped: base64 of a mark and a small JSON object. A Gemini client keeps and returns them like any other, so that a
model of another provider gets back its own thoughts. The writer for Google leaves them out (`origin`).
Law: `unwrapped(wrapped(x))` is x for every `Reasoning` of another origin.
"""

from __future__ import annotations

import base64
import binascii

import msgspec

from apikeyrouter.domain.models.call import Wire
from apikeyrouter.wire.facts import Reasoning

__all__ = ["ORIGIN", "signature_of", "signed"]

ORIGIN = Wire.Gemini.value

_MARK = b"akr1:"
_MARK_BASE64 = base64.b64encode(_MARK)[:6].decode()  # five bytes fix six characters


class _Wrapped(msgspec.Struct, omit_defaults=True, gc=False):
    o: str
    s: str | None = None
    e: str | None = None
    i: str | None = None


_decode = msgspec.json.Decoder(_Wrapped).decode


def signature_of(reasoning: Reasoning) -> str | None:
    """What stands in `thoughtSignature` for a client; None for nothing."""
    if reasoning.origin in ("", ORIGIN):
        return reasoning.signature
    if reasoning.signature is None and reasoning.encrypted is None:
        return None
    wrapped = _Wrapped(reasoning.origin, reasoning.signature, reasoning.encrypted, reasoning.id)
    return base64.b64encode(_MARK + msgspec.json.encode(wrapped)).decode()


def signed(text: str, signature: str | None) -> Reasoning:
    """The thought that a client returns."""
    if signature is not None and signature.startswith(_MARK_BASE64):
        found = _unwrapped(signature)
        if found is not None:
            return Reasoning(text, found.s, found.e, found.i, found.o)
    return Reasoning(text, signature, origin=ORIGIN)


def _unwrapped(signature: str) -> _Wrapped | None:
    standard = signature.replace("-", "+").replace("_", "/")  # SDKs write either alphabet
    try:
        raw = base64.b64decode(standard + "=" * (-len(standard) % 4))
        return _decode(raw.removeprefix(_MARK)) if raw.startswith(_MARK) else None
    except (binascii.Error, ValueError, msgspec.MsgspecError):
        return None
