"""`route`: which key would serve a request now, and why; `decisions`: why a request went where it went."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Annotated, Any, Optional
from urllib.parse import quote

import typer

from apikeyrouter_proxy.cli.console import about, note, print_json, print_table, say, styled
from apikeyrouter_proxy.cli.failures import FAILED, USAGE, CliError
from apikeyrouter_proxy.cli.keys import find_key
from apikeyrouter_proxy.cli.options import AsJson, EnvFile, Objective, Store, Url
from apikeyrouter_proxy.cli.service import Service, Where, open_service
from apikeyrouter_proxy.cli.times import moment

if TYPE_CHECKING:
    from rich.text import Text

__all__ = ["register"]


def register(app: typer.Typer) -> None:
    """Adds the verbs."""
    app.command("route")(route)
    group = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="Explain requests of the past.")
    group.command("show")(show)
    group.command("list")(list_)
    app.add_typer(group, name="decisions")


def route(
    model: Annotated[str, typer.Argument(help="Model of the request, such as gpt-4o-mini.")],
    explain: Annotated[  # noqa: ARG001 - the verb always explains; people write it
        bool, typer.Option("--explain", help="Show candidates, terms and refusals (always done).")
    ] = True,
    objective: Objective = None,
    message: Annotated[str, typer.Option("--message", "-m", help="The user's message.")] = "Hello!",
    provider: Annotated[Optional[str], typer.Option("--provider", help="Only keys of this provider.")] = None,  # noqa: UP045
    without: Annotated[
        Optional[list[str]],  # noqa: UP045
        typer.Option("--without", help="What if this key (label or id) were not there; may be repeated."),
    ] = None,
    key: Annotated[
        Optional[list[str]],  # noqa: UP045
        typer.Option("--key", help="What if there were this key (label or id) only; may be repeated."),
    ] = None,
    url: Url = None,
    store: Store = None,
    env_file: EnvFile = None,
    as_json: AsJson = False,
) -> None:
    """Say which key would serve a request now, and why. Nothing is sent. The exit status is 1 when none could.

    With --objective, --without or --key it also says what they change against the decision that is made without them.
    """
    body: dict[str, Any] = {"model": model, "messages": [{"role": "user", "content": message}]}
    if objective:
        body["objective"] = objective
    if provider:
        body["provider_id"] = provider
    with open_service(Where(url, store, env_file)) as service:
        if without or key:
            known = service.get("/api/v1/keys")["data"]
            body["without"] = [_known(known, name) for name in without or ()]
            body["keys"] = [_known(known, name) for name in key or ()]
        decision = service.send("POST", "/api/v1/route", body)
        labels = {} if as_json else _labels(service)
    if as_json:
        print_json(decision)
    else:
        _print_decision(decision, labels)
        if decision.get("compared"):
            _print_change(decision["compared"], labels)
    if decision["selected_key_id"] is None:
        raise typer.Exit(FAILED)


def show(
    decision_id: Annotated[str, typer.Argument(metavar="ID", help="x-akr-decision or x-request-id of an answer.")],
    url: Url = None,
    store: Store = None,
    env_file: EnvFile = None,
    as_json: AsJson = False,
) -> None:
    """Explain one decision: by its own id or by its request's."""
    with open_service(Where(url, store, env_file)) as service:
        decision = service.get(f"/api/v1/decisions/{quote(decision_id, safe='')}")
        labels = {} if as_json else _labels(service)
    if as_json:
        print_json(decision)
    else:
        _print_decision(decision, labels)


def list_(
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, max=500, help="How many.")] = 20,
    key: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option("--key", "-k", help="Only those that tried this key (label or id)."),
    ] = None,
    url: Url = None,
    store: Store = None,
    env_file: EnvFile = None,
    as_json: AsJson = False,
) -> None:
    """List the newest decisions, newest first."""
    with open_service(Where(url, store, env_file)) as service:
        only = f"&key_id={quote(find_key(service, key)['id'], safe='')}" if key else ""
        decisions = service.get(f"/api/v1/decisions?limit={limit}{only}")["data"]
        labels = {} if as_json else _labels(service)
    if as_json:
        print_json(decisions)
        return
    if not decisions:
        say(f"No request went to {key} yet." if key else "No request was routed yet.")
        return
    rows: list[list[Text | str]] = [
        [
            moment(one["decision_timestamp"]),
            one["id"],
            one["model"],
            one["objective"],
            _name(labels, one["selected_key_id"]),
            styled(one["outcome"], "green" if one["outcome"] == "ok" else "yellow"),
            str(len(one["attempts"])),
            "-" if one["input_tokens"] is None else f"{one['input_tokens']}+{about(one['output_tokens'])}",
            _usd(one["cost_usd"]),
        ]
        for one in decisions
    ]
    print_table(["when", "id", "model", "objective", "key", "outcome", "attempts", "tokens", "cost"], rows)
    note(f"Why that key: `apikeyrouter decisions show ID`, such as {decisions[0]['id']}.")


