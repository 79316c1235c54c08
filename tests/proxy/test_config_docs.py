"""Files that documents show are files that work."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from apikeyrouter_proxy.settings import ProxySettings
from tests.support.snippets import Snippet, snippets

DOCS = Path(__file__).parents[2] / "docs"
FILES = [one for path in sorted(DOCS.rglob("*.md")) for one in snippets(path) if one.language == "yaml"]


@pytest.mark.parametrize("snippet", FILES, ids=str)
def test_a_configuration_that_a_document_shows_has_no_fault(snippet: Snippet, tmp_path: Path) -> None:
    file = tmp_path / "apikeyrouter.yaml"
    file.write_text(snippet.code, encoding="utf-8")
    named = {name: f"value-of-{name.lower()}-0001" for name in re.findall(r"\$\{([A-Z_]+)\}", snippet.code)}
    settings = ProxySettings.from_environ({"APIKEYROUTER_CONFIG": str(file), "HOME": "/", **named})
    assert settings.config is not None
    assert settings.warnings == ()


def test_documents_show_such_files() -> None:
    assert FILES
