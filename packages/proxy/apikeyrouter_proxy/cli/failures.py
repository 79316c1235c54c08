"""How a command fails: one short message that says what, why and what to do, and an exit status."""

from __future__ import annotations

__all__ = ["FAILED", "USAGE", "CliError"]

FAILED = 1
"""Exit status: the command was understood, and did not succeed."""

USAGE = 2
"""Exit status: the command was not understood."""


class CliError(Exception):
    """Ends the command. `message`: for people, printed to standard error as it is. `status`: the exit status."""

    def __init__(self, message: str, status: int = FAILED) -> None:
        super().__init__(message)
        self.message = message
        self.status = status
