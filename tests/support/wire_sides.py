"""Who plays the provider in tests of translation: our own codec where it reads requests too, else a side written for
tests."""

from __future__ import annotations

from typing import Any

from apikeyrouter.domain.models.call import Wire
from apikeyrouter.wire.codec import codec_of
from tests.support.cohere_side import CohereSide
from tests.support.converse_side import ConverseSide

__all__ = ["NAMELESS", "side_of"]

_SIDES: dict[Wire, Any] = {Wire.Converse: ConverseSide(), Wire.Cohere: CohereSide()}
NAMELESS = (Wire.Converse, Wire.Cohere)
"""Formats whose replies do not say which model gave them."""


def side_of(wire: Wire) -> Any:
    """Reads requests and writes replies of a format."""
    return _SIDES.get(wire) or codec_of(wire)
