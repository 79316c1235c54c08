"""The trained predictor of difficulty: what it learns, says and ships, without any data beside the shipped files."""

from __future__ import annotations

import os
import subprocess
import sys
from itertools import pairwise
from pathlib import Path
from random import Random

import msgspec
import pytest

from apikeyrouter import ApiKeyRouter
from apikeyrouter.domain.errors import ConfigurationError
from apikeyrouter.infrastructure.config.settings import RouterSettings
from apikeyrouter.muxer import trained
from apikeyrouter.muxer.difficulty import predictor, threshold_for
from apikeyrouter.muxer.trained.calibration import STEP_ROWS_MIN, calibration_error, fit_curve, reliability
from apikeyrouter.muxer.trained.features import FEATURES, WORD_PLACES, measure, word_places
from apikeyrouter.muxer.trained.fitting import add, fit, gather, subtract
from apikeyrouter.muxer.trained.log import Example, LogError, read_log
from apikeyrouter.muxer.trained.metrics import apgr, calls_for, cost_quality, ranked, spread
from apikeyrouter.muxer.trained.model import FILE_BYTES_MAX, Model, model_bytes, read_model
from apikeyrouter.muxer.trained.training import ROWS_MIN, recalibrate, train

EASY = "What is the name of the river in {}?"
HARD = (
    "Suppose that x = {0} and y = {0} + 3, and she pays 20 % less for each of them. How much would they pay, if at all?"
)


def outcomes(rows: int, seed: int = 1, groups: int = 5) -> list[Example]:
    """A log in which the weak model fails mostly where there is something to calculate, in every group."""
    rng = Random(seed)
    found = []
    for number in range(rows):
        is_hard = rng.random() < 0.5
        prompt = (HARD if is_hard else EASY).format(number)
        weak = rng.random() < (0.3 if is_hard else 0.9)
        found.append(Example(prompt, float(weak), float(weak or rng.random() < 0.8), f"group {number % groups}"))
    return found


@pytest.fixture(scope="module")
def model() -> Model:
    return train(outcomes(600))


def test_it_learns_which_prompts_need_the_strong_model(model: Model) -> None:
    assert (model.figures["apgr"] or 0) > 0.65
    assert model.strong_gain(HARD.format(7)) > 2 * model.strong_gain(EASY.format(7))
    hard = model.outlook(HARD.format(7))
    assert hard.weak < hard.strong


def test_the_same_log_gives_the_same_bytes(model: Model) -> None:
    assert model_bytes(train(outcomes(600))) == model_bytes(model)
    assert model_bytes(train(outcomes(600, seed=2))) != model_bytes(model)


