"""The simulated provider's limits: buckets, durations, admission and what it says about them."""

from __future__ import annotations

import msgspec
import pytest

from apikeyrouter.simulation.accounts import Account, Accounts
from apikeyrouter.simulation.api_errors import ApiError
from apikeyrouter.simulation.config import AccountConfig, LimitHeaders, Limits, SimConfig, Standing
from apikeyrouter.simulation.limits import Bucket, Refill, go_duration


def accounts_with(limits: Limits | str, **details: object) -> Account:
    config = AccountConfig(name="a", keys=("sim-a",), limits=limits, **details)  # type: ignore[arg-type]  # free details
    return Accounts(SimConfig(accounts=(config,)), now_s=0.0).authenticate("sim-a", 0.0)


def admit(account: Account, now_s: float, tokens: int = 1, *, count_refused: bool = True) -> None:
    account.admit("gpt-4o", tokens, now_s, count_refused=count_refused)


def refusal(account: Account, now_s: float, tokens: int = 1, *, count_refused: bool = True) -> ApiError:
    with pytest.raises(ApiError) as caught:
        admit(account, now_s, tokens, count_refused=count_refused)
    return caught.value


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0s"),
        (0.0006, "0s"),
        (0.0057, "5ms"),
        (0.12, "120ms"),
        (1, "1s"),
        (1.5, "1.5s"),
        (22.564, "22.564s"),
        (60, "1m0s"),
        (360, "6m0s"),
        (61.05, "1m1.05s"),
        (3600, "1h0m0s"),
        (-3, "0s"),
    ],
)
def test_durations_read_as_go_prints_them(seconds: float, text: str) -> None:
    assert go_duration(seconds) == text


def test_a_bucket_refills_continuously_and_never_beyond_its_capacity() -> None:
    bucket = Bucket(500, 60.0, now_s=0.0)
    bucket.take(1)
    assert (bucket.remaining, go_duration(bucket.reset_s)) == (499, "120ms")  # as recorded from the real one
    bucket.refill(0.06)
    assert bucket.lacks(500)
    bucket.refill(0.12)
    assert bucket.remaining == 500
    bucket.refill(1000.0)
    bucket.refill(5.0)  # a clock that goes back changes nothing
    assert bucket.level == 500.0


def test_headers_tell_the_limit_what_is_left_and_when_it_is_full_again() -> None:
    account = accounts_with(Limits(rpm=500, tpm=200_000))
    admit(account, 0.0, tokens=19)
    assert dict(account.headers()) == {
        b"x-ratelimit-limit-requests": b"500",
        b"x-ratelimit-remaining-requests": b"499",
        b"x-ratelimit-reset-requests": b"120ms",
        b"x-ratelimit-limit-tokens": b"200000",
        b"x-ratelimit-remaining-tokens": b"199981",
        b"x-ratelimit-reset-tokens": b"5ms",
    }


def test_requests_beyond_the_limit_are_refused_with_a_hint_that_is_true() -> None:
    account = accounts_with(Limits(rpm=3, tpm=None))
    for _ in range(3):
        admit(account, 0.0)
    error = refusal(account, 0.0)
    headers = dict(error.headers)
    assert error.status == 429
    assert error.body["error"]["code"] == "rate_limit_exceeded"
    assert error.body["error"]["type"] == "requests"
    assert "Limit 3, Used 3, Requested 1. Please try again in 20s." in error.body["error"]["message"]
    assert (headers[b"retry-after"], headers[b"retry-after-ms"]) == (b"20", b"20000")
    refusal(account, 19.9, count_refused=False)
    admit(account, 20.0)


def test_a_refused_request_uses_up_the_request_limit_so_hammering_never_gets_in() -> None:
    hammered = accounts_with(Limits(rpm=60, tpm=None))
    patient = accounts_with(Limits(rpm=60, tpm=None))
    for account in (hammered, patient):
        for _ in range(60):
            admit(account, 0.0)
    for tenth in range(1, 30):
        refusal(hammered, tenth / 10)
    refusal(hammered, 3.0)
    admit(patient, 3.0)
    admit(hammered, 4.0)  # one second of silence is enough


