"""`simulate`: our router in virtual time, beside other policies and an oracle; `simulate plan`: what keys you need.

Main entry: `register`. The router is the production one. Nothing is sent anywhere and no store is touched; an hour of
traffic takes seconds. Exit status 1 when a law was broken, or when `plan` finds nothing that reaches the target.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Optional

import typer

from apikeyrouter_proxy.cli.console import note, print_json, print_table, say
from apikeyrouter_proxy.cli.failures import FAILED, USAGE, CliError
from apikeyrouter_proxy.cli.progress import steps
from apikeyrouter_proxy.cli.simulate_options import Asked, command_of, replay, traffic_maker, world_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from apikeyrouter.simulation.world.plan import Option
    from apikeyrouter.simulation.world.report import Timeline
    from apikeyrouter.simulation.world.run import Cell, Run
    from apikeyrouter.simulation.world.scenarios import Figure
    from apikeyrouter.simulation.world.spec import PoolSpec, World
    from apikeyrouter.simulation.world.traffic import Traffic

__all__ = ["register"]

_USUAL = "round-robin,cooldown,litellm-shuffle,oracle,ours"


@dataclass(frozen=True)
class _More:
    policy: Annotated[str, typer.Option(help="Policies side by side; all: every one.")] = _USUAL
    scenario: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(help="A preset instead: outage, gray, overload or aggressor."),
    ] = None
    check: Annotated[bool, typer.Option("--check", help="Check the router's laws in random worlds instead.")] = False
    html: Annotated[Optional[Path], typer.Option(help="Write a page with plots to this file.")] = None  # noqa: UP045
    json: Annotated[Optional[Path], typer.Option(help="Write the figures to this file; - prints them.")] = None  # noqa: UP045


@dataclass(frozen=True)
class _Goal:
    target: Annotated[float, typer.Option(min=0.01, max=1.0, help="The share of requests to be served.")] = 0.99
    json: Annotated[Optional[Path], typer.Option(help="Write the plan to this file; - prints it.")] = None  # noqa: UP045


def register(app: typer.Typer) -> None:
    """Adds the group."""
    group = typer.Typer(invoke_without_command=True, rich_markup_mode=None)
    group.callback()(command_of(_unless_plan, _More))
    group.command("plan")(command_of(plan, _Goal))
    app.add_typer(group, name="simulate")


def _unless_plan(asked: Asked, more: dict[str, Any]) -> None:
    """See what our router would have done with your traffic and keys, beside other policies and an oracle."""
    if more.pop("context").invoked_subcommand is None:
        simulate(asked, _More(**more))


def simulate(asked: Asked, more: _More) -> None:
    """One world and several policies, or a scenario, or the laws in random worlds."""
    from apikeyrouter.simulation.world.arena import names_of

    if more.check:
        _check(asked)
        return
    _can_be_written(more.html, more.json)
    try:
        names = names_of(more.policy)
    except ValueError as fault:
        raise CliError(f"--policy: {fault}.", USAGE) from None
    if more.scenario is not None:
        _scenario(asked, more, names)
    else:
        _compare(asked, more, names)


# -- policies side by side --------------------------------------------------------------------------------------------


def _compare(asked: Asked, more: _More, names: list[str]) -> None:
    from apikeyrouter.simulation.world.arena import compete, fault_of
    from apikeyrouter.simulation.world.report import timeline, to_html, to_json

    traffic_of = traffic_maker(asked)
    first = traffic_of(asked.seed)
    world = world_of(asked, first)
    if (fault := fault_of(names, world)) is not None:
        raise CliError(f"--policy: {fault}.", USAGE)
    lines: dict[str, Timeline] = {}
    broken: list[str] = []

    def seen(run: Run, step: Callable[[str], None]) -> None:
        step("")
        note(f"{run.policy}, seed {run.seed}: {sum(run.served):,} of {len(run.traffic):,} served")
        if run.seed == asked.seed:
            lines[run.policy] = timeline(run)
        if run.violations:
            broken.append(f"{run.violations[0]}\n  replay: {replay(asked, seed=run.seed, seeds=1)}")

    with steps("Simulating", len(names) * asked.seeds, quiet=str(more.json) == "-") as step:
        cells = compete(
            names,
            world,
            lambda seed: _loaded(asked, traffic_of(seed), world),
            seeds=range(asked.seed, asked.seed + asked.seeds),
            deadline_s=asked.deadline,
            ours=_ours(asked),
            on_run=lambda run: seen(run, step),
        )
    about = _about(world, _loaded(asked, first, world))
    known = {"world": about, "replay": replay(asked), "pools": [_pool_facts(pool) for pool in world.pools]}
    if more.html is not None:
        _write(more.html, to_html("apikeyrouter simulate", about, cells, list(lines.values())))
    if not _as_json(more.json, to_json(known, cells)):
        say(about)
        _table(cells)
    _stop_if(broken)


def _loaded(asked: Asked, traffic: Traffic, world: World) -> Traffic:
    """Faster or slower where both pools and a load were given."""
    if asked.load is None or (asked.pool is None and asked.keys is None):
        return traffic
    from apikeyrouter.simulation.world.traffic import capacity_load

    if capacity_load(traffic, world) <= 0:
        raise CliError("--load needs limits a minute on every pool: give rpm or tpm to each, or leave it out.", USAGE)
    return traffic.at_load(world, asked.load)


def _ours(asked: Asked) -> Any:
    from apikeyrouter.domain.models.routing_decision import ObjectiveType
    from apikeyrouter.simulation.world.ours import Ours

    if asked.objective is not None and asked.objective not in list(ObjectiveType):
        raise CliError(f"--objective {asked.objective!r} is not one of {', '.join(ObjectiveType)}.", USAGE)
    return Ours(asked.objective, check=True)


def _about(world: World, traffic: Traffic) -> str:
    from apikeyrouter.simulation.world.traffic import capacity_load

    minutes = traffic.duration_s / 60
    load = capacity_load(traffic, world)
    asked = f"{load:.0%} of capacity" if load else "no limit a minute"
    foreign = f", others use {world.foreign_ratio:.0%}" if world.foreign_ratio else ""
    counts = "count" if world.refused_count else "are free"
    return (
        f"{_counted(len(traffic), 'request')} in {minutes:.1f} minutes, {asked}{foreign}; "
        f"{_counted(len(world.pools), 'pool')} with {_counted(world.keys, 'key')}, {world.enforcement} of "
        f"{world.horizon_s:g} s, refusals {counts}"
    )


def _table(cells: Sequence[Cell]) -> None:
    print_table(
        ["policy", "served", "of oracle", "sends", "429 per 100", "wait p50", "wait p99", "fairness", "regret $/1k"],
        [
            [
                cell.policy,
                f"{cell.success_ratio:.1%}",
                "" if cell.of_oracle_ratio is None else f"{cell.of_oracle_ratio:.1%}",
                f"{cell.attempts:.2f}",
                f"{cell.refused_per_100:.1f}",
                f"{cell.wait_p50_s:.2f} s",
                f"{cell.wait_p99_s:.2f} s",
                f"{cell.jain:.3f}",
                f"{cell.regret_usd:.3f}",
            ]
            for cell in cells
        ],
    )


# -- scenarios and laws -----------------------------------------------------------------------------------------------


def _scenario(asked: Asked, more: _More, names: list[str]) -> None:
    from apikeyrouter.simulation.world.arena import run_one
    from apikeyrouter.simulation.world.scenarios import SCENARIOS, measure

    if more.scenario not in SCENARIOS:
        raise CliError(f"There is no scenario {more.scenario!r}; known are {', '.join(SCENARIOS)}.", USAGE)
    scenario = SCENARIOS[more.scenario](asked.seed)
    broken: list[str] = []

    def run_of(name: str, traffic: Traffic) -> Run:
        run = run_one(name, scenario.world, traffic, seed=asked.seed, deadline_s=asked.deadline, ours=_ours(asked))
        note(f"{name}: {sum(run.served):,} of {len(traffic):,} served")
        if run.violations:
            broken.append(f"{run.violations[0]}\n  replay: {replay(asked)} --scenario {scenario.name} --policy {name}")
        return run

    found = measure(scenario, run_of, names)
    rows = {name: {one.label: one.value for one in said} for name, said in found.items()}
    if not _as_json(more.json, {"scenario": scenario.name, "about": scenario.about, "policies": rows}):
        say(f"{scenario.name}: {scenario.about}")
        _figures(found)
    _stop_if(broken)


def _figures(found: dict[str, list[Figure]]) -> None:
    first = next(iter(found.values()))
    rows = []
    for place, figure in enumerate(first):
        target = "" if figure.bound is None else f"{'<=' if figure.at_most else '>='} {figure.bound:g}"
        rows.append([figure.label, *[f"{said[place].value:.4g}" for said in found.values()], target])
    print_table(["figure", *found, "target"], rows)


def _check(asked: Asked) -> None:
    from apikeyrouter.simulation.world.chaos import REQUESTS, check_seed, replay_line

    requests = asked.requests or REQUESTS
    broken = []
    with steps("Checking random worlds", asked.seeds) as step:
        for seed in range(asked.seed, asked.seed + asked.seeds):
            run = check_seed(seed, requests)
            broke = _counted(len(run.violations), "violation")
            note(f"seed {seed}: {sum(run.served):,} of {requests:,} served, {broke}")
            if run.violations:
                broken.append("\n".join([*run.violations[:10], f"  replay: {replay_line(seed, requests)}"]))
            step("")
    _stop_if(broken)
    asked_for = _counted(asked.seeds * requests, "request")
    say(f"No law was broken by {asked_for} in {_counted(asked.seeds, 'random world')}.")


def _stop_if(broken: list[str]) -> None:
    if broken:
        shown = "\n".join(broken[:20])
        raise CliError(
            f"The router broke its laws. This is a fault of ApiKeyRouter; please report it.\n{shown}", FAILED
        )


# -- plan my keys -----------------------------------------------------------------------------------------------------


def plan(asked: Asked, more: dict[str, Any]) -> None:
    """Plan your keys: how well your own log is served with the keys you have, and what would reach a target."""
    from apikeyrouter.simulation.world import plan as planning

    if asked.pool is None and asked.keys is None:
        raise CliError("Say what keys you have: --pool rpm=500,tpm=200000 x2, or --keys FILE.", USAGE)
    goal = _Goal(target=more["target"], json=more["json"])
    _can_be_written(goal.json)
    traffic = traffic_maker(asked)(asked.seed)
    world = world_of(asked, traffic)
    made = planning.plan(
        world,
        _loaded(asked, traffic, world),
        goal.target,
        seeds=range(asked.seed, asked.seed + asked.seeds),
        deadline_s=asked.deadline,
        ours=_ours(asked),
        on_trial=lambda option: note(f"{option.about}: {option.cell.success_ratio:.2%} served"),
    )
    options = {"now": made.now, "tier": made.tier, "keys": made.keys}
    facts = {name: None if option is None else _option_facts(option) for name, option in options.items()}
    if not _as_json(goal.json, {"target": goal.target, "log": _about(world, traffic), **facts}):
        say(_about(world, traffic))
        _tell_plan(goal.target, made.now, made.tier, made.keys)
    if made.tier is None and made.keys is None:
        raise CliError(
            f"Nothing reaches {goal.target:.1%}: neither 64 times the limits nor 64 pools. Are some requests larger "
            "than any limit, or is everything down at some time?",
            FAILED,
        )


def _tell_plan(target: float, now: Option, tier: Option | None, keys: Option | None) -> None:
    rows = [["now", *_cells(now)]]
    rows += [[f"least {what}", *_cells(found)] for what, found in (("tier", tier), ("keys", keys)) if found is not None]
    print_table(["", "keys", "load", "served", "sends", "wait p99"], rows)
    met = now.cell.success_ratio >= target
    say(f"The target of {target:.1%} is {'met' if met else 'not met'} as it is.")
    if tier is not None and tier.about != "1 x the limits":
        say(f"{tier.about} on every pool would {'still be enough' if met else 'reach it'}.")
    if keys is not None and len(keys.pools) != len(now.pools):
        word = "still be enough" if met else "reach it"
        instead = f"{_counted(len(keys.pools), 'pool')} instead of {len(now.pools)}"
        say(f"{instead} would {word}; each needs limits of its own.")


def _cells(option: Option) -> list[str]:
    cell = option.cell
    keys = sum(pool.keys for pool in option.pools)
    return [
        f"{keys} in {_counted(len(option.pools), 'pool')}, {option.about}",
        f"{option.load:.0%}" if option.load else "",
        f"{cell.success_ratio:.2%}",
        f"{cell.attempts:.2f}",
        f"{cell.wait_p99_s:.2f} s",
    ]


def _option_facts(option: Option) -> dict[str, Any]:
    cell = option.cell
    return {
        "about": option.about,
        "load": option.load,
        "success_ratio": cell.success_ratio,
        "attempts": cell.attempts,
        "refused_per_100": cell.refused_per_100,
        "pools": [_pool_facts(pool) for pool in option.pools],
    }


def _pool_facts(pool: PoolSpec) -> dict[str, Any]:
    return {
        "name": pool.name, "keys": pool.keys, "rpm": pool.rpm, "tpm": pool.tpm, "itpm": pool.itpm, "otpm": pool.otpm,
        "concurrency": pool.concurrency,
    }  # fmt: skip


# -- files ------------------------------------------------------------------------------------------------------------


def _can_be_written(*paths: Path | None) -> None:
    """Told before minutes of work, not after them. Leaves nothing behind, and a reader who waits at a pipe waiting."""
    for path in paths:
        if path is None or str(path) == "-" or path.is_fifo():
            continue
        new = not path.exists()
        try:
            with path.open("a", encoding="utf-8"):
                pass
            if new:
                path.resolve().unlink()  # not a link that names it
        except OSError as fault:
            raise _cannot(path, fault) from None


def _as_json(path: Path | None, document: dict[str, Any]) -> bool:
    """Writes JSON where it was asked for; whether it went to standard output, which then has nothing else."""
    import json

    if path is None:
        return False
    if str(path) == "-":
        print_json(document)
        return True
    _write(path, json.dumps(document, indent=2, default=str) + "\n")
    return False


def _write(path: Path, text: str) -> None:
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as fault:
        raise _cannot(path, fault) from None
    note(f"Wrote {path}")


def _cannot(path: Path, fault: OSError) -> CliError:
    return CliError(f"{path} cannot be written: {fault.strerror or type(fault).__name__}.", FAILED)


def _counted(count: int, word: str) -> str:
    return f"{count:,} {word}{'s' * (count != 1)}"
