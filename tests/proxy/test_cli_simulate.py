"""`apikeyrouter simulate`: what it prints and writes, and how it refuses what makes no sense."""

from __future__ import annotations

import json
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from apikeyrouter_proxy.cli import main
from apikeyrouter_proxy.cli.simulate_options import Asked, replay, traffic_maker, world_of

_SMALL = ["--poisson", "4", "-n", "150"]


def _run(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    status = main(["simulate", *words])
    said = capsys.readouterr()
    return status, said.out, said.err


def test_policies_stand_side_by_side(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    page, figures = tmp_path / "page.html", tmp_path / "figures.json"
    status, out, err = _run(
        capsys, *_SMALL, "--policy", "ours,oracle,round-robin", "--html", str(page), "--json", str(figures)
    )
    assert status == 0, err
    assert all(name in out for name in ("ours", "oracle", "round-robin", "150 requests in", "80% of capacity"))
    document = json.loads(figures.read_text())
    assert [row["policy"] for row in document["policies"]] == ["ours", "oracle", "round-robin"]
    assert document["policies"][1]["of_oracle_ratio"] == 1.0
    text = page.read_text()
    assert text.startswith("<!doctype html>")
    assert text.count("<polyline") == 9
    assert "<script" not in text
    assert "http" not in text.replace("http-equiv", "")


@pytest.mark.parametrize("words", [["--html"], ["--json"], ["plan", "--pool", "rpm=60", "--json"]])
def test_a_file_that_cannot_be_written_is_told_before_anything_is_simulated(
    words: list[str], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    for path, why in ((tmp_path / "missing" / "page", "No such file or directory"), (tmp_path, "Is a directory")):
        status, out, err = _run(capsys, *words, str(path), *_SMALL)
        assert (status, out) == (1, "")
        assert f"{path} cannot be written: {why}." in err
        assert "served" not in err


def test_a_run_that_is_refused_leaves_no_file_and_spoils_none(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    new, old = tmp_path / "new.html", tmp_path / "old.json"
    old.write_text("kept")
    status, _, _ = _run(capsys, *_SMALL, "--html", str(new), "--json", str(old), "--policy", "nobody")
    assert status == 2
    assert (new.exists(), old.read_text()) == (False, "kept")


def test_who_reads_from_a_pipe_gets_the_figures_and_a_link_stays_a_link(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    pipe, link, behind = tmp_path / "pipe", tmp_path / "link.html", tmp_path / "behind.html"
    os.mkfifo(pipe)
    link.symlink_to(behind)

    def read() -> list[str]:
        """What was read; once more for a writer who left at once, who would wait for ever else."""
        first = pipe.read_text()
        return [first] if first else [first, pipe.read_text()]

    with ThreadPoolExecutor(1) as reader:
        figures = reader.submit(read)
        status, _, err = _run(capsys, *_SMALL, "--policy", "round-robin", "--json", str(pipe), "--html", str(link))
    assert status == 0, err
    assert json.loads(figures.result()[0])["policies"][0]["policy"] == "round-robin"
    assert (link.is_symlink(), behind.exists()) == (True, True)


def test_one_of_a_kind_is_told_as_one(capsys: pytest.CaptureFixture[str]) -> None:
    one = _run(capsys, *_SMALL, "--policy", "round-robin", "--pool", "rpm=600")[1]
    assert "1 pool with 1 key," in one
    more = _run(capsys, *_SMALL, "--policy", "round-robin", "--pool", "rpm=600,keys=2 x2")[1]
    assert "2 pools with 4 keys," in more
    assert "1 in 1 pool, as it is" in _run(capsys, "plan", *_SMALL, "--pool", "rpm=6000")[1]


def test_json_alone_goes_to_standard_output(capsys: pytest.CaptureFixture[str]) -> None:
    words = [*_SMALL, "--policy", "ours", "--json", "-", "--refused-count", "--seed", "5"]
    status, out, _ = _run(capsys, *words)
    assert status == 0
    document = json.loads(out)
    line = "apikeyrouter simulate --poisson 4.0 --requests 150 --refused-count --seed 5"
    assert document["about"]["replay"] == line
    again = json.loads(_run(capsys, *line.split()[2:], "--policy", "ours", "--json", "-")[1])
    assert again["policies"] == document["policies"]


def test_pools_and_events_come_from_options_and_files(tmp_path: Path) -> None:
    file = tmp_path / "keys.toml"
    file.write_text(
        'events = ["5-10 outage big"]\n[[pools]]\nname = "big"\nrpm = 600\ntpm = 1000000\nkeys = 2\n'
        "[[pools]]\nrpm = 60\ntimes = 2\n"
    )
    asked = Asked(keys=file, pool=["rpm=30 x2"], event=["1-2 gray=0.5 p1"])
    world = world_of(asked, traffic_maker(asked)(1))
    assert [(pool.name, pool.rpm, pool.keys) for pool in world.pools] == [
        ("big", 600, 2),
        ("p1", 60, 1),
        ("p2", 60, 1),
        ("p3", 30, 1),
        ("p4", 30, 1),
    ]
    assert [fault.text() for fault in world.faults] == ["5-10 outage big", "1-2 gray=0.5 p1"]
    same = tmp_path / "keys.json"
    same.write_text(json.dumps([{"name": "big", "rpm": 600}]))
    assert world_of(Asked(keys=same), traffic_maker(asked)(1)).pools[0].name == "big"


def test_a_log_and_a_load_are_brought_together(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    log = tmp_path / "log.csv"
    log.write_text("arrival,input,output\n" + "".join(f"{n},100,50\n" for n in range(100)))
    status, out, _ = _run(capsys, "--log", str(log), "--pool", "rpm=60,tpm=9k", "--load", "0.5", "--policy", "ours")
    assert status == 0
    assert "100 requests in 3.3 minutes, 50% of capacity" in out


def test_scenarios_print_their_figures_with_targets(capsys: pytest.CaptureFixture[str]) -> None:
    status, out, err = _run(capsys, "--scenario", "aggressor", "--policy", "round-robin")
    assert status == 0, err
    assert "victim's p99 wait, s" in out
    assert ">= 0.98" in out


def test_laws_are_checked_in_random_worlds(capsys: pytest.CaptureFixture[str]) -> None:
    status, out, err = _run(capsys, "--check", "--seed", "7", "--seeds", "2", "-n", "100")
    assert status == 0, err
    assert "No law was broken by 200 requests in 2 random worlds." in out


def test_a_plan_says_what_would_reach_the_target(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    file = tmp_path / "plan.json"
    status, out, err = _run(
        capsys, "plan", "--steady", "2", "-n", "300", "--pool", "rpm=60", "--target", "0.95", "--json", str(file)
    )
    assert status == 0, err
    assert "The target of 95.0% is not met as it is." in out
    made = json.loads(file.read_text())
    assert made["now"]["success_ratio"] < 0.95 <= made["tier"]["success_ratio"]
    assert made["keys"]["success_ratio"] >= 0.95
    assert len(made["keys"]["pools"]) == 2
    status, out, _ = _run(capsys, "plan", "--steady", "1", "-n", "200", "--pool", "rpm=600 x3", "--target", "0.95")
    assert status == 0
    assert "The target of 95.0% is met as it is." in out
    assert "0.25 x the limits on every pool would still be enough." in out
    assert "1 pool instead of 3 would still be enough" in out


def test_a_plan_that_cannot_be_met_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    status, _, err = _run(
        capsys, "plan", "--steady", "5", "-n", "50", "--pool", "rpm=600", "--event", "0- outage", "--target", "0.9"
    )
    assert status == 1
    assert "Nothing reaches 90.0%" in err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--policy", "best"], "no policy 'best'"),
        (["--policy", "oracle-blind", "--enforcement", "rolling"], "oracle-blind knows token buckets only"),
        (["--pool", "rpm=ten"], "rpm=ten is not a number"),
        (["--pool", "rpm=1,name=a", "--pool", "rpm=2,name=a"], "two pools have the same name: a"),
        (["--event", "1-2 fire"], "event '1-2 fire'"),
        (["--event", "1-2 outage q"], "no pool is named 'q'"),
        (["--enforcement", "hourly"], "--enforcement 'hourly' is not one of bucket, rolling, minute"),
        (["--poisson", "1", "--steady", "1"], "exclude each other"),
        (["--trace", "/there/is/no/such.csv"], "cannot be read"),
        (["--trace", "azure-llm-2023"], "download AzureLLMInferenceTrace_conv.csv"),
        (["--scenario", "flood"], "There is no scenario 'flood'; known are outage"),
        (["--objective", "joy", *_SMALL], "--objective 'joy' is not one of"),
        (["--pool", "concurrency=2", "--load", "0.5", *_SMALL], "--load needs limits a minute"),
        (["plan"], "Say what keys you have"),
    ],
)
def test_what_makes_no_sense_is_refused_in_one_line(
    capsys: pytest.CaptureFixture[str], words: list[str], said: str
) -> None:
    status, out, err = _run(capsys, *words)
    assert status == 2
    assert said in err.replace("\n", " ")
    assert "Traceback" not in err
    assert out == ""


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("pools = 3", "expected pools"),
        ("[[pools]\n", "is not TOML"),
        ("[[pools]]\nrpm = 0\n", "pool 1: pool 'p0': a limit must be above zero"),
        ("events = 1\n[[pools]]\nrpm = 5\n", "`events` must be a list"),
    ],
)
def test_files_of_keys_that_make_no_sense_are_refused(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, text: str, said: str
) -> None:
    file = tmp_path / "keys.toml"
    file.write_text(text)
    status, _, err = _run(capsys, "--keys", str(file))
    assert status == 2
    assert said in err.replace("\n", " ")


def test_a_replay_line_repeats_what_was_asked_for() -> None:
    asked = Asked(pool=["rpm=60 x2"], load=0.5, event=["1-2 outage"], no_headers=True)
    assert replay(asked, seed=9) == (
        "apikeyrouter simulate --pool 'rpm=60 x2' --load 0.5 --no-headers --event '1-2 outage' --seed 9"
    )
