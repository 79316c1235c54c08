"""Every command and program that README and docs/ show really runs, and what they claim about the code is true.

Main entry: `test_document_runs`. A document is one story: its python and bash blocks run in the order in which a reader
meets them, python in one namespace, bash in one folder with one environment, against a simulated provider and a proxy
that is started for the document. A text block right behind a python block is what that one prints. Ports 8000 and 8010
in the text stand for the test's own.
Fences say what is run: python and bash are. `console` is for what a test must not or cannot repeat: cloning, `make`,
commands that install, that serve until they are stopped, or that ask a person for a secret; those are checked for
existing verbs, options and make targets instead. `text`, `json`, `yaml`, `ini`, `mermaid` are output and files. `py`
needs a library that has an environment of its own: `make test-clients` runs it there.
"""

from __future__ import annotations

import ast
import asyncio
import os
import re
import secrets
import shlex
import subprocess
import sys
import types
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
import typer.main

from tests.support.processes import proxy_process
from tests.support.servers import PostgresServer, RedisServer
from tests.support.sim import Sim, sim_process
from tests.support.snippets import Snippet, snippets

ROOT = Path(__file__).parents[2]
DOCUMENTS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "packages").glob("*/README.md"))]
DOCUMENTS += sorted((ROOT / "docs").rglob("*.md"))
NOT_RUN = {"console", "text", "json", "yaml", "ini", "mermaid", "py"}
READERS_KEYS = ("TEAM_A_KEY", "TEAM_A_NEW_KEY", "TEAM_B_KEY", "LOCAL_KEY")
"""Variables in which the text lets readers have a secret of theirs; here, keys that the simulated provider accepts."""
SERVERS: dict[str, type[PostgresServer] | type[RedisServer]] = {
    "postgresql://apikeyrouter:PASSWORD@db.example.org/apikeyrouter": PostgresServer,
    "redis://:PASSWORD@cache.example.org": RedisServer,
}
"""Addresses of servers in programs, and the server of the document's own that they stand for."""
REFUSED = re.compile(r"^# answers (\d{3})$", re.MULTILINE)
"""The comment with which a bash block announces that its curl is refused; otherwise no curl may be."""

SHELL = """
set -euo pipefail
curl() { command curl --silent --show-error $CURL_FAILS "$@"; }
apikeyrouter() {
    case "$1 ${2:-}" in
        "sim fault" | "sim clear" | "sim state") command apikeyrouter "$@" --url "$SIM_ORIGIN" ;;
        *) command apikeyrouter "$@" ;;
    esac
}
"""


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


def runnable() -> list[Path]:
    return [path for path in DOCUMENTS if any(s.language in ("python", "bash") for s in snippets(path))]


def same_every_time(output: str) -> str:
    """The output without ids and times."""
    output = re.sub(r"(postgresql|redis)://(\w+)@[\w.:]+/\w+", r"\1://SOMEBODY@SOMEWHERE", output)
    return re.sub(r"key_[0-9a-f]+|[\d.]+ ms", "...", re.sub(r" +$", "", output.strip(), flags=re.MULTILINE))


@pytest.fixture(scope="module")
def sim() -> Iterator[Sim]:
    with sim_process() as process:
        yield process


