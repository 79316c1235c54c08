"""Where the key-encryption keys come from.

Main entry: `Keyring.from_environment(environ, beside=..., salt=...)`:
1. `APIKEYROUTER_ENCRYPTION_KEY`: a comma-separated list, newest first. An entry that is a Fernet key, or 32 bytes in
   base64 or hex, is key material (HKDF); anything else is a passphrase (scrypt with the store's salt). A data key file
   from an earlier time still opens what it sealed.
2. Without it, a persistent store gets a data key file beside it, `<store>.key`, made once, mode 0600, read ever after.
3. Without a file either (memory store), a random key that ends with the process.
Laws: `source` says which it was, for people, without the key. A key file that others may read, or that is damaged, is
refused with ConfigurationError; it is never overwritten, since that would make every stored secret worthless.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import os
import secrets
import stat
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

from apikeyrouter.domain.errors import ConfigurationError

__all__ = ["ENVIRONMENT_NAME", "KEK_ID_LENGTH", "SALT_LENGTH_MIN", "Kek", "KeySource", "Keyring"]

ENVIRONMENT_NAME = "APIKEYROUTER_ENCRYPTION_KEY"
KEK_ID_LENGTH = 8
SALT_LENGTH_MIN = 16
"""Bytes; RFC 7914 and OWASP recommend at least 16."""

_KEY_LENGTH = 32
_SCRYPT_N, _SCRYPT_R, _SCRYPT_P = 2**15, 8, 1
"""32 MiB and about 0.1 s once at start (OWASP password storage cheat sheet: N=2^15, r=8 as the floor of its table)."""

_PASSPHRASE_LENGTH_ADVISED = 12


@dataclass(frozen=True, slots=True)
class Kek:
    """A key-encryption key. `id` is derived from it one-way and stands in every value that it sealed."""

    id: bytes
    material: bytes = field(repr=False)
    fingerprint_key: bytes = field(repr=False)

    @classmethod
    def derive(cls, root: bytes) -> Kek:
        """From 32 bytes of key material."""
        return cls(
            _hkdf(root, b"apikeyrouter kek id", KEK_ID_LENGTH),
            _hkdf(root, b"apikeyrouter kek", _KEY_LENGTH),
            _hkdf(root, b"apikeyrouter fingerprint", _KEY_LENGTH),
        )


@dataclass(frozen=True, slots=True)
class KeySource:
    """Where the keys came from. `kind`: "environment", "file" or "process". `created`: the file was made just now.

    `message`: a sentence for people. `warning`: what they should better change, or None.
    """

    kind: str
    message: str
    created: bool = False
    path: Path | None = None
    warning: str | None = None


class Keyring:
    """Key-encryption keys, newest first. `source` tells where they came from."""

    __slots__ = ("_by_id", "newest", "source")

    def __init__(self, roots: Sequence[bytes], source: KeySource) -> None:
        if not roots:
            raise ConfigurationError(["A keyring needs at least one key."])
        keks = [Kek.derive(root) for root in roots]
        self.newest = keks[0]
        self.source = source
        self._by_id = {kek.id: kek for kek in keks}

    def __repr__(self) -> str:
        return f"<Keyring of {len(self._by_id)} from {self.source.kind}>"

    def __getstate__(self) -> object:
        raise TypeError("A Keyring cannot be pickled or sent to another process.")

    def find(self, kek_id: bytes) -> Kek | None:
        """The key with this id, or None."""
        return self._by_id.get(kek_id)

    @classmethod
    def random(cls) -> Keyring:
        """A key for this process only."""
        return cls(
            [secrets.token_bytes(_KEY_LENGTH)],
            KeySource("process", "Secrets are sealed with a random key that ends with this process."),
        )

    @classmethod
    def from_environment(
        cls, environ: Mapping[str, str], *, beside: Path | None, salt: bytes
    ) -> tuple[Keyring, str | None]:
        """The keyring of this installation, and a note for its operator if there is something to know (a data key file
        was made, a passphrase is weak); see the module's text for the order.

        `beside`: the path of the persistent store, None when there is none. `salt`: at least 16 random bytes that the
        store keeps; only passphrases use it. Raises ConfigurationError.
        """
        entries = [entry.strip() for entry in environ.get(ENVIRONMENT_NAME, "").split(",")]
        entries = [entry for entry in entries if entry]
        path = None if beside is None else Path(f"{beside}.key")
        if entries:
            roots, source = _from_entries(entries, salt)
            if path is not None and path.exists():
                roots.append(_read_key_file(path))
            return cls(roots, source), source.warning
        if path is None:
            return cls.random(), None
        created = _create_key_file(path)
        words = "A data key was created" if created else "The data key was read"
        message = f"{words}: {path} (mode 0600). Keep it: without it the stored keys cannot be opened."
        # At later starts there is nothing new to know: `doctor` and KeySource say where it is.
        return cls([_read_key_file(path)], KeySource("file", message, created=created, path=path)), (
            message if created else None
        )


def _from_entries(entries: Sequence[str], salt: bytes) -> tuple[list[bytes], KeySource]:
    roots: list[bytes] = []
    short = False
    for entry in entries:
        root = _decode_key(entry)
        if root is None:
            if len(salt) < SALT_LENGTH_MIN:
                raise ConfigurationError(
                    [f"The salt for passphrases has {len(salt)} bytes; {SALT_LENGTH_MIN} at least."]
                )
            short = short or len(entry) < _PASSPHRASE_LENGTH_ADVISED
            root = Scrypt(salt=salt, length=_KEY_LENGTH, n=_SCRYPT_N, r=_SCRYPT_R, p=_SCRYPT_P).derive(entry.encode())
        roots.append(root)
    older = f" and {len(roots) - 1} older for what is stored already" if len(roots) > 1 else ""
    warning = (
        f"{ENVIRONMENT_NAME} is a passphrase of fewer than {_PASSPHRASE_LENGTH_ADVISED} characters, which can be "
        "guessed from a stolen store. Put a longer one in front of it, with a comma between: what is stored is sealed "
        "anew at the next start."
        if short
        else None
    )
    return roots, KeySource(
        "environment", f"Secrets are sealed with the key in {ENVIRONMENT_NAME}{older}.", warning=warning
    )


def _decode_key(text: str) -> bytes | None:
    """32 bytes written as hex, base64 or URL-safe base64 (a Fernet key), or None for anything else."""
    if len(text) == 2 * _KEY_LENGTH:
        with contextlib.suppress(ValueError):
            return bytes.fromhex(text)
    padded = text + "=" * (-len(text) % 4)
    for altchars in (b"+/", b"-_"):
        with contextlib.suppress(binascii.Error, ValueError):
            decoded = base64.b64decode(padded, altchars=altchars, validate=True)
            if len(decoded) == _KEY_LENGTH:
                return decoded
    return None


def _hkdf(root: bytes, info: bytes, length: int) -> bytes:
    return HKDF(algorithm=SHA256(), length=length, salt=None, info=info).derive(root)


def _create_key_file(path: Path) -> bool:
    """Makes the file if there is none; whether it did. It appears whole or not at all, also when two start at once."""
    if path.exists():
        return False
    draft = path.with_name(f"{path.name}.{secrets.token_hex(8)}")
    try:
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0), 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(base64.urlsafe_b64encode(secrets.token_bytes(_KEY_LENGTH)) + b"\n")
            file.flush()
            os.fsync(file.fileno())
        try:
            os.link(draft, path)
        except FileExistsError:
            return False
        finally:
            draft.unlink()
        _sync_directory(path.parent)
    except OSError as error:
        fault = (
            f"No data key can be created at {path}: {error.strerror}. Set {ENVIRONMENT_NAME}, or use another folder."
        )
        raise ConfigurationError([fault]) from error
    return True


def _sync_directory(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _read_key_file(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
            text = file.read(4096)
    except OSError as error:
        raise ConfigurationError([f"The data key {path} cannot be read: {error.strerror}."]) from error
    if mode & 0o077:
        raise ConfigurationError(
            [f"The data key {path} has mode {mode:04o}: others on this machine may read it. Run: chmod 600 {path}"]
        )
    root = _decode_key(text.decode("ascii", "replace").strip())
    if root is None:
        fault = (
            f"The data key {path} is damaged: it must hold 32 bytes in base64. Restore it from a backup. If there is "
            "none, the stored keys are lost: remove the store and this file, and register the keys again."
        )
        raise ConfigurationError([fault])
    return root
