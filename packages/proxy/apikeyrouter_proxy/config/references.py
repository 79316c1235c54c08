"""References in values: `${NAME}`, `${NAME:-otherwise}`, `${file:/run/secrets/key}`, `${command:pass show openai}`.

Main entry: `References.resolve`. `$$` stands for one `$`. Files are read relative to the configuration's folder;
commands run without a shell, once per load. Laws: what a reference leads to is never in a fault; a command that fails
is a fault and not an empty secret; texts that come over the API (`trusted=False`) read no file and run nothing.
"""

from __future__ import annotations

import re
import shlex
import subprocess
from collections.abc import Mapping
from pathlib import Path as FilePath

from apikeyrouter_proxy.config.faults import Faults, Path, nearest
from apikeyrouter_proxy.config.masking import is_secret
from apikeyrouter_proxy.config.stamps import Stamps

__all__ = ["UNREAD", "References"]

_REFERENCE = re.compile(r"\$\$|\$\{([^{}]*)\}|\$\{")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_BYTES_MAX = 64 * 1024
_COMMAND_WITHIN_S = 30.0

UNREAD = "unread"
"""What stands for a reference that may not be followed."""


class References:
    """Follows references. `environ`: variables. `stamps`: of the files that were read. `foreign`: how
    another product's file writes a reference, {} for the name; "" for a file of ours."""

    def __init__(self, environ: Mapping[str, str], faults: Faults, *, trusted: bool = True) -> None:
        self._environ = environ
        self._faults = faults
        self._trusted = trusted
        self._ran: dict[str, str | None] = {}
        self.stamps = Stamps()
        self.foreign = ""

    def resolve(self, value: object, path: Path = ()) -> object:
        """The value with every reference in its texts followed; faults are noted."""
        if isinstance(value, str):
            return self._text(value, path) if "$" in value else value
        if isinstance(value, dict):
            return {name: self.resolve(one, (*path, name)) for name, one in value.items()}
        if isinstance(value, list):
            return [self.resolve(one, (*path, number)) for number, one in enumerate(value)]
        return value

    def _text(self, text: str, path: Path) -> str:
        def put(match: re.Match[str]) -> str:
            if match[0] == "$$":
                return "$"
            if match[1] is None:
                self._faults.add(path, "has a ${ without its }", "write $$ for a dollar sign")
                return ""
            return self._follow(match[1].strip(), path)

        return _REFERENCE.sub(put, text)

    def _follow(self, inside: str, path: Path) -> str:
        kind, colon, rest = inside.partition(":")
        if colon and kind == "file":
            return self._file(rest.strip(), path)
        if colon and kind == "command":
            return self._command(rest.strip(), path)
        if colon and kind == "env":
            inside = rest
        name, otherwise, default = inside.partition(":-")
        if not _NAME.fullmatch(name):
            self._faults.add(
                path,
                f"${{{inside}}} is no reference",
                "write ${NAME}, ${NAME:-otherwise}, ${file:/path} or ${command:program}, or $$ for a dollar sign",
            )
            return ""
        value = self._environ.get(name, "").strip()
        if value:
            return value if self._trusted else UNREAD
        if otherwise:
            return default
        near = nearest(name, self._environ) if self._trusted else ""
        near = near if near.startswith("did") else ""
        self._faults.add(path, f"the environment has no {name}", near or self._missing(name, path))
        return ""

    def _missing(self, name: str, path: Path) -> str:
        """What to do about a variable that is not set, in the words of the file that names it."""
        if self.foreign:
            return f"set it there or in .env; the file refers to it as {self.foreign.format(name)}"
        if is_secret(path):
            return "set it there or in .env, or refer to a file with the secret in it: ${file:PATH}"
        return f"set it there or in .env, or write ${{{name}:-otherwise}} with what counts without it"

    def _file(self, name: str, path: Path) -> str:
        if not self._trusted:
            return UNREAD
        place = self._faults.place_of(path)
        folder = FilePath(place.file).parent if place is not None else FilePath()
        file = folder / FilePath(name).expanduser()
        self.stamps.note(file)
        try:
            raw = file.read_bytes()
            text = raw[: _BYTES_MAX + 1].decode().strip()
        except (OSError, UnicodeDecodeError, ValueError) as fault:
            reason = getattr(fault, "strerror", None) or "it is not text in UTF-8"
            self._faults.add(path, f"the file {str(file)!r} cannot be read: {reason}", "check the path and its rights")
            return ""
        if not text or len(raw) > _BYTES_MAX:
            self._faults.add(path, f"the file {str(file)!r} is {'larger than 64 KiB' if text else 'empty'}")
        return text

    def _command(self, line: str, path: Path) -> str:
        if not self._trusted:
            return UNREAD
        if line not in self._ran:
            self._ran[line] = self._run(line, path)
        return self._ran[line] or ""

    def _run(self, line: str, path: Path) -> str | None:
        why = ""
        try:
            done = subprocess.run(  # noqa: S603 - the operator's own file names it; no shell takes part
                shlex.split(line),
                capture_output=True,
                timeout=_COMMAND_WITHIN_S,
                check=False,
                stdin=subprocess.DEVNULL,
                env=dict(self._environ),
            )
            text = done.stdout[: _BYTES_MAX + 1].decode().strip()
            if done.returncode:
                why = f"ended with status {done.returncode}"
            elif not text:
                why = "printed nothing"
        except subprocess.TimeoutExpired:
            why = f"took longer than {_COMMAND_WITHIN_S:.0f} seconds"
        except (OSError, ValueError, IndexError) as fault:
            why = f"cannot be run: {getattr(fault, 'strerror', None) or 'it is no command line, or prints no text'}"
        if why:
            self._faults.add(
                path, f"the command {line.split(maxsplit=1)[0] if line.split() else ''!r} {why}", "try it in a shell"
            )
            return None
        return text
