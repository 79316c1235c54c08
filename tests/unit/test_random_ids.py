"""Ids come in blocks, and no two are alike: not in threads, and not in a forked process."""

from __future__ import annotations

import os
import re
from concurrent.futures import ThreadPoolExecutor

from apikeyrouter.random_ids import random_id


def test_an_id_has_24_hexadecimal_digits() -> None:
    assert all(re.fullmatch("[0-9a-f]{24}", random_id()) for _ in range(600))


def test_no_id_comes_twice_whoever_asks() -> None:
    with ThreadPoolExecutor(8) as pool:
        parts = list(pool.map(lambda _: [random_id() for _ in range(2_000)], range(8)))
    ids = [one for part in parts for one in part]
    assert len(set(ids)) == len(ids) == 16_000


def test_a_forked_process_makes_its_own() -> None:
    random_id()  # from here on some are kept
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(writing, ",".join(random_id() for _ in range(40)).encode())
        os._exit(0)
    os.close(writing)
    assert os.waitpid(child, 0)[1] == 0
    with os.fdopen(reading, "rb") as pipe:
        theirs = set(pipe.read().decode().split(","))
    assert len(theirs) == 40
    assert theirs.isdisjoint(random_id() for _ in range(300))
