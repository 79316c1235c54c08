"""`prices`: what models cost and where that comes from, and prices of your own: show, list, set, remove.

Prices are US dollars. Laws: amounts are shown exactly; a price that is set always says what it is for (per 1K or per 1M
tokens); what the words mean is read by the management API, so that both surfaces understand the same.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Annotated, Any, Optional
from urllib.parse import quote, urlencode

import typer

from apikeyrouter_proxy.cli.console import came_from, note, print_json, print_table, say
from apikeyrouter_proxy.cli.failures import FAILED, USAGE, CliError
from apikeyrouter_proxy.cli.options import AsJson, EnvFile, Store, Url
from apikeyrouter_proxy.cli.service import Service, Where, open_service

__all__ = ["register"]

_PATH = "/api/v1/prices"
_ALSO_SHOWN = 6
_LIST_LIMIT = 1000
_LABELS = {
    "input": "input",
    "output": "output",
    "cached_input": "cached input",
    "cache_write": "cache write",
    "cache_write_1h": "cache write, 1 hour",
    "reasoning": "reasoning",
    "citation": "citations",
    "audio_input": "audio in",
    "audio_output": "audio out",
    "cached_audio": "cached audio",
    "image_input": "image in",
    "image_output": "image out",
    "cached_image": "cached image",
    "video_input": "video in",
    "video_output": "video out",
}
_Model = Annotated[str, typer.Argument(metavar="MODEL", help="As requests name it, such as gpt-4o-mini.")]
_Pattern = Annotated[str, typer.Argument(metavar="MODEL", help='A model, or a pattern such as "gpt-4o*".')]
_Provider = Annotated[Optional[str], typer.Option("--provider", "-p", help="Whose price.")]  # noqa: UP045


def register(app: typer.Typer) -> None:
    """Adds the group."""
    group = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="See what models cost, and set your prices.")
    for verb in (show, set_, remove):
        group.command(verb.__name__.rstrip("_"))(verb)
    group.command("list")(list_)
    app.add_typer(group, name="prices")


def show(
    model: _Model,
    provider: _Provider = None,
    at: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option("--at", metavar="DAY", help="What it cost on that day: 2026-03-01."),
    ] = None,
    url: Url = None,
    store: Store = None,
    env_file: EnvFile = None,
    as_json: AsJson = False,
) -> None:
    """Show what a model costs, by class, where the price comes from and since when."""
    with open_service(Where(url, store, env_file)) as service:
        others: list[str] = []
        if provider is None:
            provider, *others = _sellers(service, model) or ["*"]
        query = f"?{urlencode({'at': _moment(at)})}" if at else ""
        price = service.get(f"{_of(provider, model)}{query}")
    if as_json:
        print_json(price)
        return
    _tell(price)
    if others:
        more = f" and {len(others) - _ALSO_SHOWN} more" if len(others) > _ALSO_SHOWN else ""
        note(f"Also sold by {', '.join(others[:_ALSO_SHOWN])}{more}; see them with --provider.")


def list_(
    provider: _Provider = None,
    contains: Annotated[str, typer.Option("--contains", "-c", help="Only models with this in their name.")] = "",
    url: Url = None,
    store: Store = None,
    env_file: EnvFile = None,
    as_json: AsJson = False,
) -> None:
    """List a provider's prices; without a provider, the prices that you have set."""
    with open_service(Where(url, store, env_file)) as service:
        if provider is None:
            rows = service.get(f"{_PATH}/overrides")["data"]
            rows = [row for row in rows if contains.lower() in row["model"].lower()]
        else:
            wanted = {"provider_id": provider, "contains": contains, "limit": _LIST_LIMIT}
            rows = service.get(f"{_PATH}?{urlencode(wanted)}")["data"]
    if as_json:
        print_json(rows)
    elif provider is None:
        _tell_overrides(rows)
    elif not rows:
        raise CliError(f"No price of provider {provider!r} is known{' with that name' if contains else ''}.", FAILED)
    else:
        cells = [
            [
                row["model"],
                *[_dollars(row["prices"].get(name)) for name in ("input", "output", "cached_input")],
                _extra(row),
            ]
            for row in rows
        ]
        print_table(["model", "in $/1M", "out $/1M", "cached $/1M", "more"], cells)


