"""Secrets at rest: envelope encryption.

Main entry: `EnvelopeSealer(keyring)`; where its keys come from is `keyring.Keyring.from_environment`.
Each secret is encrypted with a random 256-bit data key of its own (AES-256-GCM, random 96-bit nonce), and the data key
with a key-encryption key (KEK) of the ring, likewise. Both are bound to the context (key id, provider, version), so a
sealed value opens only in its own row. The newest KEK seals; each KEK of the ring opens, found by its id. Rotating the
KEK wraps the data keys anew and leaves the encrypted secrets alone. The format, big-endian, without lengths since every
part but the last has a fixed size:

    magic "AKR1" | KEK id, 8 | nonce, 12 | wrapped data key, 48 | nonce, 12 | encrypted secret and its tag, 16 or more

Source: control S1 of the design notes; NIST SP 800-38D (random nonces: at most 2^32 seals per key; a data key seals
once, and a KEK seals once per secret and rotation).
"""

from __future__ import annotations

import hashlib
import hmac
import os

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from apikeyrouter.domain.errors import SealError
from apikeyrouter.infrastructure.state_store.keyring import KEK_ID_LENGTH, Kek, Keyring, KeySource

__all__ = ["EnvelopeSealer", "KeySource", "Keyring"]

_MAGIC = b"AKR1"
_NONCE = 12
_TAG = 16
_DATA_KEY = 32
_KEK_ID_END = len(_MAGIC) + KEK_ID_LENGTH
_WRAP_END = _KEK_ID_END + _NONCE + _DATA_KEY + _TAG


class EnvelopeSealer:
    """Implements `domain.interfaces.sealer.Sealer`."""

    __slots__ = ("_keyring",)

    def __init__(self, keyring: Keyring) -> None:
        self._keyring = keyring

    def __repr__(self) -> str:
        return f"<EnvelopeSealer {self._keyring.source.kind}>"

    def seal(self, plaintext: bytes, context: bytes) -> bytes:
        """Seals under the newest KEK and a fresh data key."""
        data_key = AESGCM.generate_key(bit_length=256)
        nonce = os.urandom(_NONCE)
        secret = AESGCM(data_key).encrypt(nonce, plaintext, _MAGIC + b"secret" + context)
        return _wrap(self._keyring.newest, data_key, context) + nonce + secret

    def open(self, sealed: bytes, context: bytes) -> bytes:
        """The plaintext. Raises SealError for another context, an unknown KEK or altered bytes."""
        data_key = self._unwrap(sealed, context)
        nonce, secret = sealed[_WRAP_END : _WRAP_END + _NONCE], sealed[_WRAP_END + _NONCE :]
        try:
            return AESGCM(data_key).decrypt(nonce, secret, _MAGIC + b"secret" + context)
        except InvalidTag:
            raise SealError(_ALTERED) from None

    def reseal(self, sealed: bytes, context: bytes) -> bytes:
        """The data key wrapped under the newest KEK; `sealed` itself when it is already. Raises SealError."""
        if sealed[len(_MAGIC) : _KEK_ID_END] == self._keyring.newest.id:
            return sealed
        return _wrap(self._keyring.newest, self._unwrap(sealed, context), context) + sealed[_WRAP_END:]

    def fingerprint(self, material: bytes) -> bytes:
        """HMAC-SHA-256 under a key derived from the newest KEK."""
        return hmac.new(self._keyring.newest.fingerprint_key, material, hashlib.sha256).digest()

    def _unwrap(self, sealed: bytes, context: bytes) -> bytes:
        if not sealed.startswith(_MAGIC) or len(sealed) < _WRAP_END + _NONCE + _TAG:
            raise SealError("A stored secret is not in our format: its bytes were altered or cut off.")
        kek = self._keyring.find(sealed[len(_MAGIC) : _KEK_ID_END])
        if kek is None:
            raise SealError(
                "A stored secret was sealed with an encryption key that is not at hand. Set "
                "APIKEYROUTER_ENCRYPTION_KEY to the one used before (several, newest first, are separated by commas)."
            )
        nonce = sealed[_KEK_ID_END : _KEK_ID_END + _NONCE]
        try:
            return AESGCM(kek.material).decrypt(nonce, sealed[_KEK_ID_END + _NONCE : _WRAP_END], _bound(kek, context))
        except InvalidTag:
            raise SealError(_ALTERED) from None


_ALTERED = "A stored secret does not open: its bytes were altered, or it belongs to another row."


def _wrap(kek: Kek, data_key: bytes, context: bytes) -> bytes:
    nonce = os.urandom(_NONCE)
    return _MAGIC + kek.id + nonce + AESGCM(kek.material).encrypt(nonce, data_key, _bound(kek, context))


def _bound(kek: Kek, context: bytes) -> bytes:
    return _MAGIC + b"data-key" + kek.id + context
