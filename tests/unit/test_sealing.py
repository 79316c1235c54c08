"""Secrets at rest (control S1): what is sealed opens in its own row and with the right key, or not at all."""

from __future__ import annotations

import base64
import os
import pickle
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from cryptography.fernet import Fernet

from apikeyrouter.domain.errors import ConfigurationError, SealError
from apikeyrouter.infrastructure.state_store.keyring import ENVIRONMENT_NAME, Keyring
from apikeyrouter.infrastructure.state_store.sealing import EnvelopeSealer

SALT = b"salt-of-the-store"
ROW = b"key_1/openai/1"
SECRET = b"material-" + b"z" * 20


def ring(value: str, *, beside: Path | None = None, salt: bytes = SALT) -> Keyring:
    return Keyring.from_environment({ENVIRONMENT_NAME: value}, beside=beside, salt=salt)[0]


def hex_key(byte: int) -> str:
    return bytes([byte] * 32).hex()


@pytest.fixture
def sealer() -> EnvelopeSealer:
    return EnvelopeSealer(Keyring.random())


def test_sealing_hides_the_secret_and_never_looks_the_same_twice(sealer: EnvelopeSealer) -> None:
    first, second = sealer.seal(SECRET, ROW), sealer.seal(SECRET, ROW)
    assert SECRET not in first
    assert first != second
    assert sealer.open(first, ROW) == sealer.open(second, ROW) == SECRET


def test_a_sealed_secret_does_not_open_in_another_row(sealer: EnvelopeSealer) -> None:
    with pytest.raises(SealError, match="another row"):
        sealer.open(sealer.seal(SECRET, ROW), b"key_2/openai/1")


def test_no_flipped_byte_goes_unnoticed(sealer: EnvelopeSealer) -> None:
    sealed = sealer.seal(SECRET, ROW)
    for place in range(len(sealed)):
        for bit in (0x01, 0x80):
            altered = bytearray(sealed)
            altered[place] ^= bit
            with pytest.raises(SealError):
                sealer.open(bytes(altered), ROW)


def test_no_cut_goes_unnoticed(sealer: EnvelopeSealer) -> None:
    sealed = sealer.seal(SECRET, ROW)
    for length in range(len(sealed)):
        with pytest.raises(SealError):
            sealer.open(sealed[:length], ROW)


def test_another_encryption_key_opens_nothing_and_the_error_says_what_to_do(sealer: EnvelopeSealer) -> None:
    sealed = EnvelopeSealer(Keyring.random()).seal(SECRET, ROW)
    for act in (sealer.open, sealer.reseal):
        with pytest.raises(SealError, match=ENVIRONMENT_NAME):
            act(sealed, ROW)


def test_errors_do_not_quote_secrets(sealer: EnvelopeSealer) -> None:
    with pytest.raises(SealError) as refused:
        sealer.open(SECRET * 10, ROW)
    assert SECRET.decode() not in str(refused.value)


def test_rotation_reseals_under_the_newest_key_and_then_the_old_one_can_go() -> None:
    old = EnvelopeSealer(ring(hex_key(1)))
    both = EnvelopeSealer(ring(f"{hex_key(2)},{hex_key(1)}"))
    new = EnvelopeSealer(ring(hex_key(2)))
    sealed = old.seal(SECRET, ROW)
    assert both.open(sealed, ROW) == SECRET
    resealed = both.reseal(sealed, ROW)
    assert new.open(resealed, ROW) == SECRET
    assert both.reseal(resealed, ROW) is resealed
    with pytest.raises(SealError):
        old.open(resealed, ROW)
    with pytest.raises(SealError):
        new.open(sealed, ROW)
    with pytest.raises(SealError):
        both.reseal(sealed, b"another row")


def test_a_fingerprint_is_stable_under_a_key_and_foreign_under_another(sealer: EnvelopeSealer) -> None:
    assert sealer.fingerprint(SECRET) == sealer.fingerprint(SECRET)
    assert sealer.fingerprint(SECRET) != sealer.fingerprint(SECRET + b"x")
    assert sealer.fingerprint(SECRET) != EnvelopeSealer(Keyring.random()).fingerprint(SECRET)
    assert ring(hex_key(2) + "," + hex_key(1)).newest == ring(hex_key(2)).newest


@pytest.mark.parametrize(
    "written",
    [
        Fernet.generate_key().decode(),
        base64.b64encode(b"\xff" * 32).decode(),
        base64.b64encode(b"\xfb" * 32).decode().rstrip("="),
        hex_key(7).upper(),
    ],
    ids=["fernet", "base64", "unpadded", "hex"],
)
def test_key_material_needs_no_salt(written: str) -> None:
    sealed = EnvelopeSealer(ring(written, salt=b"")).seal(SECRET, ROW)
    assert EnvelopeSealer(ring(f"  {written} ", salt=b"other")).open(sealed, ROW) == SECRET


def test_the_same_material_in_other_writing_is_the_same_key() -> None:
    assert ring(hex_key(9)).newest == ring(base64.urlsafe_b64encode(bytes([9] * 32)).decode()).newest


