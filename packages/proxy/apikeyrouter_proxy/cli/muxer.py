"""`muxer`: the predictor of what a strong model wins: train one on your outcomes, judge it, fit its thresholds.

    apikeyrouter muxer train outcomes.jsonl --out mine.json
    APIKEYROUTER_MUXER_MODEL=mine.json apikeyrouter serve

What a log holds: `apikeyrouter.muxer.trained.log`. Laws: nothing is sent anywhere, no extra package is needed; a line
that cannot be used ends the command with its number; figures of `train` come from prompts whose group was held out.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Optional

import typer

from apikeyrouter_proxy.cli.console import note, print_json, print_table, say
from apikeyrouter_proxy.cli.failures import USAGE, CliError
from apikeyrouter_proxy.cli.options import AsJson, EnvFile, Store, Url
from apikeyrouter_proxy.cli.service import Where, open_service

if TYPE_CHECKING:
    from apikeyrouter.muxer.trained.log import Example
    from apikeyrouter.muxer.trained.metrics import Outcomes
    from apikeyrouter.muxer.trained.model import Model

__all__ = ["register"]

_SHARES = (0.1, 0.25, 0.5, 0.75)
_ROUNDS = 100
_Log = Annotated[Path, typer.Argument(metavar="LOG", help='JSON lines: {"prompt": ..., "weak": 0..1, "strong": 0..1}.')]
_ModelFile = Annotated[
    Optional[Path],  # noqa: UP045
    typer.Option(
        "--model", "-m", help="A model file; default: APIKEYROUTER_MUXER_MODEL, else the one that is shipped."
    ),
]
_Out = Annotated[Path, typer.Option("--out", "-o", help="Where the model is written.")]


def register(app: typer.Typer) -> None:
    """Adds the group."""
    group = typer.Typer(
        no_args_is_help=True, rich_markup_mode=None, help="Train and judge the predictor behind `auto` models."
    )
    for verb in (train, evaluate, calibrate, export):
        group.command(verb.__name__)(verb)
    app.add_typer(group, name="muxer")


def train(
    log: _Log,
    out: _Out = Path("muxer-model.json"),
    name: Annotated[str, typer.Option("--name", help="How explanations call it.")] = "trained",
    as_json: AsJson = False,
) -> None:
    """Train a predictor on prompts and how well a weak and a strong model answered them."""
    from apikeyrouter.muxer.trained.training import train as learn

    content, examples = _read(log, outcomes=True)
    with _progress("Learning", len(examples)) as tick, _said_plainly(log):
        model = learn(examples, name=name, log_sha256=hashlib.sha256(content).hexdigest(), tick=tick)
    _write(out, model)
    figures = {"file": str(out), "rows": model.rows, "held_out_groups": model.groups, **model.figures}
    if as_json:
        print_json(figures)
        return
    say(f"Trained on {model.rows} outcomes; figures are of prompts whose group ({model.groups} in all) was held out.")
    _tell_figures(model.figures)
    if (model.figures.get("apgr") or 0.0) < 0.52:
        note("It ranks no better than chance: these prompts alone do not tell. A cascade may; so may more outcomes.")
    note(f"Wrote {out}. Set APIKEYROUTER_MUXER_MODEL={out} to use it.")


def evaluate(log: _Log, model_file: _ModelFile = None, as_json: AsJson = False) -> None:
    """Judge a predictor by outcomes: accuracy at each share of strong calls, and how true its probabilities are."""
    from random import Random

    from apikeyrouter.muxer.trained.calibration import calibration_error
    from apikeyrouter.muxer.trained.metrics import apgr, calls_for, ranked, spread
    from apikeyrouter.muxer.trained.training import grouped

    content, examples = _read(log, outcomes=True)
    model = _load(model_file)
    if not examples:
        raise CliError(f"{log} is empty: there is nothing to judge by.")
    gains = []
    with _progress("Reading prompts", len(examples)) as tick:
        for example in examples:
            gains.append(model.strong_gain(example.prompt))
            tick("row")
    weak, strong = [e.weak or 0.0 for e in examples], [e.strong or 0.0 for e in examples]
    outcomes = ranked(gains, weak, strong)
    (between,) = spread(gains, weak, strong, grouped(examples), (apgr,), Random(7), rounds=_ROUNDS)
    seen = [max(s - w, 0.0) for w, s in zip(weak, strong, strict=True)]
    figures: dict[str, Any] = {
        "model": model.name,
        "rows": len(examples),
        "apgr": apgr(outcomes),
        "apgr_95": list(between) if between else None,
        "calls_for_50": calls_for(outcomes, 0.5),
        "calls_for_80": calls_for(outcomes, 0.8),
        "calibration_error": calibration_error(gains, seen),
        "weak_accuracy": outcomes.weak,
        "strong_accuracy": outcomes.weak + outcomes.gap,
        "by_share": _by_share(outcomes, model, gains),
        "trained_on_this_log": model.log_sha256 == hashlib.sha256(content).hexdigest(),
    }
    if as_json:
        print_json(figures)
        return
    say(f"{model.name} on {len(examples)} outcomes:")
    _tell_figures(figures)
    print_table(
        ("strong calls wanted", "threshold", "strong calls here", "accuracy"),
        [
            (_percent(row["wanted"]), f"{row['threshold']:.3f}", _percent(row["share"]), _percent(row["accuracy"]))
            for row in figures["by_share"]
        ],
    )
    if figures["trained_on_this_log"]:
        note("This is the log that it was trained on: these figures flatter it. Those of `muxer train` do not.")


def calibrate(log: _Log, out: _Out = Path("muxer-model.json"), model_file: _ModelFile = None) -> None:
    """Fit a predictor's probabilities and thresholds to your traffic. Lines without outcomes count for thresholds."""
    from apikeyrouter.muxer.trained.training import recalibrate

    _, examples = _read(log, outcomes=False)
    model = _load(model_file)
    with _progress("Reading prompts", len(examples)) as tick, _said_plainly(log):
        fitted = recalibrate(model, examples, tick)
    _write(out, fitted)
    known = sum(example.weak is not None for example in examples)
    say(f"Thresholds from {len(examples)} prompts" + (f", probabilities from {known} outcomes." if known else "."))
    print_table(
        ("strong calls", "threshold before", "threshold now"),
        [
            (_percent(share), f"{model.threshold_for(share):.3f}", f"{fitted.threshold_for(share):.3f}")
            for share in _SHARES
        ],
    )
    note(f"Wrote {out}. Set APIKEYROUTER_MUXER_MODEL={out} to use it.")


