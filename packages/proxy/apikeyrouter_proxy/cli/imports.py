"""`import`: a configuration of ours from LiteLLM's file, from LLM-API-Key-Proxy's, or from the environment."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Optional

import typer

from apikeyrouter_proxy.cli.console import note, say
from apikeyrouter_proxy.cli.failures import FAILED, USAGE, CliError
from apikeyrouter_proxy.cli.options import EnvFile

if TYPE_CHECKING:
    from apikeyrouter_proxy.config.faults import Faults
    from apikeyrouter_proxy.config.from_litellm import Translated

__all__ = ["register"]

_Output = Annotated[
    Optional[Path],  # noqa: UP045
    typer.Option("--output", "-o", help="Where to write it. Default: standard output."),
]
_Force = Annotated[bool, typer.Option("--force", help="Write over a file that is there.")]


def register(app: typer.Typer) -> None:
    """Adds the group."""
    group = typer.Typer(
        no_args_is_help=True, rich_markup_mode=None, help="Make a configuration from that of another product."
    )
    group.command("litellm")(litellm)
    group.command("llm-api-key-proxy")(llm_api_key_proxy)
    group.command("env")(environment)
    app.add_typer(group, name="import")


def litellm(
    file: Annotated[Path, typer.Argument(metavar="CONFIG.YAML", help="The file that `litellm --config` takes.")],
    output: _Output = None,
    force: _Force = False,
) -> None:
    """Translate LiteLLM's config.yaml; what has no counterpart is listed by name and line.

    `apikeyrouter serve --config` takes such a file as it is, too.
    """
    from apikeyrouter_proxy.config.faults import Faults
    from apikeyrouter_proxy.config.from_litellm import is_litellm, translate
    from apikeyrouter_proxy.config.tree import read_yaml

    faults = Faults()
    tree = read_yaml(_text(file), str(file), faults)
    _stop(faults)
    if not isinstance(tree, dict) or not is_litellm(tree):
        raise CliError(f"{file} is no configuration of LiteLLM's: it has no list model_list.", USAGE)
    _out(translate(tree, faults), output, force, f"Made from {file.name} by `apikeyrouter import litellm`.")


def llm_api_key_proxy(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Its .env, or a config.js with a list of keys.")],
    output: _Output = None,
    force: _Force = False,
) -> None:
    """Translate LLM-API-Key-Proxy's .env (or config.js); what has no counterpart is listed by name and line."""
    from apikeyrouter_proxy.config.from_key_proxy import from_dotenv, from_script

    text = _text(file)
    made = from_script(text, str(file)) if file.suffix in (".js", ".cjs", ".mjs") else from_dotenv(text, str(file))
    _out(made, output, force, f"Made from {file.name} by `apikeyrouter import llm-api-key-proxy`.")


def environment(env_file: EnvFile = None, output: _Output = None, force: _Force = False) -> None:
    """Write down what the environment and `.env` configure: the same, as a file."""
    from apikeyrouter_proxy.cli.environment import read_environ
    from apikeyrouter_proxy.config.from_environment import from_environment

    made = from_environment(read_environ(env_file))
    _out(made, output, force, "Made from the environment by `apikeyrouter import env`.")


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as fault:
        reason = getattr(fault, "strerror", None) or "it is not text in UTF-8"
        raise CliError(f"{file} cannot be read: {reason}.", USAGE) from None


def _stop(faults: Faults) -> None:
    if faults.found:
        raise CliError("\n".join(str(one) for one in faults.found), FAILED)


def _out(made: Translated, output: Path | None, force: bool, comment: str) -> None:
    """Writes the document, and tells what it leaves out and which variables it needs."""
    from apikeyrouter_proxy.config.writing import without_secrets, write

    tree, variables = without_secrets(made.tree)
    text = write(tree, comment)
    if output is None:
        say(text.rstrip())
    elif output.exists() and not force:
        raise CliError(f"{output} is there already. Give another name, or --force to write over it.", USAGE)
    else:
        output.write_text(text, encoding="utf-8")
    for line in made.told:
        note(f"Not taken: {line}")
    for name, path in variables.items():
        note(f"Set {name} to the secret that stands in the clear for {'.'.join(map(str, path))}; it was not copied.")
    if output is not None:
        say(f"Wrote {output}: {_counted(tree)}. Check it with `apikeyrouter config check {output}`.")


def _counted(tree: dict[str, Any]) -> str:
    told = [f"{len(tree[one])} {one.replace('_', ' ')}" for one in ("keys", "deployments", "budgets") if tree.get(one)]
    return ", ".join(told) or "no objects"
