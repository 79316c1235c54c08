"""`run`: a coding agent, or any other program, that works through the proxy for this one time.

    apikeyrouter run claude
    apikeyrouter run codex -- exec "fix the failing test"
    apikeyrouter run -- python my_program.py

The proxy that runs is used; where none does, one is started on a free port until the program ends. Laws: no file is
written or changed; what was set is told by name, never by value; signals reach the program; its exit status is ours.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from types import FrameType
from typing import Annotated, Any, Optional

import typer

from apikeyrouter_proxy.cli.agents import AGENTS, OPEN_KEY, Limits, Plan, Target, agent_of, plan
from apikeyrouter_proxy.cli.console import note
from apikeyrouter_proxy.cli.environment import CLIENT_KEY_NAME, URL_NAME
from apikeyrouter_proxy.cli.failures import USAGE, CliError
from apikeyrouter_proxy.cli.options import EnvFile, Url
from apikeyrouter_proxy.cli.service import Where, identify, message_of

__all__ = ["register"]

_NOT_FOUND = 127
"""Exit status of shells for a program that is not there."""
_MODELS = "/v1/models"
_FORWARDED = ("SIGTERM", "SIGHUP", "SIGINT", "SIGQUIT", "SIGUSR1", "SIGUSR2")
_OF_TERMINALS = ("SIGINT", "SIGQUIT")


def register(app: typer.Typer) -> None:
    """Adds the verb."""
    settings = {"allow_interspersed_args": False, "ignore_unknown_options": False}
    app.command("run", context_settings=settings)(run)


def run(
    command: Annotated[
        list[str],
        typer.Argument(metavar="PROGRAM [-- ARGUMENTS...]", help="claude, codex, opencode or any other program."),
    ],
    model: Annotated[
        Optional[str],  # noqa: UP045 - typer reads it at run time
        typer.Option("--model", "-m", help="The model that the agent is to ask for, as the proxy names it."),
    ] = None,
    strict: Annotated[
        bool,
        typer.Option(
            "--strict", help="Refuse requests with parameters that a provider lacks, instead of dropping those."
        ),
    ] = False,
    url: Url = None,
    env_file: EnvFile = None,
) -> None:
    """Start a coding agent, or any program, that works through the proxy."""
    program, arguments = command[0], command[1:]
    if arguments[:1] == ["--"]:
        arguments = arguments[1:]
    found = _found(program)
    agent = agent_of(program)
    if model and not agent:
        raise CliError(f"--model is for {', '.join(AGENTS)}; other programs choose their model themselves.", USAGE)
    where = Where(url, None, env_file)
    with ExitStack() as stack:
        origin = _proxy(where, env_file, stack)
        key = where.environ.get(CLIENT_KEY_NAME, "").strip()
        models = _models(origin, key)
        limits = _limits({*models, model or ""}) if agent else {}
        target = Target(origin, key or OPEN_KEY, model or "", models, limits, drop_params=not strict)
        planned = plan([program, *arguments], os.environ, target, _secrets(where.environ))
        _tell(planned, origin, agent)
        raise typer.Exit(_run(found, planned))


def _found(program: str) -> str:
    """The program's path. Raises CliError when there is none."""
    found = shutil.which(program)
    if found is not None:
        return found
    known = AGENTS.get(agent_of(program))
    if known:
        raise CliError(f"{program} is not installed, or not on the PATH. Install it with: {known}", _NOT_FOUND)
    raise CliError(
        f"There is no program {program!r} on the PATH. Known agents: {', '.join(AGENTS)}; any other program works too: "
        "apikeyrouter run -- PROGRAM ARGUMENTS",
        _NOT_FOUND,
    )


def _proxy(where: Where, env_file: Any, stack: ExitStack) -> str:
    """The origin of the proxy that runs, or of one that is started for the time of the run. Raises CliError."""
    from apikeyrouter_proxy.cli.environment import proxy_url
    from apikeyrouter_proxy.cli.http import Unreachable, checked_origin
    from apikeyrouter_proxy.cli.run_proxy import own_proxy

    origin = checked_origin(where.url or proxy_url(where.environ))
    try:
        if identify(origin) is not None:
            return origin
        trouble = f"{origin} is answered by another program, not by ApiKeyRouter."
    except Unreachable as fault:
        trouble = fault.message
    if where.url:
        raise CliError(f"{trouble} Check --url or {URL_NAME}, or leave it out: a proxy is then started for this run.")
    arguments = ["--env-file", str(env_file)] if env_file is not None else []
    started = stack.enter_context(own_proxy(os.environ, arguments))
    told = [f"No proxy is running; one was started at {started.origin} for the time of this run.", *started.notes]
    note("\n  * ".join(told))
    return started.origin


