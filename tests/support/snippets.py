"""Fenced code blocks of a Markdown file, with where they stand."""

from __future__ import annotations

import ast
import re
import types
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_FENCE = re.compile(
    r"^(?P<indent> *)```(?P<language>\w+)[^\n]*\n(?P<code>.*?)^(?P=indent)```", re.MULTILINE | re.DOTALL
)


@dataclass(frozen=True)
class Snippet:
    """One block: its language, code, first line, and the headings above it."""

    path: Path
    line: int
    language: str
    code: str
    headings: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.path.stem}:{self.line}"


def snippets(path: Path) -> Iterator[Snippet]:
    """Every fenced block of a file, in order."""
    text = path.read_text(encoding="utf-8")
    for found in _FENCE.finditer(text):
        before = text[: found.start()]
        yield Snippet(
            path,
            before.count("\n") + 2,
            found["language"].lower(),
            found["code"],
            tuple(re.findall(r"^#+ (.+)$", before, re.MULTILINE)),
        )


async def run_python(snippet: Snippet, names: dict[str, Any]) -> dict[str, Any]:
    """Runs a snippet with top-level await in `names`, as an asyncio REPL would; returns `names`."""
    flags = ast.PyCF_ALLOW_TOP_LEVEL_AWAIT
    padded = "\n" * (snippet.line - 1) + snippet.code
    code = compile(padded, str(snippet.path), "exec", flags=flags)
    result = types.FunctionType(code, names)()
    if code.co_flags & 0x80:  # CO_COROUTINE: the snippet awaits somewhere
        await result
    return names