def test_a_passphrase_is_bound_to_the_salt_of_the_store() -> None:
    words = "correct horse battery staple"
    sealed = EnvelopeSealer(ring(words)).seal(SECRET, ROW)
    assert EnvelopeSealer(ring(words)).open(sealed, ROW) == SECRET
    with pytest.raises(SealError):
        EnvelopeSealer(ring(words, salt=b"salt-of-another-store")).open(sealed, ROW)
    with pytest.raises(ConfigurationError, match="salt"):
        ring(words, salt=b"short")


def test_a_short_passphrase_works_and_is_warned_about_without_quoting_it() -> None:
    keyring, note = Keyring.from_environment({ENVIRONMENT_NAME: "hunter"}, beside=None, salt=SALT)
    assert keyring.source.kind == "environment"
    assert note is not None
    assert "guessed" in note
    assert "hunter" not in note
    assert Keyring.from_environment({ENVIRONMENT_NAME: "long enough words"}, beside=None, salt=SALT)[1] is None


@pytest.mark.parametrize("environ", [{}, {ENVIRONMENT_NAME: ""}, {ENVIRONMENT_NAME: " , "}])
def test_without_store_and_key_each_process_has_a_key_of_its_own(environ: dict[str, str]) -> None:
    keyring, note = Keyring.from_environment(environ, beside=None, salt=b"")
    assert (keyring.source.kind, note) == ("process", None)
    assert keyring.newest != Keyring.random().newest


def test_a_data_key_is_created_once_beside_the_store_for_its_owner_only(tmp_path: Path) -> None:
    store = tmp_path / "router.sqlite"
    first, note = Keyring.from_environment({}, beside=store, salt=SALT)
    file = tmp_path / "router.sqlite.key"
    assert first.source.created
    assert note is not None
    assert str(file) in note
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    second, note = Keyring.from_environment({}, beside=store, salt=b"")
    assert not second.source.created
    assert note is None, "nothing new to know"
    assert second.newest == first.newest
    assert file.read_text().strip() not in second.source.message
    assert [path.name for path in tmp_path.iterdir()] == ["router.sqlite.key"]


def test_processes_that_start_together_agree_on_one_data_key(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        rings = list(pool.map(lambda _: Keyring.from_environment({}, beside=tmp_path / "db", salt=SALT)[0], range(16)))
    assert len({ring.newest.id for ring in rings}) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["db.key"]


def test_a_data_key_from_before_still_opens_once_the_environment_has_a_key(tmp_path: Path) -> None:
    sealed = EnvelopeSealer(Keyring.from_environment({}, beside=tmp_path / "db", salt=SALT)[0]).seal(SECRET, ROW)
    later = EnvelopeSealer(ring(hex_key(3), beside=tmp_path / "db"))
    assert later.open(sealed, ROW) == SECRET
    assert EnvelopeSealer(ring(hex_key(3))).open(later.reseal(sealed, ROW), ROW) == SECRET


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660])
def test_a_data_key_that_others_may_read_is_refused(tmp_path: Path, mode: int) -> None:
    Keyring.from_environment({}, beside=tmp_path / "db", salt=SALT)
    (tmp_path / "db.key").chmod(mode)
    with pytest.raises(ConfigurationError, match="chmod 600"):
        Keyring.from_environment({}, beside=tmp_path / "db", salt=SALT)


@pytest.mark.parametrize("content", ["", "short", "x" * 44, "é" * 40])
def test_a_damaged_data_key_is_refused_and_left_alone(tmp_path: Path, content: str) -> None:
    file = tmp_path / "db.key"
    file.write_text(content)
    file.chmod(0o600)
    with pytest.raises(ConfigurationError, match="damaged"):
        Keyring.from_environment({}, beside=tmp_path / "db", salt=SALT)
    assert file.read_text() == content


def test_a_folder_that_is_not_there_is_a_fault_of_configuration(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="No data key can be created"):
        Keyring.from_environment({}, beside=tmp_path / "missing" / "db", salt=SALT)


def test_a_data_key_that_cannot_be_read_is_a_fault_of_configuration(tmp_path: Path) -> None:
    (tmp_path / "db.key").mkdir()
    with pytest.raises(ConfigurationError, match="cannot be read"):
        Keyring.from_environment({}, beside=tmp_path / "db", salt=SALT)


def test_keyrings_show_and_give_away_nothing() -> None:
    keyring = ring(hex_key(5))
    shown = f"{keyring} {keyring.newest} {EnvelopeSealer(keyring)} {keyring.source}"
    for part in (keyring.newest.material, keyring.newest.fingerprint_key, bytes([5] * 32)):
        assert part.hex() not in shown
        assert repr(part) not in shown
    with pytest.raises(TypeError):
        pickle.dumps(keyring)


def test_a_keyring_without_keys_is_refused() -> None:
    with pytest.raises(ConfigurationError):
        Keyring([], Keyring.random().source)


def test_random_material_is_read_as_material_in_any_writing() -> None:
    for _ in range(50):
        raw = os.urandom(32)
        rings = [ring(raw.hex()), ring(base64.b64encode(raw).decode()), ring(base64.urlsafe_b64encode(raw).decode())]
        assert len({one.newest.id for one in rings}) == 1
