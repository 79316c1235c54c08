"""The options of `simulate`, as one value, and the world and traffic that they describe.

Main entries: `Asked` (each field is an option), `command_of` (a function that typer can read), `world_of`,
`traffic_maker`, `replay`. Laws: wrong input ends in one CliError that says what is wrong, where and what to write
instead; `replay` gives a command that does the same again.
"""

from __future__ import annotations

import inspect
import json
import shlex
import tomllib
from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Annotated, Any, Optional, get_type_hints

import typer

from apikeyrouter_proxy.cli.failures import USAGE, CliError

if TYPE_CHECKING:
    from apikeyrouter.simulation.world.spec import PoolSpec, World
    from apikeyrouter.simulation.world.traffic import Traffic

__all__ = ["Asked", "command_of", "replay", "traffic_maker", "world_of"]

_WEIGHTS = (1.0, 1.0, 2.0, 4.0)
_USUAL_LOAD = 0.8
_Path = Optional[Path]  # noqa: UP045 - typer reads it at run time
_Number = Optional[float]  # noqa: UP045
_AZURE = "azure-llm-2023"
_AZURE_HINT = (
    "The traces are not part of this program: download AzureLLMInferenceTrace_conv.csv (chat) or _code.csv from"
    " https://github.com/Azure/AzurePublicDataset/tree/master/data and give its path."
)


@dataclass(frozen=True)
class Asked:
    """What was asked for on the command line."""

    trace: Annotated[
        _Path, typer.Option("--trace", "--log", help="A CSV of requests: arrival,input,output[,tenant].")
    ] = None
    poisson: Annotated[_Number, typer.Option(min=0.001, help="Independent arrivals, so many a second.")] = None
    steady: Annotated[_Number, typer.Option(min=0.001, help="Arrivals like clockwork, so many a second.")] = None
    bursts: Annotated[_Number, typer.Option(min=0.001, help="5 s on, 15 s off, so many a second on average.")] = None
    requests: Annotated[Optional[int], typer.Option("--requests", "-n", min=1, help="The first so many only.")] = None  # noqa: UP045
    pool: Annotated[
        Optional[list[str]],  # noqa: UP045
        typer.Option(help="Limits that keys share: rpm=60,tpm=90000,keys=2 x4. Again for other pools."),
    ] = None
    keys: Annotated[_Path, typer.Option("--keys", "--limits", help="The same from a TOML or JSON file.")] = None
    load: Annotated[_Number, typer.Option(min=0.01, max=100, help="Demand as a share of capacity; 0.8.")] = None
    horizon: Annotated[float, typer.Option(min=0.1, max=3600, help="Seconds of a limit that fit at once.")] = 60.0
    horizon_untold: Annotated[bool, typer.Option("--horizon-untold", help="Headers speak of the minute.")] = False
    enforcement: Annotated[str, typer.Option(help="How limits are judged: bucket, rolling or minute.")] = "bucket"
    charge: Annotated[str, typer.Option(help="What counts on admission: use, cap (max_tokens) or metered.")] = "use"
    foreign: Annotated[float, typer.Option(min=0, max=0.95, help="Share of each limit that others use.")] = 0.0
    refused_count: Annotated[bool, typer.Option("--refused-count", help="Refused requests count.")] = False
    no_headers: Annotated[bool, typer.Option("--no-headers", help="Replies do not tell limits.")] = False
    no_retry_after: Annotated[bool, typer.Option("--no-retry-after", help="Refusals do not say until when.")] = False
    limits_known: Annotated[bool, typer.Option("--limits-known", help="Our router is told the limits.")] = False
    event: Annotated[
        Optional[list[str]],  # noqa: UP045
        typer.Option(help="'60-360 gray=0.3 p0,p1'; also outage, down, slow, flap, tier. Again for more."),
    ] = None
    deadline: Annotated[float, typer.Option(min=0.1, help="Seconds that a request may wait to be sent.")] = 10.0
    objective: Annotated[Optional[str], typer.Option("--objective", "-o", help="Of our router.")] = None  # noqa: UP045
    seed: Annotated[int, typer.Option(min=0, help="What is random follows from it.")] = 1
    seeds: Annotated[int, typer.Option(min=1, max=100_000, help="So many runs, from --seed on.")] = 1


def command_of(work: Callable[[Asked, dict[str, Any]], None], more: type) -> Callable[..., None]:
    """A command that takes the fields of `Asked`, and those of the dataclass `more`, as options. `work` gets the first
    as a value, the others by name, and among them the "context" of the command."""
    kinds = (Asked, more)
    hints = {name: hint for kind in kinds for name, hint in get_type_hints(kind, include_extras=True).items()}
    own = {field.name for field in fields(Asked)}

    def command(**given: Any) -> None:
        work(
            Asked(**{name: value for name, value in given.items() if name in own}),
            {name: value for name, value in given.items() if name not in own},
        )

    context = inspect.Parameter("context", inspect.Parameter.KEYWORD_ONLY, annotation=typer.Context)
    parameters = [context] + [
        inspect.Parameter(
            field.name, inspect.Parameter.KEYWORD_ONLY, default=field.default, annotation=hints[field.name]
        )
        for kind in kinds
        for field in fields(kind)
    ]
    command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined] # typer reads it
    command.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    command.__doc__ = work.__doc__
    return command


