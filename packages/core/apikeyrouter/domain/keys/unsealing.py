"""Stored keys back to life: rows to records, secrets opened and, after a change of encryption key, sealed anew.

Main entries: `unseal_rows`, at the start, and `open_row`, for one that another process wrote. Law: one secret that does
not open stops the start and names its key; going on without it would look like a key that has vanished.
"""

from __future__ import annotations

from collections.abc import Iterable

from apikeyrouter.domain.errors import SealError
from apikeyrouter.domain.interfaces.sealer import Sealer
from apikeyrouter.domain.interfaces.state_store import StoredKey
from apikeyrouter.domain.keys.record import KeyRecord
from apikeyrouter.domain.keys.rotation import drop_previous
from apikeyrouter.domain.keys.rows import Moment, record_of, seal_context
from apikeyrouter.domain.keys.secret import Secret
from apikeyrouter.domain.models.api_key import KeyState

__all__ = ["does_not_open", "open_row", "unseal_rows"]

_NAMED_MAX = 5


def unseal_rows(rows: Iterable[StoredKey], sealer: Sealer, at: Moment) -> tuple[list[KeyRecord], list[KeyRecord]]:
    """(all records, those whose row must be written again). Raises SealError for every secret that does not open."""
    records: list[KeyRecord] = []
    changed: list[KeyRecord] = []
    faults: list[tuple[StoredKey, SealError]] = []
    for row in rows:
        try:
            record, differs = _unseal(row, sealer, at)
        except SealError as error:
            faults.append((row, error))
            continue
        records.append(record)
        if differs:
            changed.append(record)
    if faults:
        raise does_not_open(faults)
    return records, changed


def open_row(row: StoredKey, sealer: Sealer, at: Moment) -> KeyRecord:
    """The record behind a row, with its secrets. Raises SealError."""
    return _unseal(row, sealer, at)[0]


def _unseal(row: StoredKey, sealer: Sealer, at: Moment) -> tuple[KeyRecord, bool]:
    if row.state == KeyState.Retired.value:
        return record_of(row, Secret(""), None, at), False
    context = seal_context(row.key_id, row.provider_id, row.version)
    secret = Secret(sealer.open(row.sealed_secret, context))
    sealed = sealer.reseal(row.sealed_secret, context)
    fingerprint = sealer.fingerprint(row.provider_id.encode() + b"\0" + secret.reveal_bytes())
    previous, sealed_previous = None, None
    if row.sealed_previous is not None:
        old = seal_context(row.key_id, row.provider_id, row.document.get("previous_version") or 0)
        previous = Secret(sealer.open(row.sealed_previous, old))
        sealed_previous = sealer.reseal(row.sealed_previous, old)
    record = record_of(row, secret, previous, at)
    record.sealed, record.sealed_previous, record.fingerprint = sealed, sealed_previous, fingerprint
    differs = (sealed, sealed_previous, fingerprint) != (row.sealed_secret, row.sealed_previous, row.fingerprint)
    return record, drop_previous(record, at.now_s) or differs


def does_not_open(faults: list[tuple[StoredKey, SealError]]) -> SealError:
    """One error that names the keys of all."""
    names = [f"{row.key_id} ({row.document.get('label') or 'no label'}, {row.provider_id})" for row, _ in faults]
    shown = ", ".join(names[:_NAMED_MAX]) + (f" and {len(names) - _NAMED_MAX} more" if len(names) > _NAMED_MAX else "")
    return SealError(
        f"The stored secret of {shown} cannot be opened. {faults[0][1].message} Nothing was changed: start again with "
        "the encryption key that was in use before, or delete these keys from the store and register them again."
    )
