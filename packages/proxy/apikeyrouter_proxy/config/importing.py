"""Another product's configuration, pasted as text, as a configuration of ours.

Main entry: `imported`. Laws: a text is only a text here: no file is opened, no variable of this process is read,
nothing runs; a secret that stands in it is not in what comes back, neither in the document, which names a variable in
its place, nor in what is told; what has no counterpart is told by name and line.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any

from apikeyrouter_proxy.config.faults import Fault, Faults, Path, dotted
from apikeyrouter_proxy.config.from_key_proxy import from_dotenv, from_script
from apikeyrouter_proxy.config.from_litellm import Translated, is_litellm, translate
from apikeyrouter_proxy.config.masking import is_secret
from apikeyrouter_proxy.config.tree import read_yaml
from apikeyrouter_proxy.config.writing import without_secrets, write

__all__ = ["Imported", "Kind", "imported", "kind_of"]


class Kind(StrEnum):
    """What a text is."""

    LiteLLM = "litellm"
    KeyProxy = "llm-api-key-proxy"
    KeyProxyScript = "llm-api-key-proxy-js"


_NAMES = {
    Kind.LiteLLM: "a config.yaml of LiteLLM",
    Kind.KeyProxy: "an .env of LLM-API-Key-Proxy",
    Kind.KeyProxyScript: "a config.js of LLM-API-Key-Proxy",
}
_FILES = {Kind.LiteLLM: "config.yaml", Kind.KeyProxy: ".env", Kind.KeyProxyScript: "config.js"}
_MODEL_LIST = re.compile(r"^model_list[ \t]*:", re.MULTILINE)
_SCRIPT = re.compile(r"module\.exports|export default|^[ \t]*keys[ \t]*:[ \t]*\[[ \t]*(//.*)?$", re.MULTILINE)
_ASSIGNMENT = re.compile(r"^[ \t]*(export[ \t]+)?[A-Z][A-Z0-9_]*[ \t]*=", re.MULTILINE)
_REFERENCE = re.compile(r"\$\{[A-Za-z_][A-Za-z0-9_]*\}")
_REFERENCES = re.compile(r"(?<!\$)\$\{([A-Za-z_][A-Za-z0-9_]*)\}")
_IN_ADDRESS = re.compile(r"(?<=://)[^/@\s]+@")
_QUOTED = re.compile(r"""(['"])[^'"]{8,}\1""")
_SHAPED = re.compile(
    r"(?<![A-Za-z0-9])(?:sk|pk|rk|gsk|xai|hf|r8|pplx|csk|nvapi|akr)[-_][A-Za-z0-9_\-]{16,}"
    r"|(?<=[?&])(?:api[-_]?key|key|token|sig|code)=[^&\s\"']+"
)
"""What has the shape of a secret where none is looked for: in an address, in place of a name or of a number."""

_LITERAL = "stands in the text"


@dataclass(slots=True)
class Imported:
    """`text`: our document, "" where there is none, for `faults` tell why. `unmapped`: what was left out or means
    something else, a line each. `variables`: each name that the document needs, and where. `replaced`: those of them
    that stand for a secret of the text."""

    kind: Kind
    text: str = ""
    unmapped: list[str] = field(default_factory=list)
    variables: dict[str, str] = field(default_factory=dict)
    replaced: list[str] = field(default_factory=list)
    counts: dict[str, int] = field(default_factory=dict)
    faults: list[Fault] = field(default_factory=list)


def kind_of(text: str) -> Kind | None:
    """What a text looks like; None: like nothing that is known."""
    if _MODEL_LIST.search(text):
        return Kind.LiteLLM
    if _SCRIPT.search(text):
        return Kind.KeyProxyScript
    return Kind.KeyProxy if _ASSIGNMENT.search(text) else None


def imported(text: str, kind: Kind) -> Imported:
    """Our document for a text of this kind."""
    found, faults = Imported(kind), Faults()
    made = _made(text, kind, faults)
    if made is None:
        shown = [_SHAPED.sub("hidden", _QUOTED.sub("'...'", one.message)) for one in faults.found]
        found.faults = [replace(one, message=message) for one, message in zip(faults.found, shown, strict=True)]
        return found
    tree, unsaid = _without_logins(made.tree)
    tree, literal = without_secrets(_plain(tree))
    found.text = _SHAPED.sub("hidden", write(tree, f"Made of {_NAMES[kind]}."))
    found.unmapped = [_SHAPED.sub("hidden", line) for line in made.told + unsaid]
    secrets = {name: dotted(path) for name, path in literal.items()}
    found.replaced = sorted(secrets)
    named = _named(tree, (), {}) | secrets
    found.variables = {name: _SHAPED.sub("hidden", where) for name, where in named.items()}
    found.counts = {name: len(tree[name]) for name in ("providers", "keys", "deployments", "budgets") if tree.get(name)}
    return found


def _made(text: str, kind: Kind, faults: Faults) -> Translated | None:
    if kind is Kind.KeyProxy:
        return from_dotenv(text, _FILES[kind])
    if kind is Kind.KeyProxyScript:
        return from_script(text, _FILES[kind])
    tree = read_yaml(text, _FILES[kind], faults)
    if not faults.found and not (isinstance(tree, dict) and is_litellm(tree)):
        faults.add((), "is no configuration of LiteLLM's: it has no list model_list, or has members of ours")
    return None if faults.found else translate(tree, faults)


def _plain(value: Any, path: Path = ()) -> Any:
    """The same tree; a secret that is more than one plain reference counts as a literal one, whatever `$` it holds."""
    if isinstance(value, Mapping):
        return {name: _plain(one, (*path, str(name))) for name, one in value.items()}
    if isinstance(value, str) and is_secret(path) and not _REFERENCE.fullmatch(value):
        return _LITERAL
    return value


def _without_logins(tree: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """(the tree without what addresses have before their @, since ours may have nothing there; which had it)."""
    told: list[str] = []

    def clean(value: Any, path: Path) -> Any:
        if isinstance(value, Mapping):
            return {name: clean(one, (*path, str(name))) for name, one in value.items()}
        if isinstance(value, list):
            return [clean(one, (*path, number)) for number, one in enumerate(value)]
        if not isinstance(value, str) or not _IN_ADDRESS.search(value):
            return value
        told.append(f"{dotted(path)}: what stood before the @ was left out: send it in `headers` of the provider.")
        return _IN_ADDRESS.sub("", value)

    return clean(tree, ()), told


def _named(value: Any, path: Path, found: dict[str, str]) -> dict[str, str]:
    """Variables that a tree names, each with the first member that does; added to `found`."""
    if isinstance(value, Mapping):
        for name, one in value.items():
            _named(one, (*path, str(name)), found)
    elif isinstance(value, list):
        for number, one in enumerate(value):
            _named(one, (*path, number), found)
    elif isinstance(value, str):
        for name in _REFERENCES.findall(value):
            found.setdefault(name, dotted(path))
    return found