def test_tokens_beyond_the_limit_are_refused_until_enough_have_come_back() -> None:
    account = accounts_with(Limits(rpm=None, tpm=6000))
    admit(account, 0.0, tokens=5000)
    error = refusal(account, 0.0, tokens=1150)
    assert error.body["error"]["type"] == "tokens"
    assert "Please try again in 1.5s." in error.body["error"]["message"]
    admit(account, 1.5, tokens=1150)


def test_a_request_larger_than_the_limit_is_told_so_and_gets_no_hint() -> None:
    error = refusal(accounts_with(Limits(rpm=None, tpm=100)), 0.0, tokens=101)
    assert "Request too large for gpt-4o" in error.body["error"]["message"]
    assert b"retry-after" not in dict(error.headers)


def test_the_day_limit_shows_in_the_headers_when_it_is_the_tighter_one() -> None:
    account = accounts_with(Limits(rpm=500, tpm=None, rpd=10))
    admit(account, 0.0)
    headers = dict(account.headers())
    assert headers[b"x-ratelimit-remaining-requests"] == b"9"
    assert headers[b"x-ratelimit-reset-requests"] == b"2h24m0s"


def test_a_rolling_limit_says_that_everything_is_back_a_minute_after_the_last_request() -> None:
    account = accounts_with(Limits(rpm=3, tpm=None, refill=Refill.Rolling))
    for at_s in (0.0, 10.0, 20.0):
        admit(account, at_s)
    headers = dict(account.headers())
    assert (headers[b"x-ratelimit-remaining-requests"], headers[b"x-ratelimit-reset-requests"]) == (b"0", b"1m0s")
    error = refusal(account, 20.5, count_refused=False)
    assert dict(error.headers)[b"retry-after-ms"] == b"39500"
    assert dict(error.headers)[b"retry-after"] == b"40"
    refusal(account, 59.9, count_refused=False)
    admit(account, 60.0)
    refusal(account, 60.0, count_refused=False)
    assert account.wait_s(1, 60.0) == pytest.approx(10.0)


def test_who_hammers_at_a_full_rolling_limit_keeps_it_full() -> None:
    account = accounts_with(Limits(rpm=2, tpm=None, refill=Refill.Rolling))
    admit(account, 0.0)
    admit(account, 1.0)
    error = refusal(account, 30.0)  # takes the place of the first
    assert dict(error.headers)[b"retry-after-ms"] == b"31000"
    refusal(account, 60.5, count_refused=False)
    admit(account, 61.0)


def test_a_fixed_limit_is_back_when_the_clock_minute_ends() -> None:
    config = AccountConfig(name="a", keys=("sim-a",), limits=Limits(rpm=2, tpm=None, rpd=3, refill=Refill.Fixed))
    account = Accounts(SimConfig(accounts=(config,)), now_s=100.0, midnight_s=-45.0).authenticate("sim-a", 100.0)
    admit(account, 100.0)  # 145 s after midnight: 35 s to the end of the minute
    assert dict(account.headers())[b"x-ratelimit-reset-requests"] == b"35s"
    admit(account, 134.0)
    assert dict(refusal(account, 134.5, count_refused=False).headers)[b"retry-after-ms"] == b"500"
    admit(account, 135.0)
    assert dict(refusal(account, 200.0, count_refused=False).headers)[b"retry-after"] == b"86155"  # the day is used up


def test_a_burst_horizon_refuses_while_the_headers_tell_of_plenty() -> None:
    account = accounts_with(Limits(rpm=60, tpm=None, burst_s=6))
    for _ in range(6):
        admit(account, 0.0)
    error = refusal(account, 0.0, count_refused=False)
    assert dict(error.headers)[b"x-ratelimit-remaining-requests"] == b"54"
    assert dict(error.headers)[b"retry-after-ms"] == b"1000"
    admit(account, 1.0)
    refusal(account, 1.0, count_refused=False)


def test_without_headers_a_refusal_still_says_when_to_come_back_and_nothing_else() -> None:
    account = accounts_with(Limits(rpm=1, headers=LimitHeaders.Nothing))
    admit(account, 0.0)
    assert account.headers() == []
    error = refusal(account, 0.0, count_refused=False)
    assert dict(error.headers) == {b"retry-after": b"60", b"retry-after-ms": b"60000"}
    assert error.body["error"]["message"].endswith("on requests per min (RPM). Please try again in 1m0s.")


