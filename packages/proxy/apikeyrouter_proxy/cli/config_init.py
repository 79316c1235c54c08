"""What `config init` asks, and the file that it writes of the answers.

Main entries: `answers_of` and `written`. Law: no secret is asked for or written: the file refers to variables of the
environment, and says which ones are still to be set.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

__all__ = ["Answers", "answers_of", "written"]

_OBJECTIVES = ("fairness", "cost", "reliability", "latency", "quality", "balanced")


@dataclass(slots=True)
class Answers:
    """What the user wants. `keys`: (label, provider, variable). `limit_usd`: per day, "" for none."""

    keys: list[tuple[str, str, str]] = field(default_factory=list)
    objective: str = "fairness"
    limit_usd: str = "5"
    admin_key: bool = False
    port: int = 8000


def answers_of(environ: Mapping[str, str], *, ask: bool) -> Answers:
    """Answers of a person, or what follows from the environment."""
    from apikeyrouter_proxy.env_keys import read_env_keys

    found, _, _ = read_env_keys(environ)
    answers = Answers(admin_key=bool(environ.get("APIKEYROUTER_ADMIN_KEY", "").strip()))
    counts: dict[str, int] = {}
    for key in found:
        if any(variable == key.variable for _, _, variable in answers.keys):
            continue  # several keys in one variable: the environment goes on serving them
        counts[key.provider_id] = counts.get(key.provider_id, 0) + 1
        answers.keys.append((f"{key.provider_id}-{counts[key.provider_id]}", key.provider_id, key.variable))
    if ask:
        _ask(answers)
    if not answers.keys:
        answers.keys.append(("openai-1", "openai", "OPENAI_API_KEY"))
    return answers


def _ask(answers: Answers) -> None:
    import typer

    from apikeyrouter_proxy.cli.console import say

    if answers.keys:
        say("Keys in the environment, which the file will refer to:")
        for label, provider, variable in answers.keys:
            say(f"  {label}: ${{{variable}}} ({provider})")
    while typer.confirm("Add a key of a provider?", default=not answers.keys):
        provider = typer.prompt("Provider (`apikeyrouter providers list` shows all)", default="openai").strip().lower()
        suggested = f"{provider.upper().replace('-', '_')}_API_KEY"
        variable = typer.prompt("Variable that holds the key (not the key itself)", suggested).strip()
        number = sum(one == provider for _, one, _ in answers.keys) + 1
        answers.keys.append((f"{provider}-{number}", provider, variable))
    say("What should be optimised? fairness takes turns, cost takes the cheapest, reliability the healthiest key.")
    answers.objective = typer.prompt("Objective", default="fairness").strip().lower()
    while answers.objective not in _OBJECTIVES:
        answers.objective = typer.prompt(f"One of {', '.join(_OBJECTIVES)}", default="fairness").strip().lower()
    answers.limit_usd = typer.prompt("Limit of spend per day in US dollars (0: none)", default="5").strip().lstrip("$")
    answers.admin_key = typer.confirm("Demand an admin key for management (recommended)?", default=True)
    answers.port = typer.prompt("Port", default=8000, type=int)


def written(answers: Answers) -> str:
    """The file."""
    lines = [
        "# Configuration of ApiKeyRouter. Every member: docs/reference/configuration.md, `apikeyrouter config schema`.",
        "# To let an editor complete it: apikeyrouter config schema > apikeyrouter.schema.json",
        "# yaml-language-server: $schema=./apikeyrouter.schema.json",
        "version: 1",
        "",
        "server:",
        f"  port: {answers.port}",
    ]
    lines += (
        ["  # Opens the management API. Make one with: openssl rand -hex 24", "  admin_key: ${APIKEYROUTER_ADMIN_KEY}"]
        if answers.admin_key
        else ["  # admin_key: ${APIKEYROUTER_ADMIN_KEY}   # opens the management API to whoever has it"]
    )
    lines += [
        "",
        "# fairness takes turns; cost takes the cheapest key, reliability the healthiest, latency the fastest.",
    ]
    lines += [
        f"objective: {answers.objective}",
        "",
        "# Keys of providers. Secrets stay where they are; this file refers to them.",
    ]
    lines += ["keys:"]
    for label, provider, variable in answers.keys:
        lines += [f"  {label}:", f"    provider: {provider}", f"    secret: ${{{variable}}}"]
    if answers.limit_usd.strip("0.") or not answers.limit_usd:
        lines += ["", "# A hard limit is never passed: a request that might not fit is refused with 402.", "budgets:"]
        lines += ["  all:", f"    limit: {answers.limit_usd or 5}", "    period: daily"]
    lines += [
        "",
        "# A name of your own for several models, and what is tried after them:",
        "# deployments:",
        "#   fast-chat:",
        "#     targets: [openai/gpt-4o-mini, groq/llama-3.3-70b-versatile]",
        "#     fallbacks: [gpt-4o]",
        "",
        "# Credentials for clients of this proxy; the first one ends open mode:",
        "# virtual_keys:",
        '#   billing: {secret: "${BILLING_KEY}", models: gpt-4o*, rpm: 60}',
    ]
    return "\n".join(lines) + "\n"
