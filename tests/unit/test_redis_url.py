"""From a URL to a Redis server, a database on it and the name of a store."""

from __future__ import annotations

import ssl

import pytest

from apikeyrouter.domain.errors import ConfigurationError
from apikeyrouter.infrastructure.state_store import open_store
from apikeyrouter.infrastructure.state_store.redis_url import RedisPlace


def test_every_part_of_a_url_is_taken() -> None:
    place = RedisPlace.parse("redis://us%40er:pa%2Fss@cache.internal:6380/3?name=prod-eu")
    assert (place.host, place.port, place.database, place.name) == ("cache.internal", 6380, 3, "prod-eu")
    assert (place.username, place.password, place.tls) == ("us@er", "pa/ss", False)
    assert place.prefix == "akr:{prod-eu}:"


@pytest.mark.parametrize("url", ["redis://", "redis:///", "redis://localhost", " REDIS://localhost:6379/0 "])
def test_what_is_left_out_is_as_usual(url: str) -> None:
    assert RedisPlace.parse(url) == RedisPlace()


def test_an_address_of_ipv6_keeps_its_brackets() -> None:
    place = RedisPlace.parse("redis://[::1]:7000")
    assert place.host == "::1"
    assert place.description == "redis://[::1]:7000/0"


def test_tls_always_verifies() -> None:
    place = RedisPlace.parse("rediss://cache?ssl_ca_certs=/etc/ca.pem&ssl_certfile=/c.pem&ssl_keyfile=/k.pem")
    arguments = place.connection_arguments()
    assert (arguments["ssl_cert_reqs"], arguments["ssl_check_hostname"]) == ("required", True)
    assert arguments["ssl_min_version"] is ssl.TLSVersion.TLSv1_2
    assert (arguments["ssl_ca_certs"], arguments["ssl_certfile"], arguments["ssl_keyfile"]) == (
        "/etc/ca.pem",
        "/c.pem",
        "/k.pem",
    )
    assert place.description == "rediss://cache:6379/0"


def test_a_description_is_a_url_that_opens_the_same_store_and_has_no_password() -> None:
    store = open_store("redis://me:pw-in-url@cache:6380/1?name=prod")
    assert store.description == "redis://cache:6380/1?name=prod"
    assert open_store(store.description).description == store.description
    assert store.persistent
    assert store.path is None
    for text in (repr(store), str(store), repr(RedisPlace.parse("redis://me:pw-in-url@cache"))):
        assert "pw-in-url" not in text


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("redis://:pw-in-url@cache:port", "malformed"),
        ("redis://:pw-in-url#@cache", "malformed"),
        ("redis://:pw-in-url@[cache", "malformed"),
        ("redis:cache", "number of a database"),
        ("redis://:pw-in-url@cache/-1", "number of a database"),
        ("redis://:pw-in-url@cache/0/1", "number of a database"),
        ("redis://:pw-in-url@cache?name=", "1 to 64"),
        ("redis://:pw-in-url@cache?name=a}b", "1 to 64"),
        ("redis://:pw-in-url@cache?ssl_ca_certs=/x", "does not exist"),
        ("rediss://:pw-in-url@cache?ssl_cert_reqs=none", "does not exist"),
        ("redis://cache?password=pw-in-url", "does not exist"),
    ],
)
def test_what_is_not_understood_is_refused_without_repeating_it(url: str, told: str) -> None:
    with pytest.raises(ConfigurationError, match=told) as caught:
        RedisPlace.parse(url)
    assert "pw-in-url" not in str(caught.value)


def test_all_faults_are_told_at_once() -> None:
    with pytest.raises(ConfigurationError) as caught:
        RedisPlace.parse("redis://cache/x?name=&db=1")
    assert len(caught.value.faults) == 3