def _print_decision(decision: dict[str, Any], labels: dict[str, str]) -> None:
    say(decision["explanation"])
    _print_candidates(decision, labels)
    if decision["rejections"]:
        rows = [
            [
                _name(labels, one["key_id"]),
                one["provider_id"],
                one["code"],
                _bare(labels, one["key_id"], one["reason"]),
            ]
            for one in decision["rejections"]
        ]
        print_table(["refused", "provider", "code", "why"], rows)
    if decision["attempts"]:
        tried = [
            [
                _name(labels, one["key_id"]),
                one["outcome"],
                about(one["status"]),
                f"{one['duration_ms']:.0f} ms",
                about(one["detail"]),
            ]
            for one in decision["attempts"]
        ]
        print_table(["attempt with", "outcome", "status", "took", "detail"], tried)
    if decision["flip"]:
        say(f"What would change it: {decision['flip']}.")
    pool = decision.get("quota")
    if pool and pool["dry_p50_s"] is not None:
        say(f"Its quota pool is {pool['state']} and runs dry in about {pool['dry_p50_s']:.0f} s.")
    shadow = decision.get("shadow")
    if shadow and not shadow["same"]:
        cost = Decimal(str(shadow["cost_usd"]))
        say(f"Under {shadow['objective']}, {shadow['label']} would have served: expected cost {cost:+.9f} dollars.")


def _print_change(compared: dict[str, Any], labels: dict[str, str]) -> None:
    """What the wishes of a trial change."""
    say(f"Against the real decision: {compared['explanation']}")
    if not compared["same"]:
        say(f"Without these wishes {_name(labels, compared['selected_key_id'])} would serve ({compared['objective']}).")


def _known(keys: list[dict[str, Any]], name: str) -> str:
    """The id of the key that is meant."""
    for one in keys:
        if name in (one["id"], one["label"]):
            return str(one["id"])
    shown = ", ".join(sorted(one["label"] for one in keys)[:8]) or "none is registered"
    raise CliError(f"There is no key {name!r}. Keys are: {shown}.", USAGE)


def _print_candidates(decision: dict[str, Any], labels: dict[str, str]) -> None:
    """The keys that could serve, the chosen one first, with what their scores are made of."""
    kept = list(decision["alternatives_considered"])
    if decision["selected_key_id"] is not None:
        chosen = {
            "key_id": decision["selected_key_id"],
            "provider_id": decision["selected_provider_id"],
            "score_usd": decision["score_usd"],
            "terms_usd": decision["terms_usd"],
            "reason_not_selected": "",
        }
        kept.insert(0, chosen)
    if not kept:
        return
    terms = list(dict.fromkeys(name for one in kept for name in one["terms_usd"]))
    rows: list[list[Text | str]] = []
    for one in kept:
        selected = one["key_id"] == decision["selected_key_id"]
        rows.append(
            [
                styled(_name(labels, one["key_id"]), "bold green" if selected else ""),
                one["provider_id"],
                _usd(one["score_usd"]),
                *(_usd(one["terms_usd"].get(name)) for name in terms),
                styled("selected", "green") if selected else _bare(labels, one["key_id"], one["reason_not_selected"]),
            ]
        )
    print_table(["candidate", "provider", "score (lower is better)", *terms, "outcome"], rows)


def _labels(service: Service) -> dict[str, str]:
    return {key["id"]: key["label"] for key in service.get("/api/v1/keys")["data"]}


def _name(labels: dict[str, str], key_id: str | None) -> str:
    return "-" if key_id is None else labels.get(key_id, key_id)


def _bare(labels: dict[str, str], key_id: str, reason: str) -> str:
    """A reason without the label that it begins with: the table has it already."""
    return reason.removeprefix(f"{_name(labels, key_id)}: ")


def _usd(amount: Any) -> str:
    """Nine decimals: a thousandth of a millionth dollar is what one token of a small model costs."""
    return "-" if amount is None else f"${Decimal(str(amount)):.9f}"
