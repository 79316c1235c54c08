"""`quota`: what every quota pool has left, and when it runs dry: a table with bars, a picture that renews itself, JSON.

A row is one limit of one pool; pools that are dry or will be soonest come first. Laws: colour adds nothing that a word
does not say; what is not known is said to be unknown, with what to do about it.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import TYPE_CHECKING, Annotated, Any, Optional
from urllib.parse import urlencode

import typer

from apikeyrouter_proxy.cli.bars import bar
from apikeyrouter_proxy.cli.completing import key_names, model_names
from apikeyrouter_proxy.cli.console import note, print_json, print_table, say, styled
from apikeyrouter_proxy.cli.failures import USAGE, CliError
from apikeyrouter_proxy.cli.keys import find_key
from apikeyrouter_proxy.cli.options import AsJson, EnvFile, Store, Url
from apikeyrouter_proxy.cli.service import Service, Where, open_service

if TYPE_CHECKING:
    from rich.text import Text

__all__ = ["register"]

_PATH = "/api/v1/quota"
_PAGE = 500
_STYLES = {
    "abundant": "green",
    "constrained": "yellow",
    "critical": "red",
    "exhausted": "bold red",
    "recovering": "cyan",
    "unknown": "dim",
}
_COLUMNS = ["pool", "keys", "limit", "left", "", "told by", "state", "outlook"]
_LABELS_SHOWN = 3
_CLEAR = "\x1b[H\x1b[2J\x1b[3J"


def register(app: typer.Typer) -> None:
    """Adds the verb."""
    app.command("quota")(quota)


def quota(
    provider: Annotated[Optional[str], typer.Option("--provider", "-p", help="Only pools of this provider.")] = None,  # noqa: UP045
    key: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(
            "--key",
            "-k",
            help="Only the pool of this key: its label, or the beginning of its id.",
            autocompletion=key_names,
        ),
    ] = None,
    model: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option("--model", "-m", help="Only limits that count for this model.", autocompletion=model_names),
    ] = None,
    most: Annotated[int, typer.Option("--most", min=1, max=_PAGE, help="How many pools, the most urgent first.")] = 50,
    watch: Annotated[bool, typer.Option("--watch", "-w", help="Show it again and again, until Ctrl-C.")] = False,
    every_s: Annotated[float, typer.Option("--every", min=0.2, max=3600, help="Seconds between two pictures.")] = 2.0,
    url: Url = None,
    store: Store = None,
    env_file: EnvFile = None,
    as_json: AsJson = False,
) -> None:
    """Show what every quota pool has left, and when it runs dry."""
    if watch and as_json:
        raise CliError("Give --watch or --json: one is for people, the other is one document.", USAGE)
    with open_service(Where(url, store, env_file)) as service:
        asked = {"order": "urgency", "limit": str(most)}
        if provider:
            asked["provider_id"] = provider
        if key:
            asked["key_id"] = find_key(service, key)["id"]
        if model:
            asked["model"] = model
        path = f"{_PATH}?{urlencode(asked)}"
        if as_json:
            print_json(service.get(path)["data"])
        elif watch:
            _watch(service, path, every_s)
        else:
            _print(service.get(path))


def _watch(service: Service, path: str, every_s: float) -> None:
    """One picture after the other; on a terminal each takes the place of the one before."""
    import asyncio

    from apikeyrouter.infrastructure.clock import SystemClock

    clock = SystemClock()
    with asyncio.Runner() as runner:
        runner.get_loop()  # made before the first picture, so that Ctrl-C meets none half made
        while True:
            page = service.get(path)
            if sys.stdout.isatty():
                sys.stdout.write(_CLEAR)
            say(f"Quota at {clock.utc_now().astimezone():%H:%M:%S}, every {every_s:g} s; Ctrl-C ends it.")
            _print(page)
            runner.run(clock.sleep(every_s))


def _print(page: dict[str, Any]) -> None:
    pools = page["data"]
    if not pools:
        say("There is no quota pool: no key is registered. Add one with `apikeyrouter keys add`.")
        return
    print_table(_COLUMNS, [row for pool in pools for row in _rows(pool)])
    for hint in _hints(pools):
        note(hint)
    if page["total"] > len(pools):
        note(f"{page['total'] - len(pools)} more pools are less urgent: --most, --provider or --key shows others.")
    if page.get("worker") is not None:
        note(
            f"Worker {page['worker']} answered. What several workers count apart, the provider's next word puts right."
        )


def _rows(pool: dict[str, Any]) -> Iterable[list[Text | str]]:
    """One row for each known limit; the pool's name and keys stand in the first."""
    name, keys = _name(pool), _keys(pool)
    known = [limit for limit in pool["limits"] if limit["limit"] is not None]
    if not known:
        used = sum(limit["used"] + limit["held"] for limit in pool["limits"] if limit["name"] == "requests per minute")
        state = pool["capacity_state"]
        yield [name, keys, "no limit known", f"{used:,} requests in the last minute", "", "-", _state(state), "-"]
    for limit in known:
        left = limit["remaining"] / limit["limit"] if limit["limit"] else 0.0
        picture = bar(left, warn=False)
        state = limit["state"] if limit["state"] != "unknown" else _by_share(left)
        picture.stylize(_STYLES[state])
        yield [
            name,
            keys,
            limit["name"] if limit["models"] == "*" else f"{limit['name']}, {limit['models']}",
            picture,
            f"{limit['remaining']:,} of {limit['limit']:,}",
            _told_by(limit),
            _state(state),
            limit["prediction"]["text"] if limit["prediction"] else _not_foreseen(limit, pool),
        ]
        name = keys = ""


