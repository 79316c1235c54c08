"""Quota pools: where a provider's limits live. A key belongs to one pool; several keys may share one.

Each pool has two accounts in the ledger, requests and tokens over the last minute. Limits come from key metadata
(`rpm`, `tpm`) for now; without them the accounts only count. Keys that share a pool share its accounts, so ten keys of
one organisation are one limit, not ten.
"""

from __future__ import annotations

from collections.abc import Mapping

from apikeyrouter.domain.interfaces.clock import Clock
from apikeyrouter.domain.keys.record import KeyRecord
from apikeyrouter.domain.ledger.accounts import Account
from apikeyrouter.domain.quota.windows import Rolling

__all__ = ["Pools"]

_MINUTE_S = 60.0


class Pools:
    """Accounts by pool id, made on first use."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._accounts: dict[str, tuple[Account, Account]] = {}

    def accounts(self, record: KeyRecord) -> tuple[Account, Account]:
        """(requests, tokens) of the key's pool. The tightest limit that any of its keys gives holds for all."""
        pool_id = f"{record.provider_id}/{record.pool_id}"
        pair = self._accounts.get(pool_id)
        if pair is None:
            now_s = self._clock.monotonic_s()
            pair = self._accounts[pool_id] = (
                Account(f"{pool_id} requests per minute", "requests", None, Rolling(_MINUTE_S), now_s=now_s),
                Account(f"{pool_id} tokens per minute", "tokens", None, Rolling(_MINUTE_S), now_s=now_s),
            )
        for account, name in zip(pair, ("rpm", "tpm"), strict=True):
            limit = _limit(record.metadata, name)
            if limit is not None and (account.limit is None or limit < account.limit):
                account.limit = limit
        return pair


def _limit(metadata: Mapping[str, object], name: str) -> int | None:
    value = metadata.get(name)
    return None if value is None else int(str(value))
