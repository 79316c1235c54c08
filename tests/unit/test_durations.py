"""Every form in which providers say when to come back."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from apikeyrouter.domain.resilience.durations import (
    hint_in_details,
    hint_in_text,
    limit_in_text,
    parse_duration_s,
    retry_after_s,
    seconds_until,
)

NOW = datetime(2026, 11, 21, 12, 0, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "expected_s"),
    [
        ("6m0s", 360.0),
        ("120ms", 0.12),
        ("1s", 1.0),
        ("1.5s", 1.5),
        ("36.43s", 36.43),
        ("1m6.779s", 66.779),
        ("1h2m3s", 3723.0),
        ("7m31.871s", 451.871),
        ("1h30m", 5400.0),
        ("250us", 0.00025),
        ("250µs", 0.00025),
        ("9ns", 9e-9),
        ("1m120ms", 60.12),
        (".5s", 0.5),
        ("5s1m", 65.0),
        ("1.5m2s", 92.0),
        ("120ms5s", 5.12),
        ("2h3.s", 7203.0),
        ("20", 20.0),
        (" 20 ", 20.0),
        ("0", 0.0),
        ("0s", 0.0),
        ("0.25", 0.25),
        ("1d", 86_400.0),
        ("36h", 86_400.0),
    ],
)
def test_a_duration_is_read_with_its_fraction_and_its_longest_unit(text: str, expected_s: float) -> None:
    assert parse_duration_s(text) == pytest.approx(expected_s)


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "s",
        "-1",
        "-5s",
        "1x",
        "1s2",
        "nan",
        "inf",
        "1e3",
        "soon",
        "1764000000",
        "99999h",
        "१२",
        "9" * 500,
        "1 s",
    ],
)
def test_what_is_no_duration_or_absurd_is_no_hint(text: str) -> None:
    assert parse_duration_s(text) is None


@pytest.mark.parametrize(
    ("headers", "expected_s"),
    [
        ([(b"retry-after", b"20")], 20.0),
        ([(b"Retry-After", b"1.5")], 1.5),
        ([(b"retry-after", b"7m12s")], 432.0),
        ([(b"retry-after", b"0")], 0.0),
        ([(b"retry-after-ms", b"1337"), (b"retry-after", b"2")], 1.337),
        ([(b"x-ms-retry-after-ms", b"250"), (b"retry-after", b"1")], 0.25),
        ([(b"retry-after-ms", b"-5"), (b"retry-after", b"2")], 2.0),
        ([(b"retry-after-ms", b"soon"), (b"retry-after", b"2")], 2.0),
        ([(b"retry-after", b"Sat, 21 Nov 2026 12:00:30 GMT")], 30.0),
        ([(b"retry-after", b"2026-11-21T12:01:00Z")], 60.0),
        ([(b"retry-after", b"2026-11-21T14:01:00.500+02:00")], 60.5),
        ([(b"retry-after", b"Mon, 23 Nov 2026 12:00:00 GMT")], 86_400.0),
    ],
)
def test_headers_say_how_long_to_wait(headers: list[tuple[bytes, bytes]], expected_s: float) -> None:
    assert retry_after_s(headers, NOW) == pytest.approx(expected_s)


def test_a_date_is_compared_with_the_clock_of_the_reply_and_not_with_ours() -> None:
    # their clock is an hour ahead of ours: by our own clock the wait would be 3,630 s
    headers = [(b"date", b"Sat, 21 Nov 2026 13:00:00 GMT"), (b"retry-after", b"Sat, 21 Nov 2026 13:00:30 GMT")]
    assert retry_after_s(headers, NOW) == 30.0
    assert retry_after_s([(b"date", b"nonsense"), *headers[1:]], NOW) == 3_630.0


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b"-1",
        b"Sat, 21 Nov 2026 11:59:00 GMT",
        b"2026-11-21",
        b"2026-11-21T12:01:00",
        b"Sat, 99 Nov 2026 99:99:99 GMT",
        b"Sat, 21 Nov 9999 12:00:00 GMT",
        b"0001-01-01T00:00:00+14:00",
        b"\xff\xfe",
        b"1764000000",
    ],
)
def test_a_header_that_makes_no_sense_is_no_hint(value: bytes) -> None:
    assert retry_after_s([(b"retry-after", value)], NOW) is None


def test_an_absolute_time_becomes_seconds() -> None:
    assert seconds_until("2026-11-21T12:00:00.250Z", now=NOW) == 0.25


@pytest.mark.parametrize(
    ("message", "expected_s"),
    [
        ("Rate limit reached. Please try again in 20s. Visit https://example.com", 20.0),
        ("Please try again in 1m6.779s.", 66.779),
        ("Please try again in 6m0s.", 360.0),
        ("Please try again in 120ms.", 0.12),
        ("Please retry in 36.43s.", 36.43),
        ("Please retry after 9 seconds. Please contact support", 9.0),
        ("have exceeded call rate limit. Please retry after 1 second.", 1.0),
        ("Try again in 2 minutes", 120.0),
        ("Try again in 1 hour, 5 minutes and 3 seconds", 3903.0),
        ("retry after 250 milliseconds", 0.25),
    ],
)
def test_a_sentence_says_how_long_to_wait(message: str, expected_s: float) -> None:
    assert hint_in_text(message) == pytest.approx(expected_s)


@pytest.mark.parametrize(
    "message", ["", "try again", "try again later", "Please try again in 5 moments", "retry in -5s", "in 20s" * 2000]
)
def test_a_sentence_without_a_time_is_no_hint(message: str) -> None:
    assert hint_in_text(message) is None


def test_groqs_numbers_agree_with_the_wait_that_it_names() -> None:
    per_minute = "on tokens per minute (TPM): Limit 6000, Used 4626, Requested 4022."
    per_day = "on tokens per day (TPD): Limit 100000, Used 99336, Requested 1187."
    assert hint_in_text(per_minute) == pytest.approx(26.48, abs=0.01)
    assert hint_in_text(per_day) == pytest.approx(451.87, abs=0.01)
    assert hint_in_text(per_minute + " Please try again in 26.5s.") == 26.5


def test_a_request_above_the_whole_limit_is_told_from_one_that_only_comes_too_early() -> None:
    large = limit_in_text("Request too large on tokens per min (TPM): Limit 30000, Requested 40123.")
    early = limit_in_text("on tokens per min (TPM): Limit 30000, Used 29000, Requested 4012.")
    assert large is not None
    assert early is not None
    assert (large.too_large, large.used, large.refill_s) == (True, None, None)
    assert (early.too_large, early.limit, early.used, early.requested) == (False, 30000, 29000, 4012)
    assert limit_in_text("Limit of 3, Requested") is None


@pytest.mark.parametrize(
    ("delay", "expected_s"),
    [
        ("36s", 36.0),
        ("36.430s", 36.43),
        ({"seconds": "36", "nanos": 500_000_000}, 36.5),
        ({"seconds": 4}, 4.0),
        ({"seconds": -4}, None),
        ({"nanos": "x"}, None),
        ({}, 0.0),
        (12, None),
        (None, None),
        ("never", None),
    ],
)
def test_a_retry_info_says_how_long_to_wait(delay: object, expected_s: float | None) -> None:
    details = [{"@type": "type.googleapis.com/google.rpc.Help"}, {"retryDelay": delay}]
    assert hint_in_details(details) == expected_s
