"""Sealing and rows round-trip for whatever may be stored."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from apikeyrouter.domain.errors import KeyRegistrationError, SealError
from apikeyrouter.domain.keys.metadata import clean_material, clean_metadata
from apikeyrouter.domain.keys.rows import Moment, record_of, seal_context, stored_key_of, view_of_stored
from apikeyrouter.domain.keys.secret import Secret
from apikeyrouter.infrastructure.state_store.keyring import Keyring
from apikeyrouter.infrastructure.state_store.sealing import EnvelopeSealer
from tests.support.keys import record

SEALER = EnvelopeSealer(Keyring.random())
CONTEXTS = st.tuples(st.text(max_size=8), st.text(max_size=8), st.integers(0, 99))
JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(secret=st.binary(max_size=200), context=CONTEXTS)
@settings(max_examples=80, deadline=None)
def test_what_is_sealed_opens_in_its_own_row(secret: bytes, context: tuple[str, str, int]) -> None:
    bound = seal_context(*context)
    assert SEALER.open(SEALER.seal(secret, bound), bound) == secret


@given(first=CONTEXTS, second=CONTEXTS)
@settings(max_examples=80, deadline=None)
def test_rows_of_other_keys_providers_or_versions_are_other_rows(
    first: tuple[str, str, int], second: tuple[str, str, int]
) -> None:
    assert (seal_context(*first) == seal_context(*second)) == (first == second)


@given(secret=st.binary(max_size=40), place=st.integers(0, 10_000), flip=st.integers(1, 255))
@settings(max_examples=80, deadline=None)
def test_altered_bytes_do_not_open(secret: bytes, place: int, flip: int) -> None:
    sealed = bytearray(SEALER.seal(secret, b"row"))
    sealed[place % len(sealed)] ^= flip
    with pytest.raises(SealError):
        SEALER.open(bytes(sealed), b"row")


@given(noise=st.binary(max_size=200))
@settings(max_examples=80, deadline=None)
def test_noise_is_refused_and_nothing_worse(noise: bytes) -> None:
    for bytes_read in (noise, b"AKR1" + noise, SEALER.seal(b"x", b"row")[:12] + noise):
        with pytest.raises(SealError):
            SEALER.open(bytes_read, b"row")


@given(text=st.text(max_size=30))
@settings(max_examples=150, deadline=None)
def test_material_is_accepted_as_an_http_header_value_or_refused(text: str) -> None:
    try:
        clean = clean_material(text)
    except KeyRegistrationError:
        return
    assert clean == text.strip()
    assert clean.isascii()
    assert clean.isprintable()
    assert " " not in clean


@given(metadata=st.dictionaries(st.text(max_size=6).map("x_{}".format), JSON, max_size=4))
@settings(max_examples=60, deadline=None)
def test_metadata_that_json_can_hold_is_kept_as_it_is(metadata: dict[str, object]) -> None:
    assert clean_metadata(metadata, "material-" + "k" * 30) == metadata


@given(
    now_s=st.floats(0.0, 1e6),
    again_s=st.floats(0.0, 1e6),
    down_s=st.floats(0.0, 1e5),
    wait_s=st.floats(-1e5, 1e5),
)
@settings(max_examples=80, deadline=None)
def test_a_deadline_means_the_same_moment_after_a_restart(
    now_s: float, again_s: float, down_s: float, wait_s: float
) -> None:
    utc_s = 1_800_000_000.0
    key = record(until_s=(now_s + wait_s) or 1.0, last_used_s=now_s, suspected_s=now_s or 1.0)
    row = stored_key_of(key, Moment(now_s, utc_s))
    back = record_of(row, Secret("s"), None, Moment(again_s, utc_s + down_s))
    assert back.until_s - again_s == pytest.approx(key.until_s - now_s - down_s, abs=1e-3)
    assert back.last_used_s is not None
    assert back.last_used_s - again_s == pytest.approx(-down_s, abs=1e-3)
    view = view_of_stored(row, utc_s=utc_s)
    assert (view.cooldown_until is not None) == (row.document["until_s"] > utc_s)
