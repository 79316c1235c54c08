"""Prints what the installed LiteLLM and its `proxy` extra require, with the pins loosened that no index may serve.

Run by bench/setup.sh with LiteLLM's own interpreter. Only the names in LOOSE lose their version; all others stay as
LiteLLM states them.
"""

from __future__ import annotations

from importlib.metadata import requires

LOOSE = ("certifi", "litellm-proxy-extras", "litellm-enterprise")


def relaxed(requirement: str) -> str | None:
    """One line for pip, or None where the requirement belongs to another extra."""
    name, _, marker = requirement.partition(";")
    if "extra ==" in marker and "extra == 'proxy'" not in marker:
        return None
    marker = marker.replace(" and extra == 'proxy'", "").replace("extra == 'proxy'", "").strip()
    for loose in LOOSE:
        if name.strip().startswith(loose):
            name = loose
    return f"{name.strip()} ; {marker}" if marker else name.strip()


if __name__ == "__main__":
    for line in filter(None, map(relaxed, requires("litellm") or [])):
        print(line)
