"""`models`: what is known about models: names, limits, abilities, ends of life, who sells them."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated, Optional

import typer

from apikeyrouter_proxy.cli.completing import model_names
from apikeyrouter_proxy.cli.console import about, note, print_json, print_table, say
from apikeyrouter_proxy.cli.failures import FAILED, CliError
from apikeyrouter_proxy.cli.options import AsJson

__all__ = ["register"]

_SHOWN_MAX = 200
_SELLERS_MAX = 12


def register(app: typer.Typer) -> None:
    """Adds the verb."""
    app.command("models")(models)


def models(
    model: Annotated[
        Optional[str],  # noqa: UP045 - typer reads it at run time
        typer.Argument(
            metavar="MODEL",
            help="A model, with or without its provider: gpt-4o, groq/llama-3.3-70b.",
            autocompletion=model_names,
        ),
    ] = None,
    provider: Annotated[Optional[str], typer.Option("--provider", "-p", help="Only this provider's.")] = None,  # noqa: UP045
    contains: Annotated[str, typer.Option("--contains", "-c", help="Only names with this in them.")] = "",
    as_json: AsJson = False,
) -> None:
    """Show what is known about a model; without a name, list the models that are known."""
    from apikeyrouter.infrastructure.catalogue.models import ModelCatalogue

    catalogue = ModelCatalogue()
    if model is None:
        names = catalogue.known(provider, contains)
        if as_json:
            print_json(list(names))
            return
        if not names:
            raise CliError(
                "No model is known that fits. `apikeyrouter providers list --known` shows providers.", FAILED
            )
        say(*names[:_SHOWN_MAX])
        if len(names) > _SHOWN_MAX:
            note(f"And {len(names) - _SHOWN_MAX} more; narrow them with --provider or --contains.")
        return
    facts = catalogue.find(model)
    if facts is None:
        near = catalogue.nearest(model)
        raise CliError(
            f"No model is known as {model!r}." + (f" Did you mean {' or '.join(near)}?" if near else ""), FAILED
        )
    if as_json:
        print_json({**asdict(facts), "ends": _day(facts.ends), "checked": _day(facts.checked)})
        return
    told = {
        "maker": "several hosts" if facts.maker == "open" else facts.maker,
        "context": f"{facts.context_tokens:,} tokens" if facts.context_tokens else None,
        "longest reply": f"{facts.output_tokens_max:,} tokens" if facts.output_tokens_max else None,
        "tools": _yes(facts.tools),
        "images": _yes(facts.vision),
        "JSON schemas": _yes(facts.json_schema),
        "reasoning": _yes(facts.reasoning),
        "ends": _day(facts.ends),
        "ask instead for": facts.successor,
        "sold by": ", ".join(facts.sold_by[:_SELLERS_MAX]),
        "called": ", ".join(f"{name} at {who}" for who, name in facts.names.items()),
        "source": f"{facts.source}, {_day(facts.checked)}" if facts.checked else facts.source,
    }
    print_table([facts.name, ""], [[name, about(value)] for name, value in told.items()])


def _yes(value: bool | None) -> str | None:
    return None if value is None else "yes" if value else "no"


def _day(value: object) -> str | None:
    return None if value is None else str(value)