def set_(
    model: _Pattern,
    amounts: Annotated[
        list[str],
        typer.Argument(metavar="NAME=USD...", help="input=2.50 output=10 cached_input=1.25, or multiplier=0.8"),
    ],
    per: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option("--per", help="What the amounts are for: 1m or 1k tokens."),
    ] = None,
    provider: Annotated[str, typer.Option("--provider", "-p", help="Whose price; * for every provider.")] = "*",
    begin: Annotated[Optional[str], typer.Option("--from", metavar="DAY", help="Holds from that day on.")] = None,  # noqa: UP045
    until: Annotated[Optional[str], typer.Option("--until", metavar="DAY", help="Holds until before it.")] = None,  # noqa: UP045
    text: Annotated[str, typer.Option("--note", help="For people.")] = "",
    url: Url = None,
    store: Store = None,
    env_file: EnvFile = None,
    as_json: AsJson = False,
) -> None:
    """Set a price of your own, in US dollars. It holds from now on, or from its date; old requests keep theirs.

    Names are those that `prices show --json` has: input, output, cached_input, cache_write, reasoning, audio_input,
    image_output ...; also per_request, and multiplier: times the list price instead.
    """
    body: dict[str, Any] = dict(_amounts(amounts))
    if per is not None:
        body["unit"] = f"per_{per.strip().lower().removeprefix('per_')}"
    elif any(name in _LABELS for name in body):
        raise CliError("Say what the amounts are for: --per 1m or --per 1k tokens.", USAGE)
    about = {"effective_from": begin, "effective_until": until, "note": text}
    body |= {name: value for name, value in about.items() if value}
    with open_service(Where(url, store, env_file)) as service:
        made = service.send("PUT", _of(provider, model), body)
    if as_json:
        print_json(made)
        return
    when = "" if made["in_force"] else f" It begins {made['document'].get('effective_from', 'later')}."
    say(f"Set the price of {made['model']} at {_at(made['provider'])}.{when}")


def remove(
    model: _Pattern,
    provider: Annotated[str, typer.Option("--provider", "-p", help="As it was set; * for every provider.")] = "*",
    url: Url = None,
    store: Store = None,
    env_file: EnvFile = None,
) -> None:
    """Remove a price that you have set; the list's price holds again."""
    with open_service(Where(url, store, env_file)) as service:
        service.send("DELETE", _of(provider, model))
    say(f"Removed the price of {model} at {_at(provider)}.")


def _sellers(service: Service, model: str) -> list[str]:
    rows = service.get(f"{_PATH}?{urlencode({'model': model})}")["data"]
    return [row["provider_id"] for row in rows]


def _of(provider: str, model: str) -> str:
    return f"{_PATH}/{quote(provider, safe='*')}/{quote(model, safe='/*:')}"


def _moment(day: str) -> str:
    return day if "T" in day else f"{day}T12:00:00Z"


def _at(provider: str) -> str:
    return "every provider" if provider == "*" else provider


def _amounts(given: list[str]) -> dict[str, str]:
    found: dict[str, str] = {}
    for pair in given:
        name, equals, amount = (part.strip() for part in pair.partition("="))
        if not equals or name not in (*_LABELS, "multiplier", "per_request"):
            known = ", ".join((*_LABELS, "per_request", "multiplier"))
            raise CliError(f"{pair!r} is no amount: write NAME=USD with one of {known}.", USAGE)
        found[name] = amount
    return found


def _dollars(amount: str | None) -> str:
    return "" if amount is None else f"${Decimal(amount).normalize():f}"


def _extra(row: dict[str, Any]) -> str:
    found = [_LABELS.get(name, name) for name in row["prices"] if name not in ("input", "output", "cached_input")]
    found += [f"over {band['over']:,}" for band in row["long_context"]]
    return ", ".join([*found, *row["tiers"], *(f"per {name}" for name in row["fees"])])


def _tell(price: dict[str, Any]) -> None:
    say(f"{price['model']} at {_at(price['provider_id'])}")
    since = f", since {price['since']}" if price["since"] else ""
    say(f"Price from: {price['source']}{since}")
    if price["context_window"]:
        say(f"Context window: {price['context_window']:,} tokens")
    bands, tiers = price["long_context"], price["tiers"]
    columns = ["class", "$/1M tokens", *[f"over {band['over']:,}" for band in bands], *tiers]
    others = [*(band["prices"] for band in bands), *tiers.values()]
    names = [name for name in _LABELS if any(name in prices for prices in (price["prices"], *others))]
    rows = [
        [_LABELS[name], _dollars(price["prices"].get(name)), *[_dollars(prices.get(name)) for prices in others]]
        for name in names
    ]
    if rows:
        print_table(columns, rows)
    if Decimal(price["per_request"]):
        say(f"Each request: {_dollars(price['per_request'])}")
    for name, amount in price["fees"].items():
        say(f"Each of {name.replace('_', ' ')}: {_dollars(str(round(Decimal(amount), 12)))}")
    if not price["by_tokens"]:
        say("Tokens are not what is sold, so a hard budget refuses this model.")
    if price["override"]:
        say(f"Set by you ({price['override']['origin']}).")


def _tell_overrides(rows: list[dict[str, Any]]) -> None:
    if not rows:
        say("You have set no price; the price list holds. `apikeyrouter prices show MODEL` tells what it says.")
        return
    cells = []
    for row in rows:
        written = row["document"]
        about = [f"{name}={written[name]}" for name in (*_LABELS, "multiplier", "per_request") if name in written]
        about += [name for name in ("long_context", "tiers", "fees") if name in written]
        dates = f"{written.get('effective_from', '')} to {written.get('effective_until', '')}".strip()
        held = "yes" if row["in_force"] else "no"
        cells.append(
            [
                _at(row["provider"]),
                row["model"],
                ", ".join(about),
                written.get("unit", ""),
                held,
                "" if dates == "to" else dates,
                came_from(row),
            ]
        )
    print_table(["provider", "model", "price", "unit", "in force", "dates", "from"], cells)