def export(
    prompts: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option("--prompts", help='JSON lines of yours: {"request_id": ..., "prompt": ...}.'),
    ] = None,
    both: Annotated[
        bool,
        typer.Option("--both", help="With --prompts: only those with outcomes of both models, as train wants them."),
    ] = False,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, max=1_000, help="The last so many marks.")] = 1_000,
    url: Url = None,
    store: Store = None,
    env_file: EnvFile = None,
) -> None:
    """Print the feedback that was given, one JSON object a line; with --prompts as a log for train and calibrate.

    The proxy keeps no prompts: only who sent them can tell which text a request id stands for.
    """
    from apikeyrouter.muxer.outcomes import joined

    if both and prompts is None:
        raise CliError("--both needs --prompts: a mark alone has no prompt and one model's outcome.", USAGE)
    texts = None if prompts is None else _prompts(prompts)
    with open_service(Where(url, store, env_file)) as service:
        marks = service.get(f"/api/v1/feedback?limit={limit}")["data"]
    rows = marks if texts is None else joined(marks, texts)
    whole = [row for row in rows if "weak" in row]
    for row in whole if both else rows:
        typer.echo(json.dumps(row, ensure_ascii=False))
    note(
        f"{len(marks)} marks." if texts is None else f"{len(rows)} prompts, {len(whole)} with outcomes of both models."
    )


