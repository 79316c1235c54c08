"""Rows of the store into a ring that lives: what other processes registered, changed, learned or deleted.

Main entry: `take_in`. It changes records and ring in one step, without awaiting, and reports what is left to do.
Laws: a record that is in use stays the same object; a secret that does not open stops nobody else's key.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass, field

from apikeyrouter.domain.errors import SealError
from apikeyrouter.domain.interfaces.sealer import Sealer
from apikeyrouter.domain.interfaces.state_store import StoredKey
from apikeyrouter.domain.keys.merging import carries_secret, merge, twins
from apikeyrouter.domain.keys.moves import clear_waits
from apikeyrouter.domain.keys.record import KeyRecord
from apikeyrouter.domain.keys.ring import KeyRing
from apikeyrouter.domain.keys.rows import Moment, record_of
from apikeyrouter.domain.keys.secret import Secret
from apikeyrouter.domain.keys.unsealing import open_row
from apikeyrouter.domain.models.api_key import KeyState

__all__ = ["Taken", "take_in"]


@dataclass(slots=True)
class Taken:
    """What is left to do.

    `changed`: records that are new, different or gone. `as_stored`: those whose row says the same now. `rewrite`: those
    whose row must be written again. `surplus`: (the key that goes, the one that stays) with the same secret. `renamed`:
    those that got another label, since an older key of another process has theirs. `faults`: rows whose secret does not
    open.
    """

    changed: list[KeyRecord] = field(default_factory=list)
    as_stored: list[KeyRecord] = field(default_factory=list)
    rewrite: list[KeyRecord] = field(default_factory=list)
    surplus: list[tuple[KeyRecord, KeyRecord]] = field(default_factory=list)
    renamed: list[KeyRecord] = field(default_factory=list)
    faults: list[tuple[StoredKey, SealError]] = field(default_factory=list)


def take_in(ring: KeyRing, rows: Iterable[StoredKey], gone: Collection[str], sealer: Sealer, at: Moment) -> Taken:
    """Merges `rows` into the ring's records, adds new ones, and drops the keys in `gone`."""
    taken = Taken()
    new: list[KeyRecord] = []
    regroup = False
    for row in rows:
        mine = ring.find(row.key_id)
        if mine is not None and mine.revision == row.revision:
            continue
        try:
            if mine is None:
                new.append(open_row(row, sealer, at))
            else:
                regroup = _join(mine, row, sealer, at, taken) or regroup
        except SealError as error:
            taken.faults.append((row, error))
    for key_id in gone:
        record = ring.discard(key_id)
        if record is not None:
            _end(record)
            taken.changed.append(record)
    if new:
        ring.add(new)
        taken.changed += new
        taken.as_stored += new
        regroup = False if len(new) > 1 else regroup
    if regroup:
        ring.reindex()
    if new or any(record.version > 1 for record in taken.changed):
        came = {record.key_id for record in new}
        taken.surplus = [pair for pair in twins(ring.all()) if pair[0].key_id not in came]
        goes = {record.key_id for record, _ in taken.surplus}
        taken.renamed = [record for record in ring.same_label(new) if record.key_id not in came | goes]
        for record in taken.renamed:
            record.label = ring.next_label(record.provider_id)
    return taken


def _join(mine: KeyRecord, row: StoredKey, sealer: Sealer, at: Moment, taken: Taken) -> bool:
    """One row into its record; whether the groups of keys are others now."""
    theirs = record_of(row, Secret(""), None, at)
    if carries_secret(mine, theirs):
        theirs = open_row(row, sealer, at)
    stored_is_newer = theirs.revision > mine.revision
    done = merge(mine, theirs, at.now_s)
    if done.took:
        taken.changed.append(mine)
    if done.rewrite:
        taken.rewrite.append(mine)
    elif stored_is_newer:
        taken.as_stored.append(mine)
    return done.moved_in_groups


def _end(record: KeyRecord) -> None:
    """A deleted key takes no request any more; what is under way with it ends by itself."""
    record.state, record.state_reason = KeyState.Retired, "deleted from the store"
    clear_waits(record)
    record.previous = record.sealed_previous = None
