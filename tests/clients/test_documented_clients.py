"""The blocks of docs/how-to/clients.md, each run as a script in the environment of the library that it shows. Those of
`openai` and `anthropic`, which the development environment has, are also run by tests/docs."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from tests.clients.places import World
from tests.clients.running import HERE, python_of
from tests.support.snippets import Snippet, snippets

PAGE = HERE.parents[1] / "docs/how-to/clients.md"
ENVIRONMENTS = {
    "OpenAI": "openai3",
    "Anthropic": "anthropic2",
    "Google": "google_genai",
    "LangChain": "langchain",
    "LlamaIndex": "llama_index",
    "Pydantic AI": "pydantic_ai",
    "LiteLLM": "litellm",
    "Instructor": "instructor",
    "OpenAI Agents": "openai_agents",
}
"""By heading."""
BLOCKS = [one for one in snippets(PAGE) if one.language in ("py", "python")]


def test_every_client_is_shown() -> None:
    assert [one.headings[-1] for one in BLOCKS] == list(ENVIRONMENTS)


def test_the_page_names_the_versions_that_are_tested() -> None:
    text = PAGE.read_text(encoding="utf-8")
    lists = [file.read_text() for file in (HERE / "environments").glob("*.txt")]
    for line in "".join(lists).splitlines():
        name, _, version = line.partition("==")
        if "embeddings" not in name:
            shown = {"pydantic-ai-slim[openai,anthropic]": "pydantic-ai"}.get(name, name)
            row = next(row for row in text.splitlines() if row.startswith("|") and f"`{shown}`" in row)
            assert version.rpartition(".")[0] in row, line


@pytest.mark.parametrize("block", BLOCKS, ids=lambda block: block.headings[-1])
def test_a_documented_client_is_answered(block: Snippet, world: World, tmp_path: Path) -> None:
    code = block.code.replace("http://127.0.0.1:8000", world.place.origin).replace('"any"', repr(world.place.key))
    script = tmp_path / "shown.py"
    script.write_text(code)
    environ = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "LITELLM_LOCAL_MODEL_COST_MAP": "True"}
    done = subprocess.run(
        [python_of(ENVIRONMENTS[block.headings[-1]]), script],
        env=environ, cwd=tmp_path, capture_output=True, text=True, timeout=90, check=False,
    )  # fmt: skip
    assert done.returncode == 0, f"{block}\n{done.stdout}\n{done.stderr}"
    assert "Simulated answer" in done.stdout or "name=" in done.stdout, done.stdout
