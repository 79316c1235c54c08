"""Accounts, their keys and limits; admission as OpenAI does it. No I/O: every method takes `now_s`.

Main entry: `Accounts.authenticate`, then `Account.admit`. Laws: limits belong to the account, so its keys share them;
admission charges max(max_tokens, estimate) tokens and one request; a refused request still uses up the request limit
(when `failed_requests_count`), so hammering a full account keeps it full; a hint of "try again in T" is true: after T
seconds of silence the same request fits. Source: provider's rate limit guide, as noted in the module `limits`.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from dataclasses import dataclass

from apikeyrouter.simulation.api_errors import (
    ApiError,
    Headers,
    error_body,
    incorrect_key,
    insufficient_quota,
    invalid,
    missing_key,
)
from apikeyrouter.simulation.config import AccountConfig, LimitHeaders, Limits, Pace, SimConfig, Standing
from apikeyrouter.simulation.limits import Meter, go_duration, meter_of

__all__ = ["Account", "Accounts", "Refusal"]

_AUTO_PREFIXES = ("sk-", "sim-")
_AUTO_ACCOUNTS_MAX = 10_000
_CACHED_PREFIXES_MAX = 256
_CACHE_LEAST_TOKENS = 1024  # prompt caching begins here and counts in steps of 128 (provider's guide)
_CACHE_STEP_TOKENS = 128
_DAY_S = 86_400.0


@dataclass(frozen=True, slots=True)
class Refusal:
    """Which limit refuses a request: "input tokens per minute" ..., how high it is, and seconds until the same request
    fits; None: never."""

    what: str
    capacity: int
    wait_s: float | None


class Account:
    """One paying customer of the simulated provider. `midnight_s`: when a day began (monotonic), for fixed refills."""

    def __init__(
        self, config: AccountConfig, limits: Limits | None, pace: Pace, now_s: float, midnight_s: float = 0.0
    ) -> None:
        self.name = config.name
        self.organization = f"org-{config.name}"
        self.pace = pace
        self.standing = config.standing
        self.credit_tokens = config.credit_tokens
        self.limits = limits
        self._rpm: Meter | None = None
        self._tpm: Meter | None = None
        self._rpd: Meter | None = None
        self._itpm: Meter | None = None
        self._otpm: Meter | None = None
        if limits is not None:
            self._rpm = _meter(limits.rpm, limits, limits.period_s, now_s, midnight_s)
            self._tpm = _meter(limits.tpm, limits, limits.period_s, now_s, midnight_s)
            self._rpd = _meter(limits.rpd, limits, _DAY_S, now_s, midnight_s)
            self._itpm = _meter(limits.itpm, limits, limits.period_s, now_s, midnight_s)
            self._otpm = _meter(limits.otpm, limits, limits.period_s, now_s, midnight_s)
        self._prefixes: OrderedDict[bytes, None] = OrderedDict()

    def check_standing(self) -> None:
        """Raises ApiError when the account may not be served at all (401 deactivated, 429 insufficient_quota)."""
        if self.standing is Standing.Deactivated:
            raise invalid(
                "The account associated with this API key has been deactivated.", code="account_deactivated", status=401
            )
        if self.standing is Standing.NoCredit or self.credit_tokens == 0:
            raise insufficient_quota()

    def admit(self, model: str, tokens: int, now_s: float, *, count_refused: bool) -> None:
        """Charges one request and `tokens`, or raises ApiError 429 `rate_limit_exceeded` with a true hint."""
        self._refill(now_s)
        for bucket, what, kind in (
            (self._rpd, "requests per day (RPD)", "requests"),
            (self._rpm, "requests per min (RPM)", "requests"),
        ):
            if bucket is not None and bucket.lacks(1):
                if count_refused:
                    self._count_request()
                raise self._refused(bucket, model, what, kind, 1)
        if self._tpm is not None and self._tpm.lacks(tokens):
            if count_refused:
                self._count_request()
            raise self._refused(self._tpm, model, "tokens per min (TPM)", "tokens", tokens)
        self._count_request()
        if self._tpm is not None:
            self._tpm.take(tokens)

    def admit_metered(self, input_tokens: int, now_s: float, *, count_refused: bool) -> Refusal | None:
        """Charges one request and its input where output is charged as it is written (`meter_output`), whatever
        `max_tokens` says. Returns which limit refuses it instead, if one does."""
        self._refill(now_s)
        for meter, what, amount in (
            (self._rpd, "requests per day", 1),
            (self._rpm, "requests per minute", 1),
            (self._itpm, "input tokens per minute", input_tokens),
            (self._otpm, "output tokens per minute", 1),
            (self._tpm, "tokens per minute", input_tokens),
        ):
            if meter is not None and meter.lacks(amount):
                if count_refused:
                    self._count_request()
                wait_s = None if amount > meter.largest else meter.wait_s(amount)
                return Refusal(what, meter.capacity, wait_s)
        self._count_request()
        for meter in (self._itpm, self._tpm):
            if meter is not None:
                meter.take(input_tokens)
        return None

    def meter_output(self, tokens: int) -> None:
        """Charges what was written to a request that `admit_metered` let in."""
        for meter in (self._otpm, self._tpm):
            if meter is not None:
                meter.take(tokens)

    def lanes(self) -> list[tuple[str, Meter]]:
        """The limits that replies may tell of: "requests", "input", "output", "tokens"; none when it keeps silent."""
        if self._silent:
            return []
        requests = self._rpm
        if self._rpd is not None and (requests is None or self._rpd.remaining < requests.remaining):
            requests = self._rpd
        named = (("requests", requests), ("input", self._itpm), ("output", self._otpm), ("tokens", self._tpm))
        return [(name, meter) for name, meter in named if meter is not None]

    def count_failed(self, now_s: float) -> None:
        """Charges a request that failed for another reason."""
        self._refill(now_s)
        self._count_request()

    def spend(self, tokens: int) -> None:
        """Takes tokens of a finished reply from the credit, if it has an end."""
        if self.credit_tokens is not None:
            self.credit_tokens = max(0, self.credit_tokens - tokens)

    def cached_tokens(self, prefix: bytes, prompt_tokens: int) -> int:
        """Prompt tokens served from the cache: none for short or new prompts. Remembers `prefix` (a digest)."""
        if prompt_tokens < _CACHE_LEAST_TOKENS:
            return 0
        known = prefix in self._prefixes
        self._prefixes[prefix] = None
        self._prefixes.move_to_end(prefix)
        if len(self._prefixes) > _CACHED_PREFIXES_MAX:
            self._prefixes.popitem(last=False)
        return prompt_tokens // _CACHE_STEP_TOKENS * _CACHE_STEP_TOKENS if known else 0

    def wait_s(self, tokens: int, now_s: float) -> float:
        """Seconds until a request of so many tokens would be let in if nobody sent anything meanwhile; 0 for now."""
        self._refill(now_s)
        return max(
            (
                meter.wait_s(amount)
                for meter, amount in ((self._rpd, 1), (self._rpm, 1), (self._tpm, tokens))
                if meter is not None
            ),
            default=0.0,
        )

    def headers(self) -> Headers:
        """The `x-ratelimit-*` headers as they stand after the last admission; none without limits."""
        out: Headers = []
        if self._silent:
            return out
        requests = self._rpm
        if self._rpd is not None and (requests is None or self._rpd.remaining < requests.remaining):
            requests = self._rpd
        for name, bucket in ((b"requests", requests), (b"tokens", self._tpm)):
            if bucket is not None:
                out.append((b"x-ratelimit-limit-" + name, b"%d" % bucket.capacity))
                out.append((b"x-ratelimit-remaining-" + name, b"%d" % bucket.remaining))
                out.append((b"x-ratelimit-reset-" + name, go_duration(bucket.reset_s).encode()))
        return out

    def view(self, now_s: float) -> dict[str, object]:
        """The account for inspection: whole units left of each limit, None without that limit."""
        self._refill(now_s)
        left = {
            name: bucket and bucket.remaining
            for name, bucket in (("rpm", self._rpm), ("tpm", self._tpm), ("rpd", self._rpd))
        }
        left |= {name: m.remaining for name, m in (("itpm", self._itpm), ("otpm", self._otpm)) if m is not None}
        return {"standing": self.standing.value, "credit_tokens": self.credit_tokens, "remaining": left}

    def _refill(self, now_s: float) -> None:
        for bucket in (self._rpm, self._tpm, self._rpd, self._itpm, self._otpm):
            if bucket is not None:
                bucket.refill(now_s)

    def _count_request(self) -> None:
        for bucket in (self._rpm, self._rpd):
            if bucket is not None:
                bucket.take(1)

    @property
    def _silent(self) -> bool:
        return self.limits is not None and self.limits.headers is LimitHeaders.Nothing

    def _refused(self, bucket: Meter, model: str, what: str, kind: str, requested: int) -> ApiError:
        if requested > bucket.largest:
            message = (
                f"Request too large for {model} in organization {self.organization} on {what}: "
                f"Limit {math.floor(bucket.largest)}, Requested {requested}. "
                "The input or output tokens must be reduced in order to run successfully."
            )
            return ApiError(429, error_body(message, kind, code="rate_limit_exceeded"), self.headers())
        wait_ms = math.ceil(bucket.wait_s(requested) * 1000 - 1e-6)
        figures = f"Limit {bucket.capacity}, Used {bucket.capacity - bucket.remaining}, Requested {requested}"
        message = (
            f"Rate limit reached for {model} in organization {self.organization} on {what}"
            f"{'' if self._silent else ': ' + figures}. Please try again in {go_duration(wait_ms / 1000)}."
        )
        headers = self.headers()
        headers.append((b"retry-after", b"%d" % max(1, math.ceil(wait_ms / 1000))))
        headers.append((b"retry-after-ms", b"%d" % wait_ms))
        return ApiError(429, error_body(message, kind, code="rate_limit_exceeded"), headers)


class Accounts:
    """All accounts and which key belongs to which. `midnight_s`: when a day began, on the clock of `now_s`."""

    def __init__(self, config: SimConfig, now_s: float, midnight_s: float = 0.0) -> None:
        self._config = config
        self._midnight_s = midnight_s
        self._by_name: dict[str, Account] = {}
        self._by_key: dict[str, Account] = {}
        for account in config.accounts:
            self.add(account, now_s)

    def add(self, config: AccountConfig, now_s: float) -> Account:
        """Adds an account, full limits; one of the same name is replaced and its keys leave with it."""
        limits = self._config.limits if config.limits is None else config.limits
        old = self._by_name.get(config.name)
        pace = config.pace or self._config.pace
        account = Account(config, None if limits == "none" else limits, pace, now_s, self._midnight_s)
        if old is not None:
            self._by_key = {key: owner for key, owner in self._by_key.items() if owner is not old}
        self._by_name[config.name] = account
        for key in config.keys:
            self._by_key[key] = account
        return account

    def authenticate(self, key: str, now_s: float) -> Account:
        """The account of a key. Raises ApiError 401 for none or an unknown one."""
        account = self._by_key.get(key)
        if account is not None:
            return account
        if not key:
            raise missing_key()
        known = self._config.auto_accounts and key.startswith(_AUTO_PREFIXES)
        if not known or len(self._by_key) >= _AUTO_ACCOUNTS_MAX:
            raise incorrect_key(key)
        return self.add(AccountConfig(name=f"auto-{len(self._by_key) + 1}", keys=(key,)), now_s)

    def keys(self) -> list[str]:
        """Every key in the order it was added."""
        return list(self._by_key)

    def view(self, now_s: float) -> dict[str, dict[str, object]]:
        """All accounts for inspection, by name."""
        return {name: account.view(now_s) for name, account in self._by_name.items()}


def _meter(capacity: int | None, limits: Limits, period_s: float, now_s: float, midnight_s: float) -> Meter | None:
    if capacity is None:
        return None
    burst_s = limits.burst_s if period_s == limits.period_s else None
    return meter_of(capacity, period_s, limits.refill, burst_s, now_s=now_s, epoch_s=midnight_s)
