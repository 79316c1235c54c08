"""What the trained predictor and the cascade are worth, on public outcomes that they have not seen.

Entry: `main(argv)` (`python -m bench model_routing`). Reads `routellm/dev.jsonl` from the data folder
(`APIKEYROUTER_DATA`, else `../shared/data`): MMLU and GSM8K, answered by a weak model (Mixtral-8x7B) and a strong one
(GPT-4-1106), right or wrong.
`--train` writes the shipped files anew, `--check` compares them byte for byte, `--plots DIR` draws SVG files.
Laws: each MMLU subject is scored by a fit that has seen no prompt of it, GSM8K by one that has seen MMLU only; what is
chosen or calibrated is chosen on the other subjects; resampling draws whole subjects.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import statistics
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

from apikeyrouter.muxer import trained
from apikeyrouter.muxer.tasks import read_prompt
from apikeyrouter.muxer.trained.calibration import calibration_error, fit_curve
from apikeyrouter.muxer.trained.fitting import add, fit
from apikeyrouter.muxer.trained.log import Example, read_log
from apikeyrouter.muxer.trained.metrics import Outcomes, apgr, calls_for, cost_quality, ranked, spread
from apikeyrouter.muxer.trained.model import Model, model_bytes
from apikeyrouter.muxer.trained.training import MIXES, HeldOut, Study, assemble, hold_out, study
from bench import model_routing_cascade as replies
from bench import report
from bench.model_routing_report import Judged, cascade_table, draw_all, routers_table, subjects_table
from bench.targets import CACHE

NAME = "form-1"
GSM8K = "gsm8k"
REPLIES = trained.SHIPPED.with_name("replies.json")
ROUNDS = 100
HALVES = 40
_KB = 1024


@dataclass(slots=True)
class Evaluation:
    """Everything that was measured; each list in the order of the log's rows."""

    examples: list[Example]
    data: Study
    scores: list[float]
    gains: list[float]
    subjects: dict[str, list[int]]

    def rows(self, *, without: Sequence[str] = ()) -> list[int]:
        """The rows of MMLU, some subjects left out."""
        return [place for name, places in self.subjects.items() if name not in without for place in places]

    def judge(self, name: str, scores: Sequence[float], rows: Sequence[int], rounds: int = 0) -> Judged:
        """A router's figures over some rows; `rounds` > 0: with their spread over subjects."""
        order = sorted(rows, key=lambda place: -scores[place])
        given = [scores[place] for place in order]
        weak = [self.data.weak[place] for place in order]
        strong = [self.data.strong[place] for place in order]
        outcomes = ranked(given, weak, strong)
        groups: dict[str, list[int]] = {}
        for index, place in enumerate(order):
            groups.setdefault(self.examples[place].group, []).append(index)

        areas, halves, mosts = (
            spread(given, weak, strong, groups, (apgr, _half, _most), Random(7), rounds=rounds)
            if rounds
            else (None, None, None)
        )
        return Judged(
            name=name,
            apgr=apgr(outcomes),
            apgr_spread=areas,
            calls_50=calls_for(outcomes, 0.5),
            calls_50_spread=halves,
            calls_80=calls_for(outcomes, 0.8),
            calls_for_95=calls_for(outcomes, (0.95 * (outcomes.weak + outcomes.gap) - outcomes.weak) / outcomes.gap),
            calls_80_spread=mosts,
            curve=[(point.share, point.accuracy) for point in cost_quality(outcomes)],
        )


def _half(outcomes: Outcomes) -> float | None:
    return calls_for(outcomes, 0.5)


def _most(outcomes: Outcomes) -> float | None:
    return calls_for(outcomes, 0.8)


def data_file() -> Path:
    """Where the outcomes lie, if they do."""
    given = os.environ.get("APIKEYROUTER_DATA")
    folder = Path(given) if given else Path(__file__).resolve().parents[2] / "shared" / "data"
    return folder / "routellm" / "dev.jsonl"


def evaluate(examples: list[Example]) -> Evaluation:
    """Predicts every subject by what the others teach."""
    data = study(examples)
    held = hold_out(data)
    without = fit(add(part for name, part in data.sums.items() if name != GSM8K))
    for place in data.groups[GSM8K]:
        held.weak[place], held.strong[place] = (line.at(data.rows[place]) for line in without)
    subjects = {name: places for name, places in data.groups.items() if name != GSM8K}
    scores, gains, seen = [0.0] * len(examples), [0.0] * len(examples), data.gains
    for places in data.groups.values():
        mine = set(places)
        others = [place for rows in subjects.values() for place in rows if place not in mine]
        mix = _mix(data, held, others)
        ranks = held.scores(mix, words=False)
        curve = fit_curve([ranks[place] for place in others], [seen[place] for place in others])
        for place in places:
            scores[place], gains[place] = ranks[place], curve.at(ranks[place])
    return Evaluation(examples, data, scores, gains, subjects)


