"""Opening a router's secrets: which key-encryption keys apply to which store."""

from __future__ import annotations

import secrets
from collections.abc import Mapping

from apikeyrouter.domain.errors import ConfigurationError
from apikeyrouter.domain.interfaces.sealer import Sealer
from apikeyrouter.domain.interfaces.state_store import StateStore
from apikeyrouter.infrastructure.state_store.keyring import ENVIRONMENT_NAME, Keyring
from apikeyrouter.infrastructure.state_store.sealing import EnvelopeSealer

__all__ = ["open_sealer"]

_SALT = "sealing.salt"


async def open_sealer(store: StateStore, environ: Mapping[str, str]) -> tuple[Sealer, str | None]:
    """The sealer for this store, and a note for the operator when a data key file was made or used.

    With a persistent store and no APIKEYROUTER_ENCRYPTION_KEY the data key lies beside the store (mode 0600). Raises
    SealError or ConfigurationError.
    """
    salt = await store.put_setting(_SALT, secrets.token_bytes(16), only_if_absent=True)
    if store.persistent and store.path is None and not environ.get(ENVIRONMENT_NAME, "").strip():
        raise ConfigurationError(
            [
                (
                    f"{store.description} outlives this process, so its secrets need an encryption key that does too: "
                    f"set {ENVIRONMENT_NAME} (make one with: openssl rand -hex 32)."
                )
            ]
        )
    keyring, note = Keyring.from_environment(environ, salt=salt, beside=store.path)
    return EnvelopeSealer(keyring), note