def _hints(pools: list[dict[str, Any]]) -> Iterable[str]:
    """What a person should know or do."""
    names = {pool["pool_id"]: _name(pool) for pool in pools}
    told: set[frozenset[str]] = set()
    for pool in pools:
        for other in pool["suspected_same"]:
            pair = frozenset((pool["pool_id"], other))
            if pair not in told:
                told.add(pair)
                yield (
                    f"{_name(pool)} and {names.get(other, other)} seem to be one account: what one takes, the other "
                    "loses. Give their keys the same metadata quota_pool."
                )
        if pool["burst_horizon_s"] < 60.0:
            yield (
                f"{_name(pool)} refuses bursts: it seems to count over {pool['burst_horizon_s']:g} s, so requests are "
                "spread."
            )
    unknown = [_name(pool) for pool in pools if all(limit["limit"] is None for limit in pool["limits"])]
    if unknown:
        few = ", ".join(unknown[:3]) + (f" and {len(unknown) - 3} more" if len(unknown) > 3 else "")
        yield (
            f"No limit is known of {few}: the provider has told none so far. Requests and refusals teach it; or say it "
            "in the keys' metadata: rpm, tpm, rpd, tpd, or tier."
        )


def _name(pool: dict[str, Any]) -> str:
    """The pool's id; of a key that has one for itself, its label."""
    provider, _, name = pool["pool_id"].partition("/")
    return f"{provider}/{pool['key_labels'][0]}" if [name] == pool["key_ids"] else str(pool["pool_id"])


def _keys(pool: dict[str, Any]) -> str:
    labels = pool["key_labels"]
    rest = len(labels) - _LABELS_SHOWN
    return ", ".join(labels[:_LABELS_SHOWN]) + (f" and {rest} more" if rest > 0 else "")


def _state(state: str) -> Text:
    return styled(state, _STYLES.get(state, ""))


def _by_share(left_ratio: float) -> str:
    """A word for a limit of which nothing is foreseen; as the engine has it for pools."""
    if left_ratio <= 0.0:
        return "exhausted"
    return "critical" if left_ratio < 0.2 else "constrained" if left_ratio < 0.5 else "abundant"


def _told_by(limit: dict[str, Any]) -> str:
    source = str(limit["source"]).replace("_", " ")
    return source if limit["age_s"] is None else f"{source}, {_age(limit['age_s'])} ago"


def _age(seconds: float) -> str:
    from apikeyrouter.domain.quota.capacity import duration_text

    return duration_text(seconds)


def _not_foreseen(limit: dict[str, Any], pool: dict[str, Any]) -> str:
    if not limit["period_s"]:
        return "-"  # places under way are free again when requests end
    outlook = pool["outlook"] if pool["outlook"] in ("not in use", "not foreseen") else "not in use"
    return outlook if limit["resets_in_s"] is None else f"{outlook}, resets in {_age(limit['resets_in_s'])}"