def test_it_says_the_same_in_every_process() -> None:
    script = (
        "from apikeyrouter.muxer.trained import load\n"
        "from apikeyrouter.muxer.trained.features import word_places\n"
        "print(repr(load().strong_gain('Which of these is NOT so?\\nA. x\\nB. y')), word_places('to be or not to be'))"
    )
    said = {
        subprocess.run(
            [sys.executable, "-c", script],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert len(said) == 1


def test_words_are_taken_where_they_tell_what_form_does_not() -> None:
    rng = Random(3)
    examples = []
    for number in range(800):
        is_hard = rng.random() < 0.5
        prompt = f"Please explain {'tensors' if is_hard else 'candles'} {number}"
        weak = rng.random() < (0.2 if is_hard else 0.9)
        examples.append(Example(prompt, float(weak), 1.0, ""))
    taught = train(examples)
    assert taught.weak.words
    assert taught.strong_gain("Please explain tensors") > taught.strong_gain("Please explain candles") + 0.1


def test_words_stay_out_where_they_add_nothing(model: Model) -> None:
    assert not model.weak.words
    assert not model.strong.words


def test_the_shipped_model_is_small_sound_and_found() -> None:
    assert trained.SHIPPED.stat().st_size < FILE_BYTES_MAX
    shipped = trained.load()
    assert shipped is trained.load()
    assert shipped.rows > 8_000
    assert (shipped.figures["apgr"] or 0) > 0.6
    assert shipped.strong_gain("What is the capital of France?") < shipped.strong_gain(HARD.format(4))
    assert model_bytes(shipped) == trained.SHIPPED.read_bytes()


@pytest.mark.parametrize(
    "text", ["", " ", "?", "A. x\nB. y", "\ud800", "𝔘" * 50, "a" * 100_000, "1 = " * 5_000, "\n" * 9_999]
)
def test_no_text_makes_it_raise(text: str) -> None:
    assert 0.0 <= trained.load().strong_gain(text) <= 1.0
    assert len(measure(text)) == len(FEATURES)
    assert all(0 <= place < WORD_PLACES for place in word_places(text))


def test_the_middle_of_a_very_long_prompt_is_not_read() -> None:
    short, long = "Why? " * 400, "Because. " * 100_000
    assert measure(short + "x" * 3_000 + short) == measure(short + "x" * 3_000 + long + "x" * 3_000 + short)


def test_a_larger_share_of_strong_calls_means_a_lower_threshold(model: Model) -> None:
    shares = [number / 20 for number in range(21)]
    thresholds = [model.threshold_for(share) for share in shares]
    assert thresholds == sorted(thresholds, reverse=True)
    assert (thresholds[0], thresholds[-1]) == (1.0, 0.0)
    assert trained.threshold_for(0.5) == trained.load().threshold_for(0.5)
    with pytest.raises(ValueError, match="from 0 to 1"):
        model.threshold_for(1.5)


def test_the_threshold_sends_about_the_share_that_was_asked_for() -> None:
    rng = Random(8)
    prompts = [
        " ".join(rng.choices(("so", "12", "they", "if", "apples", "?"), k=rng.randint(3, 80))) for _ in range(500)
    ]
    fitted = recalibrate(trained.load(), [Example(prompt, None, None) for prompt in prompts])
    for share in (0.1, 0.25, 0.5, 0.75):
        sent = sum(fitted.strong_gain(prompt) >= fitted.threshold_for(share) for prompt in prompts) / len(prompts)
        assert abs(sent - share) < 0.03


def test_a_model_of_your_own_is_named_by_the_settings(
    model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "mine.json"
    file.write_bytes(model_bytes(msgspec.structs.replace(model, name="mine")))
    for settings in (RouterSettings(muxer_model=file), _of_environment(monkeypatch, file)):
        routing = ApiKeyRouter(config=settings).muxer
        assert routing.predictor.name == "mine"
        assert routing.predictor.strong_gain(HARD) == pytest.approx(model.strong_gain(HARD))
    assert threshold_for(0.5, file) == pytest.approx(model.threshold_for(0.5))
    assert predictor().name != "mine"


def _of_environment(monkeypatch: pytest.MonkeyPatch, file: Path) -> RouterSettings:
    monkeypatch.setenv(trained.MODEL_VARIABLE, str(file))
    return RouterSettings()


def test_a_model_that_cannot_be_used_is_told_when_the_router_is_made_not_at_the_first_request(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"muxer_model: the trained model .*absent.json cannot be read"):
        RouterSettings(muxer_model=tmp_path / "absent.json")


def _damaged(model: Model) -> dict[str, tuple[bytes, str]]:
    curve = msgspec.structs.replace(model.gain_curve, probabilities=model.gain_curve.probabilities[::-1])
    replace = msgspec.structs.replace
    return {
        "no JSON": (b"{", "no model file"),
        "too large": (b" " * (FILE_BYTES_MAX + 1), "larger than 2 MB"),
        "another version": (model_bytes(replace(model, version=99)), "another version"),
        "other features": (model_bytes(replace(model, features=["length"])), "another version"),
        "numbers missing": (model_bytes(replace(model, lowest=[0.0])), "damaged"),
        "falling calibration": (model_bytes(replace(model, gain_curve=curve)), "does not rise"),
        "no such word": (model_bytes(replace(model, weak=replace(model.weak, words={"-1": 1.0}))), "damaged"),
    }


@pytest.mark.parametrize(
    "fault",
    [
        "no JSON",
        "too large",
        "another version",
        "other features",
        "numbers missing",
        "falling calibration",
        "no such word",
    ],
)
def test_a_file_that_is_no_sound_model_is_refused_with_what_to_do(fault: str, model: Model, tmp_path: Path) -> None:
    content, said = _damaged(model)[fault]
    file = tmp_path / "model.json"
    file.write_bytes(content)
    with pytest.raises(ConfigurationError, match=said) as refused:
        read_model(file)
    assert "muxer train" in refused.value.message


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"absent\.json cannot be read"):
        trained.load(tmp_path / "absent.json")


def test_calibration_never_falls_and_keeps_the_order_of_scores() -> None:
    rng = Random(5)
    scores = [rng.gauss(0, 1) for _ in range(2_000)]
    seen = [float(rng.random() < 1 / (1 + 2.718**-score)) for score in scores]
    curve = fit_curve(scores, seen)
    chances = [curve.at(score) for score in sorted(scores)]
    assert chances == sorted(chances)
    assert len(curve.scores) >= 5
    assert calibration_error([curve.at(score) for score in scores], seen) < 0.03
    assert [count for _, _, count in reliability(scores, seen, 4)] == [500] * 4


def test_calibration_of_pure_chance_is_flat() -> None:
    curve = fit_curve([float(number) for number in range(400)], [float(number % 2) for number in range(400)])
    assert len(curve.scores) == 1
    assert curve.at(-1e9) == curve.at(1e9) == 0.5
    assert len(fit_curve([1.0] * STEP_ROWS_MIN, [1.0] * STEP_ROWS_MIN).scores) == 1
    with pytest.raises(ValueError, match="no outcomes"):
        fit_curve([], [])


def test_gains_rise_strictly_with_the_score_beyond_the_ends_too(model: Model) -> None:
    scores = [number / 10 for number in range(-50, 51)]
    gains = [model.gain_at(score) for score in scores]
    assert all(low < high for low, high in pairwise(gains) if low > 0.0 and high < 1.0)


def test_holding_a_group_out_equals_fitting_without_it() -> None:
    rng = Random(9)
    rows = [[rng.random() for _ in range(4)] for _ in range(60)]
    target = [row[0] - 2 * row[1] + rng.random() for row in rows]
    sums = gather(rows, (target,), {"a": range(20), "b": range(20, 60)})
    (held,) = fit(subtract(add(sums.values()), sums["a"]), 0.1)
    (direct,) = fit(gather(rows, (target,), {"b": range(20, 60)})["b"], 0.1)
    assert held.weights == pytest.approx(direct.weights)
    assert held.bias == pytest.approx(direct.bias)
    (free,) = fit(add(sums.values()), 1e-9)
    assert free.weights[:2] == pytest.approx([1, -2], abs=0.5)
    (bound,) = fit(add(sums.values()), 1e9)
    assert bound.weights == pytest.approx([0] * 4, abs=1e-6)


def test_a_number_that_never_varies_gets_no_weight() -> None:
    (line,) = fit(
        gather([[1.0, float(n)] for n in range(9)], ([float(n) for n in range(9)],), {"": range(9)})[""], 1e-6
    )
    assert line.weights[0] == 0.0
    assert line.at([1.0, 4.0]) == pytest.approx(4.0, abs=0.01)


def test_the_figures_are_what_their_definitions_say() -> None:
    weak, strong = [1.0, 0.0, 0.0, 1.0], [1.0, 1.0, 1.0, 1.0]
    perfect = ranked([0, 1, 1, 0], weak, strong)
    assert apgr(perfect) == pytest.approx(0.75)
    assert calls_for(perfect, 0.5) == pytest.approx(0.25)
    assert calls_for(perfect, 1.0) == pytest.approx(0.5)
    assert [(p.share, p.accuracy) for p in cost_quality(perfect, 2)] == [(0, 0.5), (0.5, 1.0), (1, 1.0)]
    indifferent = ranked([5, 5, 5, 5], weak, strong)
    assert apgr(indifferent) == pytest.approx(0.5)
    assert calls_for(indifferent, 0.8) == pytest.approx(0.8)
    assert apgr(ranked([1, 0, 0, 1], weak, strong)) == pytest.approx(0.25)
    assert apgr(ranked([1, 2], [1, 0], [0, 1])) is None
    assert calls_for(ranked([1, 2], [1, 1], [0, 1]), 0.5) is None


def test_resampling_groups_spans_the_figure() -> None:
    examples = outcomes(300)
    weak, strong = [e.weak or 0.0 for e in examples], [e.strong or 0.0 for e in examples]
    scores = [float(len(example.prompt)) for example in examples]
    groups = {str(n): list(range(n, 300, 6)) for n in range(6)}
    (between,) = spread(scores, weak, strong, groups, (apgr,), Random(1), rounds=40)
    assert between is not None
    assert between[0] < (apgr(ranked(scores, weak, strong)) or 0) < between[1]


def test_calibrating_on_other_traffic_moves_thresholds_and_probabilities(model: Model) -> None:
    easy = [Example(EASY.format(number), None, None) for number in range(300)]
    moved = recalibrate(model, easy)
    assert moved.threshold_for(0.5) < model.threshold_for(0.25)
    assert moved.gain_curve == model.gain_curve
    seen = [msgspec.structs.replace(example, weak=1.0, strong=1.0) for example in outcomes(300, seed=4)]
    assert recalibrate(model, seen).strong_gain(HARD) < 0.01


@pytest.mark.parametrize(
    ("examples", "said"),
    [
        (outcomes(ROWS_MIN - 1), "too few"),
        ([Example(f"p{n}", 1.0, 1.0) for n in range(200)], "nothing to tell apart"),
    ],
)
def test_a_log_that_cannot_teach_is_refused(examples: list[Example], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        train(examples)


def test_too_few_outcomes_do_not_calibrate(model: Model) -> None:
    with pytest.raises(ValueError, match="too few"):
        recalibrate(model, outcomes(20))
    mixed = [*outcomes(20), *(Example("x", None, None) for _ in range(200))]
    with pytest.raises(ValueError, match="20 outcomes are too few"):
        recalibrate(model, mixed)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (b'{"prompt": "x"', "line 2: not JSON"),
        (b"[]", "line 2: not a JSON object"),
        (b'{"weak": 1, "strong": 1}', '"prompt" is missing'),
        (b'{"prompt": "x", "strong": 1}', '"weak" is missing'),
        (b'{"prompt": "x", "weak": 1}', '"strong" is missing'),
        (b'{"prompt": "x", "weak": 2, "strong": 1}', "from 0 to 1"),
        (b'{"prompt": "x", "weak": "yes", "strong": 1}', "'yes'; it must be true"),
        (b'{"prompt": "x", "weak": 1, "strong": 1, "group": []}', '"group" must be a text'),
        (b"\xff\xfe", "line 2: not JSON"),
    ],
)
def test_a_line_that_cannot_be_used_is_named(line: bytes, said: str) -> None:
    with pytest.raises(LogError, match=said):
        list(read_log([b'{"prompt": "x", "weak": 0.5, "strong": true}', line]))


def test_both_spellings_of_a_log_are_read() -> None:
    (ours, theirs, bare) = read_log(
        [
            b'{"prompt": "x", "weak": 0.5, "strong": true, "group": 7}',
            b"",
            b'{"prompt": "x", "weak_correct": false, "strong_correct": true, "subject": "s", "more": 1}',
            b'{"prompt": "x"}',
        ],
        outcomes=False,
    )
    assert ours == Example("x", 0.5, 1.0, "7")
    assert theirs == Example("x", 0.0, 1.0, "s")
    assert bare == Example("x", None, None, "")
