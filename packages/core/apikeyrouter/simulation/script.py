"""A conversation that a simulated model plays as the user's own words say: which tools it calls, one after another.

    simulate-a-call Write {"file_path": "/tmp/a.txt", "content": "Hello"}
    simulate-a-call Bash {"command": "cat /tmp/a.txt"}

Each such line of a user's message is one answer of the model; when all were given and their results have come, the
model answers in words. What stands behind the name is the arguments as JSON, or, for a tool that takes free text, a
JSON string. Main entry: `scripted_call`. Laws: the place in a script is the number of results since its message, so
nothing is remembered between requests, and every format plays it alike; a tool that is not offered is not called.
"""

from __future__ import annotations

import re

import msgspec

__all__ = ["CALL_WORD", "goes_on", "has_script", "scripted_call"]

CALL_WORD = "simulate-a-call"

_LINE = re.compile(rf"^[ \t]*{CALL_WORD}[ \t]+(\S+)[ \t]+(.+?)[ \t]*$", re.MULTILINE)


def has_script(said: str) -> bool:
    """Whether a user's words bear a script."""
    return CALL_WORD in said


def goes_on(before: str, said: str) -> bool:
    """Whether a script in the words `before` goes on although the user said something since: agents add words of their
    own to results of tools."""
    return has_script(before) and not has_script(said)


def scripted_call(said: str, results: int) -> tuple[str, object] | None:
    """The tool and its arguments after so many results; None when the script has ended. Raises ValueError for arguments
    that are not JSON."""
    lines = _LINE.findall(said)
    if results >= len(lines):
        return None
    name, arguments = lines[results]
    try:
        return name, msgspec.json.decode(arguments)
    except msgspec.DecodeError as fault:
        raise ValueError(f"line {results + 1} of the script, for {name}: its arguments are no JSON ({fault})") from None