def _mix(data: Study, held: HeldOut, rows: Sequence[int]) -> float:
    """The mix that ranks these rows best."""

    def area(mix: float) -> float:
        scores = held.scores(mix, words=False)
        return apgr(ranked(*([values[p] for p in rows] for values in (scores, data.weak, data.strong)))) or 0.0

    return max(MIXES, key=area)


def routers(found: Evaluation) -> dict[str, list[float]]:
    """The predictor beside simpler reasons and beside perfect knowledge, each as scores of all rows."""
    chance = Random(1)
    return {
        "random": [chance.random() for _ in found.examples],
        "length of the prompt": [float(len(example.prompt)) for example in found.examples],
        "complexity (untrained)": [read_prompt(example.prompt).complexity for example in found.examples],
        "trained, held out": found.scores,
        "perfect knowledge": [s - w for w, s in zip(found.data.weak, found.data.strong, strict=True)],
    }


def within_subjects(found: Evaluation, scores: Sequence[float]) -> float:
    """Mean APGR inside single subjects, weighted by size: what is left when telling subjects apart does not count."""
    areas = []
    for places in found.subjects.values():
        outcomes = ranked(*([values[p] for p in places] for values in (scores, found.data.weak, found.data.strong)))
        if outcomes.gap > 0.02 and (area := apgr(outcomes)) is not None:
            areas.append((area, len(places)))
    return sum(area * size for area, size in areas) / sum(size for _, size in areas)