class Story:
    """One document while it runs."""

    def __init__(self, path: Path, sim: Sim, folder: Path, environ: dict[str, str], port: int | None) -> None:
        self.path = path
        self.folder = folder
        self.sim_origin = sim.base_url.removesuffix("/v1")
        self.port = port
        self.environ = {**environ, "SIM_ORIGIN": self.sim_origin}
        self.names: dict[str, Any] = {"__name__": "__main__"}
        self.runner = asyncio.Runner()
        self.servers: dict[str, str] = {}

    def here(self, code: str) -> str:
        """The code with the documents' addresses replaced by this test's."""
        code = code.replace("http://127.0.0.1:8010", self.sim_origin)
        for shown, url in self.servers.items():
            code = code.replace(shown, url)
        return re.sub(r"(127\.0\.0\.1|localhost):8000", f"127.0.0.1:{self.port}", code)

    def python(self, snippet: Snippet) -> str:
        """Runs a block as a script, or as a REPL with top-level await when it awaits; what it printed."""
        source = "\n" * (snippet.line - 1) + self.here(snippet.code)
        code = compile(source, str(snippet.path), "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT, dont_inherit=True)
        with redirect_stdout(StringIO()) as printed:
            result = types.FunctionType(code, self.names)()
            if asyncio.iscoroutine(result):
                self.runner.run(result)
        return printed.getvalue()

    def bash(self, snippet: Snippet) -> None:
        """Runs a block; what it exports is there in the next one. Every command, and every request, must succeed."""
        refused = REFUSED.search(snippet.code)
        kept = self.folder / "environment.sh"
        script = SHELL + (kept.read_text() if kept.exists() else "") + self.here(snippet.code)
        script += f"\nexport -p | grep -E ' (KEY|DECISION|APIKEYROUTER_[A-Z]+)=' > {shlex.quote(str(kept))} || true\n"
        environ = {**self.environ, "CURL_FAILS": "--include" if refused else "--fail-with-body"}
        done = subprocess.run(
            ["bash", "-c", script],
            cwd=self.folder,
            env=environ,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        told = f"{snippet}\n{done.stdout}\n{done.stderr}"
        assert done.returncode == 0, told
        if refused:
            assert f"HTTP/1.1 {refused[1]}" in done.stdout, told


@pytest.mark.parametrize("path", runnable(), ids=name_of)
def test_document_runs(path: Path, sim: Sim, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    blocks = list(snippets(path))
    sim.reset()
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))  # as at a prompt in that folder
    for name in [n for n in os.environ if n.startswith(("OPENAI_", "APIKEYROUTER_")) or n in ("LOG_LEVEL", "MODEL")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    monkeypatch.setenv("OPENAI_BASE_URL", sim.base_url)
    for i, key in enumerate(sim.keys, start=1):
        monkeypatch.setenv(f"OPENAI_API_KEY_{i}", key)
    for name in READERS_KEYS:
        monkeypatch.setenv(name, f"sim-{name.lower()}")
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    with ExitStack() as stack:
        port = None
        if any("8000" in s.code or "apikeyrouter " in s.code for s in blocks if s.language in ("python", "bash")):
            (tmp_path / "proxy").mkdir()
            port = stack.enter_context(proxy_process(sim, tmp_path / "proxy")).port
            monkeypatch.setenv("PROXY_PORT", str(port))
        servers = {
            shown: stack.enter_context(server()).url
            for shown, server in SERVERS.items()
            if any(shown in s.code for s in blocks if s.language in ("python", "bash"))
        }
        if servers:
            monkeypatch.setenv("APIKEYROUTER_ENCRYPTION_KEY", secrets.token_hex(32))
        story = Story(path, sim, tmp_path, dict(os.environ), port)
        story.servers = servers
        stack.callback(story.runner.close)
        stack.enter_context(warnings.catch_warnings())
        printed: str | None = None
        for snippet in blocks:
            if snippet.language == "text" and printed is not None:
                assert same_every_time(printed) == same_every_time(snippet.code), snippet
            printed = None
            if snippet.language == "python":
                printed = story.python(snippet)
            elif snippet.language == "bash":
                story.bash(snippet)


@pytest.mark.parametrize("path", DOCUMENTS, ids=name_of)
def test_every_fence_says_whether_it_is_run(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    fences = re.findall(r"^ *```(.*)$", text, re.MULTILINE)
    opened = fences[::2]
    assert len(fences) % 2 == 0
    assert set(opened) <= NOT_RUN | {"python", "bash", ""}
    assert len([name for name in opened if name]) == len(list(snippets(path)))


def commands(path: Path) -> list[str]:
    """The commands of the blocks that are not run: lines behind a `$`."""
    blocks = [s.code for s in snippets(path) if s.language == "console"]
    lines = [line.strip() for code in blocks for line in code.replace("\\\n", " ").splitlines()]
    return [line[2:] for line in lines if line.startswith("$ ")]


def test_commands_that_are_not_run_exist() -> None:
    from apikeyrouter_proxy.cli.program import app

    known = typer.main.get_command(app)
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    checked = 0
    for line in [line for path in DOCUMENTS for line in commands(path)]:
        for command in re.split(r"&&|\||<", line):
            words = shlex.split(re.sub(r"\$\([^)]*\)", "", command))
            words = [word for word in words if not re.match(r"[A-Z_0-9]+=", word)]
            if words[:1] == ["make"]:
                assert words[1] in targets, line
                checked += 1
            elif "--install-completion" in words:  # reading it would do it
                checked += 1
            elif words and words[0].removeprefix(".venv/bin/") == "apikeyrouter":
                _parse(known, words[1:])
                checked += 1
    assert checked >= 15


def _parse(command: Any, arguments: list[str]) -> None:
    """Reads a command line without running it. Raises the library's usage error for an unknown verb or option."""
    context = command.make_context("apikeyrouter", list(arguments))
    rest = [*getattr(context, "_protected_args", []), *context.args]
    if rest and hasattr(command, "resolve_command"):
        _, verb, rest = command.resolve_command(context, rest)
        _parse(verb, rest)


LINK = re.compile(r"(?<!!)\[[^\]]+\]\(([^)\s]+)\)")


@pytest.mark.parametrize("path", DOCUMENTS, ids=name_of)
def test_links_between_documents_resolve(path: Path) -> None:
    for target in LINK.findall(path.read_text(encoding="utf-8")):
        if target.startswith(("http://", "https://")):
            continue
        file, _, anchor = target.partition("#")
        found = (path.parent / file).resolve() if file else path
        assert found.exists(), f"{name_of(path)} links to {target}"
        if anchor:
            assert anchor in anchors(found), f"{name_of(path)} links to {target}"


def anchors(path: Path) -> set[str]:
    """The names that a Markdown renderer gives to a file's headings."""
    headings = re.findall(r"^#+ (.+)$", path.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", h.lower()).strip().replace(" ", "-") for h in headings}


# -- what the text says about the code ------------------------------------------------------------------------------


def text_of(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def test_the_diagram_of_key_states_is_the_one_that_the_table_generates() -> None:
    from apikeyrouter.domain.keys.states import diagram

    for name in ("docs/how-to/keys.md", "docs/ARCHITECTURE.md"):
        (shown,) = [s.code for s in snippets(ROOT / name) if s.language == "mermaid"]
        assert shown == diagram(), name


def rows(text: str) -> list[list[str]]:
    """The cells of every table row, without markup."""
    found = [line.strip().strip("|").split("|") for line in text.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in row] for row in found]


SET_FOR_OTHERS = {"OPENAI_API_BASE"}
"""What `run` gives the program that it starts, and nobody here reads."""

OF_PROGRAMS = "TEMPERATURE|MAX_RETRY|MAX_ITERATIONS|DEBUG|DETAILED_ERROR"
"""What `EnvSettings` reads besides."""

OF_MODELMUXER = "DEFAULT_ROUTING_STRATEGY|CASCADE_ROUTING_ENABLED|LITELLM_BASE_URL|LITELLM_API_KEY"
"""What people who come from there have set already."""


def variables_of_the_code() -> set[str]:
    """Every environment variable that the packages name: as text in a module that reads them, or as a setting."""
    from apikeyrouter.infrastructure.config.settings import RouterSettings

    ours = "APIKEYROUTER|OPENAI|PROXY|LOG|SHUTDOWN|REQUEST|MANAGEMENT|XDG"
    shape = re.compile(rf"({ours})_[A-Z_]+|PORT|WEB_CONCURRENCY|MODEL|{OF_PROGRAMS}|{OF_MODELMUXER}")
    names = {f"APIKEYROUTER_{field.upper()}" for field in RouterSettings.model_fields}
    for file in (ROOT / "packages").rglob("*.py"):
        tree = ast.parse(file.read_text(encoding="utf-8"))
        exported = [n for n in ast.walk(tree) if isinstance(n, ast.Assign) and "__all__" in ast.dump(n.targets[0])]
        tree.body = [node for node in tree.body if node not in exported]
        for node in ast.walk(tree):
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and shape.fullmatch(node.value):
                names.add(node.value)
    return names - {"APIKEYROUTER_"} - SET_FOR_OTHERS


def test_the_tables_of_settings_are_complete_and_name_nothing_else() -> None:
    cells = [row[0] for row in rows(text_of("docs/how-to/proxy.md"))]
    documented = {name for cell in cells for name in re.findall(r"`([A-Z][A-Z0-9_]+)`", cell)}
    assert documented - {"OPENAI_API_KEY_1", "OPENAI_API_KEY_2"} == variables_of_the_code()


def test_the_documented_defaults_of_the_router_are_its_defaults() -> None:
    from apikeyrouter.infrastructure.config.settings import RouterSettings

    table = [row for row in rows(text_of("docs/how-to/proxy.md")) if "`" in row[0]]
    told = {name: row[1].strip("`") for row in table for name in re.findall(r"`(\w+)`", row[0])}
    for name, field in RouterSettings.model_fields.items():
        if name != "log_level":
            default = told[f"APIKEYROUTER_{name.upper()}"]
            shown = "" if field.default in (None, ()) else str(field.default).lower()
            assert default == shown or float(default) == float(field.default), name


def test_the_example_file_of_settings_is_accepted_and_holds_known_names_only() -> None:
    from apikeyrouter_proxy.settings import ProxySettings

    text = text_of("env.example")
    names = set(re.findall(r"^#? ?([A-Z][A-Z0-9_]+)=", text, re.MULTILINE))
    # those of the catalogue's providers, and names that other products read too
    more = {"LITELLM_BASE_URL", "LITELLM_API_KEY", "DEFAULT_ROUTING_STRATEGY", "CASCADE_ROUTING_ENABLED"}
    assert {re.sub(r"_\d$", "", name) for name in names} <= variables_of_the_code() | more
    settings = ProxySettings.from_environ({"HOME": "/home/somebody"}, ROOT / "env.example")
    assert settings.env_keys == ()
    assert settings.warnings == ()


def test_the_table_of_failures_is_the_one_of_the_code() -> None:
    from apikeyrouter.domain.resilience.failures import FACTS

    shown = {row[0].strip("`"): row[1:] for row in rows(text_of("docs/reference/errors.md")) if len(row) == 6}
    shown = {name: row for name, row in shown.items() if name not in ("class", "---")}
    assert shown == {
        kind.value: [
            facts.scope.value,
            "yes" if facts.elsewhere else "no",
            facts.category.name,
            str(facts.status),
            f"`{facts.code}`",
        ]
        for kind, facts in FACTS.items()
    }


def test_every_error_and_every_code_is_documented() -> None:
    from apikeyrouter.domain import errors
    from apikeyrouter_proxy.routes import errors as management

    text = text_of("docs/reference/errors.md")
    for name in errors.__all__:
        assert f"`{name}`" in text or name == "ErrorCategory", name
    source = "".join(f.read_text() for f in sorted((ROOT / "packages/proxy").rglob("*.py")))
    codes = set(re.findall(r"code=\"([a-z_]+)\"", source))
    codes |= set(re.findall(r"\d{3}, \"([a-z_]+)\"\)", Path(management.__file__).read_text()))
    assert len(codes) > 15
    assert {code for code in codes if f"`{code}`" not in text} == set()


def test_every_code_of_a_rejection_is_documented() -> None:
    from apikeyrouter.domain.keys import effects, eligibility
    from apikeyrouter.domain.routing import choose

    source = "".join(Path(str(module.__file__)).read_text() for module in (effects, eligibility, choose))
    codes = set(re.findall(r"Block\(\s*\"([a-z_]+)\"", source)) | set(re.findall(r"code = \"([a-z_]+)\"", source))
    codes |= set(re.findall(r"\(_E\.\w+, \"([a-z_]+)\"", source)) | {eligibility.EJECTED, "headroom"}
    documented = set(re.findall(r"`([a-z_]+)`", text_of("docs/how-to/explanations.md")))
    assert len(codes) > 8
    assert codes - documented == set()


def test_every_fault_of_the_simulated_provider_is_documented() -> None:
    from apikeyrouter.simulation.faults import Fault, FaultKind

    text = text_of("docs/how-to/testing-with-the-simulator.md")
    fields = set(Fault.__struct_fields__)
    assert {name for name in {kind.value for kind in FaultKind} | fields if f"`{name}`" not in text} == set()


def test_the_fault_scoreboard_of_the_readme_has_a_row_for_each_scenario() -> None:
    from bench.faults import SCENARIOS

    text = text_of("README.md")
    tables = text[text.index("| one key of three |") : text.index("*Others*")]
    assert len([row for row in rows(tables) if "---" not in row[0]]) - 2 == len(SCENARIOS)
