"""`serve` without the library that reads command lines: where it reads one, the library reads the very same."""

from __future__ import annotations

from dataclasses import asdict

import typer
from hypothesis import given
from hypothesis import strategies as st

from apikeyrouter_proxy.cli.at_once import read_start
from apikeyrouter_proxy.cli.program import app
from apikeyrouter_proxy.cli.starting import Start

SERVE = typer.main.get_command(app).commands["serve"]  # type: ignore[attr-defined]  # a group, which it does not say
NAMES = sorted(name for option in SERVE.params for name in (*option.opts, *option.secondary_opts))
VALUES = [
    "8000",
    "0",
    "65535",
    "65536",
    "00080",
    "8_000",
    " 80",
    "+80",
    "1",
    "64",
    "65",
    "x",
    "memory:",
    "a=b",
    "",
    "-p",
]
WORDS = st.one_of(
    st.sampled_from(NAMES),
    st.sampled_from(VALUES),
    st.tuples(st.sampled_from(NAMES), st.sampled_from(VALUES)).map("=".join),
    st.tuples(st.sampled_from(NAMES), st.sampled_from(VALUES)).map("".join),
    st.sampled_from(["--", "--he", "--wor", "--help", "-j", "\N{ARABIC-INDIC DIGIT THREE}"]),
)
PAIRS = st.tuples(st.sampled_from(NAMES), st.sampled_from(VALUES))
COMMAND_LINES = st.one_of(
    st.lists(WORDS, max_size=6),
    st.lists(PAIRS, max_size=4).map(lambda pairs: [word for pair in pairs for word in pair]),
)


def read_by_the_library(arguments: list[str]) -> dict[str, object]:
    """The options as the whole program understands them. Raises what it raises for a wrong command line."""
    return dict(SERVE.make_context("serve", list(arguments)).params)


@given(COMMAND_LINES)
def test_what_is_read_at_once_is_what_the_whole_program_reads(arguments: list[str]) -> None:
    chosen = read_start(arguments)
    if chosen is not None:
        assert asdict(chosen) == read_by_the_library(arguments)


def test_every_option_of_serve_is_read_at_once_in_both_ways_of_writing() -> None:
    values = {"--port": "8001", "-p": "8001", "--workers": "2", "-w": "2"}
    told = [name for name in NAMES if name not in ("--json", "--help", "-h")]
    assert len(told) == 10
    for name in told:
        for arguments in [[name, values.get(name, "text")], [f"{name}={values.get(name, 'text')}"]]:
            if name.startswith("--") or len(arguments) == 2:
                chosen = read_start(arguments)
                assert chosen is not None, arguments
                assert chosen != Start()
    assert read_start(["--json", "--port", "0"]) == Start(port=0, as_json=True)


def test_faults_abbreviations_and_help_are_left_to_the_whole_program() -> None:
    lines = [["--help"], ["--por", "1"], ["-p8000"], ["--port"], ["--port", "70000"], ["--workers", "0"], ["x"], ["--"]]
    assert [line for line in lines if read_start(line) is not None] == []