def halves(found: Evaluation, lengths: Sequence[float], rounds: int = HALVES) -> tuple[list[float], list[float]]:
    """APGR on half of the MMLU subjects by what the other half teaches, for `rounds` ways to draw the halves: how the
    fit carries over when it has seen fewer kinds. The second list: of `lengths`, on the same halves."""
    rng, names, data = Random(14), sorted(found.subjects), found.data
    trained_areas, length_areas = [], []
    for _ in range(rounds):
        rng.shuffle(names)
        line, _ = fit(add(data.sums[name] for name in names[: len(names) // 2]))
        places = [place for name in names[len(names) // 2 :] for place in found.subjects[name]]
        weak, strong = [data.weak[p] for p in places], [data.strong[p] for p in places]
        trained_areas.append(apgr(ranked([-line.at(data.rows[p]) for p in places], weak, strong)) or 0.0)
        length_areas.append(apgr(ranked([lengths[p] for p in places], weak, strong)) or 0.0)
    return trained_areas, length_areas


def gsm8k_alone(examples: Sequence[Example]) -> tuple[list[float], Study]:
    """Scores of GSM8K when its own other prompts teach (ten folds): how much a prompt tells at all."""
    data = study([example for example in examples if example.group == GSM8K])
    return hold_out(data).scores(1.0, words=False), data


def shipped_bytes(examples: list[Example], content: bytes, rows: Sequence[Mapping[str, Any]]) -> dict[Path, bytes]:
    """The files that the package ships, made from the data."""
    data = study(examples)
    model = assemble(data, hold_out(data), name=NAME, log_sha256=hashlib.sha256(content).hexdigest())
    return {
        trained.SHIPPED: model_bytes(model),
        REPLIES: replies.reply_model_bytes(replies.read_replies(rows)),
    }


def microseconds_per_kb(model: Model, examples: Sequence[Example], rounds: int = 7) -> float:
    """CPU time of one prediction for a prompt of about 1 KB; the best of some rounds."""
    prompts = [e.prompt for e in examples if 0.9 * _KB < len(e.prompt) < 1.1 * _KB][:100]
    best = float("inf")
    for _ in range(rounds):
        start = time.process_time()
        for prompt in prompts:
            model.strong_gain(prompt)
        best = min(best, time.process_time() - start)
    return best / len(prompts) * 1e6


def main(argv: Sequence[str] | None = None) -> int:
    """Prints the tables; 0, or 1 where a goal is missed or the shipped files differ."""
    parser = argparse.ArgumentParser(prog="python -m bench model_routing", description=__doc__)
    parser.add_argument("--train", action="store_true", help="write the shipped files anew, and stop")
    parser.add_argument("--check", action="store_true", help="compare the shipped files with newly made ones, and stop")
    parser.add_argument("--plots", type=Path, default=CACHE, help="folder for the SVG files")
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="rounds of resampling subjects")
    options = parser.parse_args(argv)
    path = data_file()
    if not path.is_file():
        print(f"data not found, skipped: {path}")
        return 0
    content = path.read_bytes()
    examples = list(read_log(content.splitlines()))
    rows = [json.loads(line) for line in content.splitlines() if line.strip()]
    if options.train or options.check:
        return _make(shipped_bytes(examples, content, rows), write=options.train)
    return _report(examples, rows, options.plots, options.rounds)


def _make(files: Mapping[Path, bytes], *, write: bool) -> int:
    same = True
    for path, content in files.items():
        if write:
            path.write_bytes(content)
            print(f"wrote {path.name}: {len(content):,} bytes")
            continue
        is_same = path.is_file() and path.read_bytes() == content
        same = same and is_same
        print(f"{path.name}: {len(content):,} bytes, {'as shipped' if is_same else 'DIFFERS from what is shipped'}")
    return 0 if same else 1


def _report(examples: list[Example], rows: Sequence[Mapping[str, Any]], folder: Path, rounds: int) -> int:
    found = evaluate(examples)
    names = routers(found)
    mmlu, gsm = found.rows(), found.data.groups[GSM8K]
    alone_scores, alone = gsm8k_alone(examples)
    judged = {
        "MMLU": [found.judge(n, s, mmlu, rounds if n in _WITH_SPREAD else 0) for n, s in names.items()],
        "MMLU without moral scenarios": [
            found.judge(n, s, found.rows(without=["mmlu_moral_scenarios"]), rounds if n in _WITH_SPREAD else 0)
            for n, s in names.items()
        ],
        "GSM8K (learnt from MMLU only)": [
            found.judge(n, s, gsm, rounds if n in _WITH_SPREAD else 0) for n, s in names.items()
        ],
    }
    outcomes = ranked(alone_scores, alone.weak, alone.strong)
    for title, table in judged.items():
        print(f"\n{title}\n{routers_table(table)}")
    print(f"\nGSM8K, learnt from its own other prompts (ten folds): APGR {apgr(outcomes):.3f}")
    for name in ("length of the prompt", "complexity (untrained)", "trained, held out"):
        print(f"inside single MMLU subjects, mean APGR: {name} {within_subjects(found, names[name]):.3f}")
    ours, length = halves(found, names["length of the prompt"])
    print(
        f"learnt from half of the subjects, judged on the others ({HALVES} draws): APGR {statistics.mean(ours):.3f} "
        f"(sd {statistics.stdev(ours):.3f}); length of the prompt {statistics.mean(length):.3f}, worse in "
        f"{sum(one > other for one, other in zip(ours, length, strict=True))}"
    )
    print(f"\n{subjects_table(found.subjects, found.data, found.scores, found.gains)}")
    real = found.data.gains
    seen = [real[p] for p in mmlu]
    error = calibration_error([found.gains[p] for p in mmlu], seen)
    error_gsm = calibration_error([found.gains[p] for p in gsm], [real[p] for p in gsm])
    print(f"\ncalibration error of the gain: MMLU held out {error:.3f}, GSM8K {error_gsm:.3f}")
    played = replies.read_replies(rows)
    reasons = replies.signals(played, [found.scores[p] for p in gsm])
    print(f"\nCascade on GSM8K\n{cascade_table(played, reasons)}")
    better, changed = replies.regraded(rows)
    right = f"strong model right: {statistics.mean(played.strong):.1%}, then {statistics.mean(better.strong):.1%}"
    print(f"\nThe same, {changed} results of the strong model put right ({right})\n{cascade_table(better, reasons)}")
    draw_all(folder, judged, (found.gains, real, mmlu, gsm), (played, reasons))
    per_kb = microseconds_per_kb(trained.load(trained.SHIPPED), examples)
    trained_row = judged["MMLU"][list(names).index("trained, held out")]
    goals = [
        report.Goal("APGR on held-out MMLU subjects (random: 0.5)", trained_row.apgr, 0.6, False),
        report.Goal("strong calls for half of the gap", trained_row.calls_50, 0.45, True),
        report.Goal("calibration error, MMLU held out", error, 0.05, True),
        report.Goal("size of the model file", float(trained.SHIPPED.stat().st_size), 2.0 * _KB * _KB, True, "bytes"),
        report.Goal("CPU of one prediction, 1 KB", per_kb, 300.0, True, "us"),
    ]
    for goal in goals:
        mark = "met" if goal.met else "MISSED"
        print(f"{goal.label}: {goal.value:,.3f} {goal.unit} ({mark}: {'<=' if goal.at_most else '>='} {goal.bound:,g})")
    print(f"median gain foreseen: {statistics.median(found.gains):.3f}; plots in {folder}")
    return 0 if all(goal.met for goal in goals) else 1


_WITH_SPREAD = ("complexity (untrained)", "trained, held out")

if __name__ == "__main__":
    sys.exit(main())