@pytest.mark.parametrize(
    ("limits", "why"),
    [
        ({"refill": "rolling", "burst_s": 6}, "burst_s needs the refill 'continuous', not 'rolling'"),
        ({"period_s": 6, "burst_s": 10}, r"burst_s must not exceed period_s \(6\)"),
        ({"refill": "sometimes"}, "sometimes"),
        ({"headers": "all"}, "all"),
    ],
)
def test_limits_that_contradict_themselves_are_refused(limits: dict[str, object], why: str) -> None:
    with pytest.raises(msgspec.ValidationError, match=why):
        msgspec.convert(limits, Limits)


def test_keys_of_one_account_share_its_limits() -> None:
    config = SimConfig(accounts=(AccountConfig(name="a", keys=("sim-a", "sim-b"), limits=Limits(rpm=1)),))
    accounts = Accounts(config, now_s=0.0)
    admit(accounts.authenticate("sim-a", 0.0), 0.0)
    refusal(accounts.authenticate("sim-b", 0.0), 0.0)


def test_an_account_without_limits_sends_no_headers_and_refuses_nothing() -> None:
    account = accounts_with("none")
    for _ in range(2000):
        admit(account, 0.0, tokens=1_000_000)
    assert account.headers() == []


def test_keys_that_look_like_keys_get_an_account_of_their_own_and_others_are_refused() -> None:
    accounts = Accounts(SimConfig(), now_s=0.0)
    mine, other = accounts.authenticate("sk-key-1", 0.0), accounts.authenticate("sk-key-2", 0.0)
    assert mine is not other
    assert accounts.authenticate("sk-key-1", 9.0) is mine
    for key, code in (("", None), ("undefined", "invalid_api_key")):
        with pytest.raises(ApiError) as caught:
            accounts.authenticate(key, 0.0)
        assert caught.value.status == 401
        assert caught.value.body["error"]["code"] == code
    with pytest.raises(ApiError):
        Accounts(SimConfig(auto_accounts=False), now_s=0.0).authenticate("sk-key-1", 0.0)


def test_a_long_wrong_key_is_echoed_masked() -> None:
    with pytest.raises(ApiError) as caught:
        Accounts(SimConfig(), 0.0).authenticate("wrong-" + "x" * 20 + "tail", 0.0)
    assert "wrong-x" + "*" * 19 + "tail" in caught.value.body["error"]["message"]


def test_replacing_an_account_takes_its_old_keys_away() -> None:
    accounts = Accounts(SimConfig(auto_accounts=False), now_s=0.0)
    accounts.add(AccountConfig(name="account-1", keys=("sim-new",)), 0.0)
    assert accounts.authenticate("sim-new", 0.0).name == "account-1"
    with pytest.raises(ApiError):
        accounts.authenticate("sim-key-1", 0.0)


@pytest.mark.parametrize(
    ("details", "status", "code"),
    [
        ({"standing": Standing.Deactivated}, 401, "account_deactivated"),
        ({"standing": Standing.NoCredit}, 429, "insufficient_quota"),
        ({"credit_tokens": 0}, 429, "insufficient_quota"),
    ],
)
def test_an_account_in_bad_standing_is_not_served(details: dict[str, object], status: int, code: str) -> None:
    with pytest.raises(ApiError) as caught:
        accounts_with(Limits(), **details).check_standing()
    assert (caught.value.status, caught.value.body["error"]["code"]) == (status, code)


def test_credit_ends_after_the_tokens_it_pays_for() -> None:
    account = accounts_with(Limits(), credit_tokens=10)
    account.spend(9)
    account.check_standing()
    account.spend(9)
    with pytest.raises(ApiError):
        account.check_standing()


def test_long_prompts_are_cached_from_the_second_time_on() -> None:
    account = accounts_with(Limits())
    assert account.cached_tokens(b"short", 1023) == 0
    assert account.cached_tokens(b"short", 1023) == 0
    assert account.cached_tokens(b"long", 1500) == 0
    assert account.cached_tokens(b"long", 1500) == 1408