def _prompts(path: Path) -> dict[str, str]:
    """Texts by request id. Raises CliError that names the line."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as fault:
        raise CliError(f"{path} cannot be read: {fault}.") from None
    found: dict[str, str] = {}
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except ValueError as fault:
            raise CliError(f"{path}, line {number}: not JSON ({fault}). Each line is one JSON object.") from None
        said = (row.get("request_id"), row.get("prompt")) if isinstance(row, dict) else (None, None)
        if not all(isinstance(one, str) and one.strip() for one in said):
            raise CliError(f'{path}, line {number}: needs "request_id" and "prompt", both texts.')
        found[str(said[0])] = str(said[1])
    return found


def _by_share(outcomes: Outcomes, model: Model, gains: Sequence[float]) -> list[dict[str, float]]:
    """What the model's own thresholds do on this log: the share of strong calls, and the accuracy."""
    rows = []
    total = outcomes.total
    for wanted in _SHARES:
        threshold = model.threshold_for(wanted)
        sent = sum(gain >= threshold for gain in gains)
        # outcomes stand in the order of falling gains
        accuracy = outcomes.weak + sum(outcomes.gains[:sent]) / total
        rows.append({"wanted": wanted, "threshold": threshold, "share": sent / total, "accuracy": accuracy})
    return rows


def _read(log: Path, *, outcomes: bool) -> tuple[bytes, list[Example]]:
    from apikeyrouter.muxer.trained.log import LogError, read_log

    try:
        content = log.read_bytes()
    except OSError as fault:
        raise CliError(f"{log} cannot be read: {fault.strerror}.") from None
    try:
        return content, list(read_log(content.splitlines(), outcomes=outcomes))
    except LogError as fault:
        raise CliError(f"{log}, {fault.message}") from None


def _load(path: Path | None) -> Model:
    from apikeyrouter.muxer.trained import MODEL_VARIABLE, load

    return load(path or os.environ.get(MODEL_VARIABLE, "").strip() or None)


def _write(path: Path, model: Model) -> None:
    from apikeyrouter.muxer.trained.model import model_bytes

    try:
        path.write_bytes(model_bytes(model))
    except OSError as fault:
        raise CliError(f"{path} cannot be written: {fault.strerror}.") from None


@contextmanager
def _said_plainly(log: Path) -> Iterator[None]:
    """A log that cannot teach anything, as an error of the command."""
    try:
        yield
    except ValueError as fault:
        raise CliError(f"{log}: {fault}.") from None


@contextmanager
def _progress(what: str, rows: int) -> Iterator[Callable[[str], None]]:
    """A bar on standard error, where that is a terminal. Yields what is to be told of each row."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    console = Console(stderr=True)
    with Progress(*columns, console=console, transient=True, disable=not sys.stderr.isatty()) as progress:
        task = progress.add_task(what, total=rows)

        def tick(kind: str) -> None:
            if kind == "row":
                progress.advance(task)

        yield tick


def _tell_figures(figures: dict[str, Any]) -> None:
    between = figures.get("apgr_95")
    spread = f" (95 %: {between[0]:.3f} to {between[1]:.3f})" if between else ""
    area = figures["apgr"]
    rows = (
        ("gap recovered, mean over all shares (APGR; chance: 0.5)", "-" if area is None else f"{area:.3f}{spread}"),
        ("strong calls for half of the gap (chance: 50 %)", _percent(figures["calls_for_50"])),
        ("strong calls for 80 % of the gap (chance: 80 %)", _percent(figures["calls_for_80"])),
        ("mean error of its probabilities", _percent(figures["calibration_error"])),
        ("weak model alone", _percent(figures["weak_accuracy"])),
        ("strong model alone", _percent(figures["strong_accuracy"])),
    )
    print_table(("figure", "value"), rows)


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.1f} %"
