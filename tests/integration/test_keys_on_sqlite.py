"""Keys across real restarts: a database file, a data key beside it, and no secret in either in the clear."""

from __future__ import annotations

import base64
from pathlib import Path
from random import Random

import pytest

from apikeyrouter.domain.components.key_manager import KeyManager
from apikeyrouter.domain.errors import SealError
from apikeyrouter.domain.models.api_key import KeyState
from apikeyrouter.domain.resilience.failures import FailureClass
from apikeyrouter.infrastructure.clock import SystemClock
from apikeyrouter.infrastructure.state_store.sealing import EnvelopeSealer, Keyring
from apikeyrouter.infrastructure.state_store.sqlite_store import SQLiteStateStore
from tests.support.keys import failure

CANARY = "canary-" + "q7" * 12
SUCCESSOR = "canary-" + "w3" * 12
SALT = b"salt-of-the-store"


async def opened(path: Path, environ: dict[str, str] | None = None) -> tuple[KeyManager, SQLiteStateStore]:
    store = SQLiteStateStore(path)
    keyring, _ = Keyring.from_environment(environ or {}, beside=path, salt=SALT)
    keys = KeyManager(store, SystemClock(), Random(1), on_change=lambda *_: None)
    try:
        await keys.open(EnvelopeSealer(keyring))
    except BaseException:
        await store.close()
        raise
    return keys, store


def files_with(folder: Path, text: str) -> list[str]:
    """Files that hold the text raw, in hex or in base64."""
    raw = text.encode()
    forms = (raw, raw.hex().encode(), base64.b64encode(raw).rstrip(b"="))
    return [file.name for file in folder.iterdir() if any(form in file.read_bytes() for form in forms)]


async def test_keys_states_and_secrets_outlive_the_process(tmp_path: Path) -> None:
    path = tmp_path / "router.sqlite"
    keys, store = await opened(path)
    key = await keys.register(CANARY, "openai", {"weight": 2})
    await keys.rotate_key(key.id, SUCCESSOR)
    now_s = SystemClock().monotonic_s()
    limit = failure(FailureClass.Rate, hint_s=300.0, whole_account=True)
    keys.fail(keys.begin(keys.get(key.id), "gpt-4", now_s), limit, now_s)
    await store.close()

    keys, store = await opened(path)
    record = keys.get(key.id)
    assert (record.secret.reveal(), record.version, record.weight) == (SUCCESSOR, 2, 2.0)
    assert record.previous is not None
    assert record.previous.reveal() == CANARY
    assert record.state is KeyState.Throttled
    assert 290.0 < record.until_s - SystemClock().monotonic_s() < 331.0
    assert [line.trigger for line in await keys.history(key.id)] == ["secret_replaced", "rate_limited"]
    (shown,) = await store.list_keys("openai")
    assert (shown.id, shown.state, shown.version) == (key.id, KeyState.Throttled, 2)
    await store.close()


async def test_no_file_of_the_store_holds_a_secret_in_any_writing(tmp_path: Path) -> None:
    keys, store = await opened(tmp_path / "router.sqlite")
    key = await keys.register(CANARY, "openai")
    await keys.rotate_key(key.id, SUCCESSOR)
    await store.flush()
    assert files_with(tmp_path, key.id) != []
    assert files_with(tmp_path, CANARY) == files_with(tmp_path, SUCCESSOR) == []
    await store.close()


async def test_another_data_key_refuses_to_start_and_the_right_one_still_does(tmp_path: Path) -> None:
    path = tmp_path / "router.sqlite"
    keys, store = await opened(path)
    key = await keys.register(CANARY, "openai")
    await store.close()
    kept = (tmp_path / "router.sqlite.key").rename(tmp_path / "kept")
    with pytest.raises(SealError, match=key.id):
        await opened(path)
    kept.rename(tmp_path / "router.sqlite.key")
    keys, store = await opened(path)
    assert keys.get(key.id).secret.reveal() == CANARY
    await store.close()


async def test_a_key_from_the_environment_takes_over_from_the_file(tmp_path: Path) -> None:
    path = tmp_path / "router.sqlite"
    keys, store = await opened(path)
    key = await keys.register(CANARY, "openai")
    await store.close()
    environ = {"APIKEYROUTER_ENCRYPTION_KEY": "correct horse battery staple"}
    _, store = await opened(path, environ)
    await store.close()
    (tmp_path / "router.sqlite.key").unlink()
    keys, store = await opened(path, environ)
    assert keys.get(key.id).secret.reveal() == CANARY
    await store.close()
