"""`chat`: one request through the proxy, or through a router in this process, with the reply as it comes.

The text goes to standard output; one dim line about it (key, provider, attempts, tokens, cost, time to the first token,
decision) goes to standard error. Law: a reply cannot command the terminal it is shown on.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from typing import Annotated, Any, Optional
from urllib.parse import quote

import typer

from apikeyrouter_proxy.cli.completing import model_names
from apikeyrouter_proxy.cli.console import note, plain, print_json
from apikeyrouter_proxy.cli.failures import USAGE, CliError
from apikeyrouter_proxy.cli.http import Answer
from apikeyrouter_proxy.cli.options import AsJson, EnvFile, Objective, Store, Url
from apikeyrouter_proxy.cli.service import Service, Where, message_of, open_service

__all__ = ["StreamedText", "register"]

_PATH = "/v1/chat/completions"
_DEFAULT_MODEL = "gpt-4o-mini"
_INPUT_CHARS_MAX = 4 * 1024 * 1024


def register(app: typer.Typer) -> None:
    """Adds the verb."""
    app.command("chat")(chat)


def chat(
    message: Annotated[Optional[str], typer.Argument(help="What to say. Default: standard input.")] = None,  # noqa: UP045
    model: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option("--model", "-m", help="Default: MODEL, else gpt-4o-mini.", autocompletion=model_names),
    ] = None,
    objective: Objective = None,
    no_stream: Annotated[bool, typer.Option("--no-stream", help="Wait for the whole reply.")] = False,
    url: Url = None,
    store: Store = None,
    env_file: EnvFile = None,
    as_json: AsJson = False,
) -> None:
    """Send one message and print the reply as it comes."""
    from apikeyrouter.infrastructure.clock import SystemClock

    where = Where(url, store, env_file)
    body: dict[str, Any] = {
        "model": model or where.environ.get("MODEL", "").strip() or _DEFAULT_MODEL,
        "messages": [{"role": "user", "content": _text(message)}],
    }
    streamed = not (no_stream or as_json)
    if streamed:
        body |= {"stream": True, "stream_options": {"include_usage": True}}
    headers = {"X-AKR-Objective": objective} if objective else {}
    with open_service(where, quiet=as_json) as service:
        clock = SystemClock()
        started_s = clock.monotonic_s()
        if service.origin is None and service.get("/api/v1/state")["simulated"]:
            note("No provider key is configured, so the simulated provider answers, with made-up text.")
        with service.stream(_PATH, body, headers) as (answer, pieces):
            if answer.status >= 400:
                answer.body = b"".join(pieces)
                raise CliError(message_of(answer, _PATH) + _about_decision(answer))
            if streamed:
                shown = StreamedText()
                for text in shown.texts(pieces):
                    shown.first_s = shown.first_s or clock.monotonic_s()
                    sys.stdout.write(plain(text) if sys.stdout.isatty() else text)
                    sys.stdout.flush()
                sys.stdout.write("\n")
                usage, first_s = shown.usage, shown.first_s
            else:
                answer.body = b"".join(pieces)
                usage, first_s = _whole(answer, as_json=as_json), None
        if not as_json:
            ttft_s = None if first_s is None else first_s - started_s
            _tell(service, answer, usage, ttft_s, clock.monotonic_s() - started_s)


class StreamedText:
    """Reads an event stream. `usage`: of the last chunk. `first_s`: when the first text came."""

    def __init__(self) -> None:
        self.usage: dict[str, Any] = {}
        self.first_s: float | None = None

    def texts(self, pieces: Iterator[bytes]) -> Iterator[str]:
        """The texts of the first choice, as they come. Raises CliError for an error inside the stream, or its lack of
        an end."""
        rest = b""
        for piece in pieces:
            *lines, rest = (rest + piece).split(b"\n")
            for line in lines:
                if not line.startswith(b"data:"):
                    continue
                data = line[5:].strip()
                if data == b"[DONE]":
                    return
                text = self._text(data)
                if text:
                    yield text
        raise CliError("The reply broke off before its end.")

    def _text(self, data: bytes) -> str:
        try:
            event = json.loads(data)
        except ValueError:
            raise CliError("The reply broke off: an event of the stream is damaged.") from None
        error = event.get("error") if isinstance(event, dict) else None
        if error:
            told = error.get("message") if isinstance(error, dict) else error
            sys.stdout.write("\n")
            raise CliError(f"The reply broke off: {told}")
        self.usage = event.get("usage") or self.usage
        choices = event.get("choices") or [{}]
        return (choices[0].get("delta") or {}).get("content") or ""


def _whole(answer: Answer, *, as_json: bool) -> dict[str, Any]:
    """Prints a reply that was not streamed; its usage."""
    reply = answer.json()
    if not isinstance(reply, dict) or not reply.get("choices"):
        raise CliError("The reply is no chat completion.")
    content = (reply["choices"][0].get("message") or {}).get("content") or ""
    usage: dict[str, Any] = reply.get("usage") or {}
    if as_json:
        headers = answer.headers
        print_json(
            {
                "content": content,
                "model": reply.get("model"),
                "key": headers.get("x-akr-key"),
                "provider": headers.get("x-akr-provider"),
                "attempts": int(headers.get("x-akr-attempts", "1")),
                "usage": usage,
                "cost_usd": headers.get("x-akr-cost"),
                "decision": headers.get("x-akr-decision"),
                "request_id": headers.get("x-request-id"),
                "reply": reply,
            }
        )
    else:
        sys.stdout.write((plain(content) if sys.stdout.isatty() else content) + "\n")
    return usage


def _tell(service: Service, answer: Answer, usage: dict[str, Any], ttft_s: float | None, took_s: float) -> None:
    headers = answer.headers
    attempts = headers.get("x-akr-attempts", "1")
    cost = headers.get("x-akr-cost") or _cost(service, headers.get("x-akr-decision"))
    parts = [
        f"{headers.get('x-akr-key', '?')} of {headers.get('x-akr-provider', '?')}",
        f"{attempts} attempt{'s' if attempts != '1' else ''}",
        f"{usage.get('prompt_tokens', '?')}+{usage.get('completion_tokens', '?')} tokens",
    ]
    if cost is not None:
        parts.append(f"${float(cost):.6f}")
    if ttft_s is not None:
        parts.append(f"first token after {ttft_s * 1000:.0f} ms")
    parts += [f"{took_s:.2f} s", headers.get("x-akr-decision", "")]
    note(" · ".join(part for part in parts if part))


def _cost(service: Service, decision_id: str | None) -> str | None:
    """What a streamed reply has cost: known when it has ended. None when this caller may not ask."""
    if not decision_id:
        return None
    answer = service.ask("GET", f"/api/v1/decisions/{quote(decision_id, safe='')}", prompt=False)
    told = answer.json() if answer.status == 200 else None
    cost = told.get("cost_usd") if isinstance(told, dict) else None
    return None if cost is None else str(cost)


def _about_decision(answer: Answer) -> str:
    decision_id = answer.headers.get("x-akr-decision")
    return f"\nWhy: `apikeyrouter decisions show {decision_id}`" if decision_id else ""


def _text(message: str | None) -> str:
    if message is None:
        if sys.stdin.isatty():
            raise CliError('Say something: apikeyrouter chat "Hello!", or pipe the text in.', USAGE)
        message = sys.stdin.read(_INPUT_CHARS_MAX)
    if not message.strip():
        raise CliError('The message is empty. Say something: apikeyrouter chat "Hello!"', USAGE)
    return message
