"""Reading secrets: from standard input or a hidden prompt, and from nowhere else.

Main entries: `read_secrets` (one a line) and `read_secret`. Laws: what was read appears in no message; a terminal does
not show it while it is typed.
"""

from __future__ import annotations

import sys

from apikeyrouter_proxy.cli.failures import USAGE, CliError

__all__ = ["read_secret", "read_secrets"]

_INPUT_BYTES_MAX = 1024 * 1024


def read_secrets(prompt: str, *, from_stdin: bool) -> list[str]:
    """The secrets, one a line; blank lines and lines that begin with # do not count. Raises CliError for none."""
    if from_stdin or not sys.stdin.isatty():
        read = sys.stdin.buffer.read(_INPUT_BYTES_MAX + 1)
        if len(read) > _INPUT_BYTES_MAX:
            raise CliError("Standard input holds more than a megabyte; expected one key a line.", USAGE)
        lines = [line.strip() for line in read.decode("utf-8", "replace").splitlines()]
        found = [line for line in lines if line and not line.startswith("#")]
        where = "on standard input"
    else:
        from getpass import getpass

        typed = getpass(prompt).strip()
        found, where = [typed] if typed else [], "typed"
    if not found:
        raise CliError(
            f"No key was {where}. Pipe it in (--stdin), or run the command at a terminal and type it.", USAGE
        )
    return found


def read_secret(prompt: str, *, from_stdin: bool) -> str:
    """Exactly one secret. Raises CliError for none and for several."""
    found = read_secrets(prompt, from_stdin=from_stdin)
    if len(found) > 1:
        raise CliError(f"Standard input holds {len(found)} lines; expected one key.", USAGE)
    return found[0]
