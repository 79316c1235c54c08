"""The command line: `apikeyrouter`, also `akr` and `python -m apikeyrouter_proxy.cli`.

Main entry: `main`. `program.py` has the verbs; what can be done without it (`at_once.py`) is, since a process that
serves for months need not hold the library that read its command line.
Laws: results go to standard output and everything about them to standard error; the exit status is 0, 1 when the
command failed and 2 when it was not understood; users see one short message and never a traceback
(APIKEYROUTER_DEBUG=1 shows it to developers); no output holds key material.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

from apikeyrouter_proxy.cli.at_once import done_at_once
from apikeyrouter_proxy.cli.failures import FAILED, USAGE, CliError

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command; the exit status. `arguments`: default those of the process."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    try:
        status = 0 if done_at_once(given) else _execute(given)
        sys.stdout.flush()
    except BrokenPipeError:
        # Whoever read our output has gone, as in `... | head`; the interpreter must not flush into it again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED
    except (KeyboardInterrupt, EOFError):
        sys.stderr.write("Stopped.\n")
        return 130
    except Exception as failure:
        if os.environ.get("APIKEYROUTER_DEBUG"):
            raise
        return _failed(failure)
    return status


def _execute(given: Sequence[str]) -> int:
    from apikeyrouter_proxy.cli.program import execute  # 25 modules and the library that reads command lines: 80 ms

    return execute(given)


def _failed(failure: Exception) -> int:
    """Tells what went wrong; the exit status."""
    from apikeyrouter.domain.errors import ConfigurationError, RouterError
    from apikeyrouter_proxy.cli.console import complain

    if isinstance(failure, CliError):
        complain(failure.message)
        return failure.status
    if isinstance(failure, RouterError):
        complain(failure.message)
        return USAGE if isinstance(failure, ConfigurationError) else FAILED
    complain(
        f"Something unexpected happened ({type(failure).__name__}: {failure}). This is a fault of ApiKeyRouter; set "
        "APIKEYROUTER_DEBUG=1 and run the command again to see where, then please report it."
    )
    return FAILED
