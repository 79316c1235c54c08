"""How the credential of a virtual key is spelt: `akr_` + id (12) + secret (43, 256 bits) + CRC-32 (6), all base62.

Main entries: `spell` and `parts_of`. The checksum lets secret scanners recognise one without asking us (the form is
GitHub's).
"""

from __future__ import annotations

import re
import secrets
import string
import zlib

__all__ = ["ID_LENGTH", "SECRET_LENGTH", "parts_of", "random_word", "spell"]

_ALPHABET = string.digits + string.ascii_uppercase + string.ascii_lowercase
ID_LENGTH, SECRET_LENGTH, _CHECKSUM_LENGTH = 12, 43, 6
_TOKEN = re.compile(
    rb"akr_([0-9A-Za-z]{%d})([0-9A-Za-z]{%d})([0-9A-Za-z]{%d})" % (ID_LENGTH, SECRET_LENGTH, _CHECKSUM_LENGTH)
)


def random_word(length: int) -> str:
    """Letters and digits that nobody can guess."""
    return "".join(secrets.choice(_ALPHABET) for _ in range(length))


def spell(key_id: str, secret: str) -> str:
    """The credential."""
    body = f"akr_{key_id}{secret}"
    return body + _checksum(body.encode())


def parts_of(token: bytes) -> tuple[bytes, bytes] | None:
    """(id, secret) of a credential; None for what is none, or was mistyped."""
    match = _TOKEN.fullmatch(token)
    if match is None or match[3] != _checksum(token[:-_CHECKSUM_LENGTH]).encode():
        return None
    return match[1], match[2]


def _checksum(body: bytes) -> str:
    rest = zlib.crc32(body)
    digits = ""
    for _ in range(_CHECKSUM_LENGTH):
        rest, digit = divmod(rest, len(_ALPHABET))
        digits = _ALPHABET[digit] + digits
    return digits
