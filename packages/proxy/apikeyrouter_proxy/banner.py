"""What the proxy prints when it is ready: where it is, what it found, and blocks to paste that work as they stand.

Main entries: `banner` (the whole text) and `examples` (its blocks by name, which the tests execute).
"""

from __future__ import annotations

import json
from collections.abc import Sequence

from apikeyrouter_proxy.settings import ProxySettings

__all__ = ["EXAMPLE_MODEL", "banner", "example_model", "examples", "origin_of"]

EXAMPLE_MODEL = "gpt-4o-mini"
_WIDTH = 88
_MODELS = {"anthropic": "claude-haiku-4-5", "gemini": "gemini-2.5-flash", "groq": "llama-3.3-70b-versatile"}
"""What to try at a provider that has none of OpenAI's models (the catalogue, 2026-11-21)."""
_WHICH_KEY = (
    "Set APIKEYROUTER_KEY for the examples below: to a virtual key (`apikeyrouter virtual-keys create` makes one), or "
    "to the admin key."
)


def origin_of(host: str, port: int) -> str:
    """The URL at which this machine reaches a server bound to `host`."""
    if host in ("0.0.0.0", ""):  # noqa: S104  (compared, not bound)
        host = "127.0.0.1"
    elif host == "::":
        host = "::1"
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def example_model(settings: ProxySettings) -> str:
    """A model that what is configured can serve: the file's first name for models, else one of the provider's."""
    file = settings.config.configuration.file if settings.config and settings.config.configuration else None
    if file is not None and file.deployments:
        return next(iter(file.deployments))
    of_file = settings.config.meaning.keys if settings.config is not None else ()
    providers = [key.provider_id for key in (*settings.env_keys, *of_file)]
    if not providers or "openai" in providers:
        return EXAMPLE_MODEL
    return next((_MODELS[one] for one in providers if one in _MODELS), EXAMPLE_MODEL)


def examples(origin: str, *, open_mode: bool, model: str = EXAMPLE_MODEL) -> dict[str, str]:
    """Blocks to paste: "curl" and "environment" for a POSIX shell, "python" for Python with the `openai` package.

    Where a key is demanded the blocks read it from `APIKEYROUTER_KEY`.
    """
    key = "unused" if open_mode else "$APIKEYROUTER_KEY"
    header = "" if open_mode else '\n  -H "Authorization: Bearer $APIKEYROUTER_KEY" \\'
    body = f'{{"model": {json.dumps(model)}, "messages": [{{"role": "user", "content": "Hello!"}}]}}'
    python_key = '"unused"' if open_mode else 'os.environ["APIKEYROUTER_KEY"]'
    imports = "" if open_mode else "import os\n\n"
    return {
        "curl": f"curl {origin}/v1/chat/completions \\{header}\n  -d '{body}'",
        "python": (
            f"{imports}from openai import OpenAI\n\n"
            f'client = OpenAI(base_url="{origin}/v1", api_key={python_key})\n'
            f"reply = client.chat.completions.create(model={json.dumps(model)}, "
            'messages=[{"role": "user", "content": "Hello!"}])\n'
            "print(reply.choices[0].message.content)"
        ),
        "environment": f"export OPENAI_BASE_URL={origin}/v1\nexport OPENAI_API_KEY={key}",
    }


def banner(settings: ProxySettings, notes: Sequence[str], *, port: int, open_mode: bool, open_management: bool) -> str:
    """The whole text. `port`: the one that is really listened on."""
    origin = origin_of(settings.host, port)
    access = "open to this machine, no key needed" if open_mode else "with a virtual key or the admin key"
    management = "open to this machine" if open_management else "an admin key is needed"
    if not open_mode:
        notes = [*notes, _WHICH_KEY]
    lines = [
        "",
        f"ApiKeyRouter listens on {origin}",
        f"  OpenAI-compatible API  {origin}/v1  ({access})",
        f"  Dashboard              {origin}/dashboard  ({management})",
        f"  Management API         {origin}/api/v1  (described at {origin}/docs)",
        f"  Health, metrics        {origin}/healthz  {origin}/readyz  {origin}/metrics",
        "",
        *[f"  * {note}" for note in notes],
        "",
    ]
    titles = {"curl": "curl", "python": "Python (pip install openai)", "environment": "Any OpenAI SDK or tool"}
    for name, block in examples(origin, open_mode=open_mode, model=example_model(settings)).items():
        lines += [f"-- {titles[name]} ".ljust(_WIDTH, "-"), block, ""]
    return "\n".join(lines)