def _models(origin: str, key: str) -> list[str]:
    """What the proxy has, which also shows whether it takes the key. Raises CliError."""
    from apikeyrouter_proxy.cli import http

    headers = {"Authorization": f"Bearer {key}"} if key else {}
    try:
        answer = http.ask(origin, "GET", _MODELS, None, headers)
    except http.Unreachable as fault:
        raise CliError(fault.message) from None
    if answer.status >= 400:
        raise CliError(message_of(answer, _MODELS))
    told = answer.json()
    listed = told.get("data") if isinstance(told, dict) else None
    return [one["id"] for one in listed or () if isinstance(one, dict) and isinstance(one.get("id"), str)]


class _NoPrices:
    """Limits are asked for, not prices; the list of those takes a while to load."""

    def price(self, *_: object, **__: object) -> None:
        """None."""

    def models(self, *_: object, **__: object) -> Sequence[tuple[str, str]]:
        """None."""
        return ()

    def providers_of(self, *_: object, **__: object) -> Sequence[str]:
        """None."""
        return ()


def _limits(models: Iterable[str]) -> dict[str, Limits]:
    """Of those models whose limits are known."""
    from apikeyrouter.infrastructure.catalogue.models import ModelCatalogue

    catalogue = ModelCatalogue(_NoPrices())
    known: dict[str, Limits] = {}
    for name in models:
        facts = catalogue.find(name)
        if facts is not None and facts.context_tokens and facts.output_tokens_max:
            known[name] = Limits(facts.context_tokens, facts.output_tokens_max)
    return known


def _secrets(environ: Mapping[str, str]) -> list[str]:
    """Variables that hold keys of providers."""
    from apikeyrouter.infrastructure.catalogue.provider_row import KEYLESS
    from apikeyrouter_proxy.env_keys import read_env_keys

    keys, _, _ = read_env_keys(environ)
    return sorted({key.variable for key in keys if key.material.reveal() != KEYLESS})


def _tell(planned: Plan, origin: str, agent: str) -> None:
    parts = [f"{agent or planned.command[0]} works through {origin}.", f"Set: {', '.join(planned.set_names)}."]
    if planned.options:
        parts.append(f"Added with -c: {', '.join(planned.options)}.")
    if planned.taken_names:
        parts.append(f"Taken out: {', '.join(planned.taken_names)}.")
    note(" ".join(parts))


def _run(found: str, planned: Plan) -> int:
    """Runs it; its exit status, as shells tell it: 128 and the signal's number for a program that a signal ended."""
    with _signals() as signals:
        try:
            process = subprocess.Popen([found, *planned.command[1:]], env=dict(planned.environ))  # noqa: S603
        except OSError as fault:
            raise CliError(f"{found} cannot be started ({fault.strerror or type(fault).__name__}).", 126) from None
        signals.reach(process)
        status = process.wait()
    return 128 - status if status < 0 else status


class _Signals:
    """Passes signals on to one process; those that came before it was there, then."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._early: list[int] = []

    def reach(self, process: subprocess.Popen[bytes]) -> None:
        self._process = process
        for number in self._early:
            process.send_signal(number)

    def caught(self, number: int, _frame: FrameType | None) -> None:
        if self._process is None:
            self._early.append(number)
        elif not (signal.Signals(number).name in _OF_TERMINALS and _is_foreground()):
            self._process.send_signal(number)


@contextmanager
def _signals() -> Iterator[_Signals]:
    """While it lasts, signals are for the program."""
    signals = _Signals()
    numbers = [getattr(signal, name) for name in _FORWARDED if hasattr(signal, name)]
    before = {number: signal.signal(number, signals.caught) for number in numbers}
    try:
        yield signals
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _is_foreground() -> bool:
    """Whether a terminal has told the program itself: it tells all processes in its foreground."""
    with suppress(OSError, AttributeError):
        terminal = os.open("/dev/tty", os.O_RDONLY | os.O_NOCTTY)
        try:
            return os.tcgetpgrp(terminal) == os.getpgrp()
        finally:
            os.close(terminal)
    return sys.platform == "win32"