def world_of(asked: Asked, traffic: Traffic) -> World:
    """The provider side. Without pools, four of 1:1:2:4 that fit the traffic to the load."""
    from apikeyrouter.simulation.world.spec import Charge, Enforcement, World, parse_fault
    from apikeyrouter.simulation.world.traffic import fit_pools

    pools, events = _from_file(asked.keys) if asked.keys is not None else ((), [])
    try:
        pools = (*pools, *_from_options(asked.pool or [], len(pools)))
        if not pools:
            pools = fit_pools(traffic, _WEIGHTS, asked.load or _USUAL_LOAD, foreign_ratio=asked.foreign)
        names = [pool.name for pool in pools]
        _refuse_twins(names)
        faults = tuple(parse_fault(text, frozenset(names)) for text in [*events, *(asked.event or [])])
        return World(
            pools,
            enforcement=_one_of(Enforcement, "--enforcement", asked.enforcement),
            horizon_s=asked.horizon,
            refused_count=asked.refused_count,
            headers=not asked.no_headers,
            horizon_told=not asked.horizon_untold,
            retry_after=not asked.no_retry_after,
            error_text=not asked.no_headers,
            charge=_one_of(Charge, "--charge", asked.charge),
            foreign_ratio=asked.foreign,
            limits_known=asked.limits_known,
            faults=faults,
        )
    except ValueError as fault:
        raise CliError(f"{fault}.", USAGE) from None


def _refuse_twins(names: list[str]) -> None:
    twins = sorted({name for name in names if names.count(name) > 1})
    if twins:
        raise ValueError(f"two pools have the same name: {', '.join(twins)}")


def _one_of(kind: Any, option: str, word: str) -> Any:
    if word not in list(kind):
        raise ValueError(f"{option} {word!r} is not one of {', '.join(kind)}")
    return kind(word)


def _from_options(texts: list[str], first: int) -> tuple[PoolSpec, ...]:
    from apikeyrouter.simulation.world.spec import parse_pool

    pools: list[PoolSpec] = []
    for text in texts:
        pools += parse_pool(text, first + len(pools))
    return tuple(pools)


def _from_file(path: Path) -> tuple[tuple[PoolSpec, ...], list[str]]:
    """Pools and events of a TOML or JSON file: `[[pools]]` tables with `rpm` and so on, and `events`, a list."""
    try:
        text = path.read_text(encoding="utf-8")
        document = json.loads(text) if path.suffix.lower() == ".json" else tomllib.loads(text)
    except (OSError, UnicodeDecodeError) as fault:
        raise CliError(
            f"{path} cannot be read: {getattr(fault, 'strerror', None) or 'it is no text'}.", USAGE
        ) from None
    except (json.JSONDecodeError, tomllib.TOMLDecodeError) as fault:
        kind = "JSON" if isinstance(fault, json.JSONDecodeError) else "TOML"
        raise CliError(f"{path} is not {kind}: {fault}.", USAGE) from None
    if isinstance(document, list):
        document = {"pools": document}
    rows = document.get("pools") if isinstance(document, dict) else None
    events = document.get("events", []) if isinstance(document, dict) else []
    if not isinstance(rows, list) or not rows or not all(isinstance(row, dict) for row in rows):
        raise CliError(f"{path}: expected pools: [[pools]] tables with name, rpm, tpm ... (JSON: a list).", USAGE)
    if not isinstance(events, list):
        raise CliError(f"{path}: `events` must be a list of texts such as '60-360 gray=0.3 a'.", USAGE)
    pools: list[PoolSpec] = []
    for number, row in enumerate(rows, start=1):
        times = row.pop("times", 1)
        text = ",".join(f"{name}={value}" for name, value in row.items())
        try:
            pools += _from_options([f"{text} x{times}"], len(pools))
        except ValueError as fault:
            raise CliError(f"{path}, pool {number}: {fault}.", USAGE) from None
    return tuple(pools), [str(event) for event in events]


def traffic_maker(asked: Asked) -> Callable[[int], Traffic]:
    """The traffic of a seed: recorded once and for all, or made. Without a choice: 5 Poisson arrivals a second."""
    from apikeyrouter.simulation.world import traffic as made

    chosen = [name for name in ("trace", "poisson", "steady", "bursts") if getattr(asked, name) is not None]
    if len(chosen) > 1:
        raise CliError(f"--{chosen[0]} and --{chosen[1]} exclude each other: choose one kind of traffic.", USAGE)
    if asked.trace is not None:
        recorded = _recorded(asked.trace)
        recorded = recorded if asked.requests is None else recorded.head(asked.requests)
        return lambda _: recorded
    kind = chosen[0] if chosen else "poisson"
    rate = getattr(asked, kind) or 5.0
    count = asked.requests or max(100, int(rate * 600))
    return lambda seed: getattr(made, kind)(rate, count, Random(seed))


def _recorded(path: Path) -> Traffic:
    from apikeyrouter.simulation.world.traffic import read_log

    try:
        return read_log(path)
    except OSError as fault:
        told = f"{path} cannot be read: {fault.strerror or type(fault).__name__}."
        if path.name.startswith(_AZURE) and not path.exists():
            told += f" {_AZURE_HINT}"
        raise CliError(told, USAGE) from None
    except ValueError as fault:
        raise CliError(f"{fault}.", USAGE) from None


def replay(asked: Asked, **changed: Any) -> str:
    """The command that runs the same again, with some options changed."""
    words = ["apikeyrouter", "simulate"]
    for field in fields(Asked):
        value = changed.get(field.name, getattr(asked, field.name))
        if value == field.default:
            continue
        option = "--" + field.name.replace("_", "-")
        if value is True:
            words.append(option)
        else:
            for one in value if isinstance(value, list) else [value]:
                words += [option, shlex.quote(str(one))]
    return " ".join(words)
