"""`apikeyrouter muxer`: train on a log, judge, calibrate, and be told what is wrong with a line."""

from __future__ import annotations

import json
from pathlib import Path
from random import Random

from tests.support.command import run_cli

EASY = "What is the name of the river in {}?"
HARD = "Suppose that x = {0} and y = {0} + 3, and she pays 20 % less for each. How much would they pay, if at all?"


def write_log(path: Path, rows: int, *, outcomes: bool = True) -> Path:
    rng = Random(2)
    lines = []
    for number in range(rows):
        is_hard = rng.random() < 0.5
        row: dict[str, object] = {"prompt": (HARD if is_hard else EASY).format(number), "group": f"team {number % 4}"}
        if outcomes:
            weak = rng.random() < (0.3 if is_hard else 0.9)
            row |= {"weak": int(weak), "strong": int(weak or rng.random() < 0.8)}
        lines.append(json.dumps(row))
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def test_a_model_is_trained_judged_and_calibrated_and_the_environment_names_it(tmp_path: Path) -> None:
    log = write_log(tmp_path / "log.jsonl", 400)
    trained = run_cli("muxer", "train", log.name, "--out", "mine.json", "--name", "ours", folder=tmp_path)
    assert "Trained on 400 outcomes" in trained.out
    assert "APIKEYROUTER_MUXER_MODEL=mine.json" in trained.err
    first = (tmp_path / "mine.json").read_bytes()
    figures = json.loads(
        run_cli("muxer", "train", log.name, "--out", "mine.json", "--json", "--name", "ours", folder=tmp_path).out
    )
    assert figures["apgr"] > 0.6
    assert (tmp_path / "mine.json").read_bytes() == first

    env = {"APIKEYROUTER_MUXER_MODEL": "mine.json"}
    judged = run_cli("muxer", "evaluate", log.name, folder=tmp_path, env=env)
    assert "ours on 400 outcomes" in judged.out
    assert "these figures flatter it" in judged.err
    other = write_log(tmp_path / "other.jsonl", 150)
    said = json.loads(run_cli("muxer", "evaluate", other.name, "--json", folder=tmp_path, env=env).out)
    assert said["model"] == "ours"
    assert not said["trained_on_this_log"]
    assert [row["wanted"] for row in said["by_share"]] == [0.1, 0.25, 0.5, 0.75]
    assert said["weak_accuracy"] < said["by_share"][2]["accuracy"] < said["strong_accuracy"] + 0.05

    prompts = write_log(tmp_path / "prompts.jsonl", 120, outcomes=False)
    fitted = run_cli("muxer", "calibrate", prompts.name, "-m", "mine.json", "-o", "fitted.json", folder=tmp_path)
    assert "Thresholds from 120 prompts." in fitted.out
    assert (tmp_path / "fitted.json").read_bytes() != first


def test_what_is_wrong_is_told_with_the_line(tmp_path: Path) -> None:
    log = write_log(tmp_path / "log.jsonl", 120)
    with log.open("a", encoding="utf-8") as file:
        file.write('{"prompt": "x", "weak": 3, "strong": 1}\n')
    failed = run_cli("muxer", "train", log.name, folder=tmp_path, status=1)
    assert 'log.jsonl, line 121: "weak" is 3; it must be true, false, or a number from 0 to 1.' in failed.err
    assert "Traceback" not in failed.err
    small = write_log(tmp_path / "small.jsonl", 20)
    assert "20 outcomes are too few" in run_cli("muxer", "train", small.name, folder=tmp_path, status=1).err
    assert "cannot be read" in run_cli("muxer", "evaluate", "absent.jsonl", folder=tmp_path, status=1).err
    (tmp_path / "empty.jsonl").write_text("")
    assert "is empty" in run_cli("muxer", "evaluate", "empty.jsonl", folder=tmp_path, status=1).err
    env = {"APIKEYROUTER_MUXER_MODEL": "absent.json"}
    assert (
        "absent.json cannot be read" in run_cli("muxer", "evaluate", small.name, folder=tmp_path, env=env, status=2).err
    )
