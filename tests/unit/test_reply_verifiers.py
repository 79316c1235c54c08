"""What verifiers see in a cheap model's reply: sums that do not add up, numbers left out, replies that break off."""

from __future__ import annotations

import msgspec
import pytest

from apikeyrouter.muxer.reply_signs import SIGNS, is_ended, read_reply
from apikeyrouter.muxer.sums import number_in, numbers_in, steps_of, value_of
from apikeyrouter.muxer.verifiers import ArithmeticVerifier, FormVerifier, reply_model, verifier_for

PROMPT = "A ticket costs $12. Ann buys 4 tickets and pays with a $50 note. How many dollars does she get back?"
RIGHT = "The tickets cost 4 * $12 = $48.\nShe gets back 50 - 48 = 2 dollars.\nThe answer is 2."
WRONG = RIGHT.replace("$48", "$46").replace("50 - 48", "50 - 46").replace("is 2", "is 4").replace("= 2", "= 4")


@pytest.mark.parametrize(
    ("expression", "value"),
    [
        ("3 + 4", 7),
        ("2*(3+4)", 14),
        ("20% * 50", 10),
        ("1,200 / 4", 300),
        ("-3 - -2", -1),
        ("10 / 4 * 2", 5),
        (".5 + 1", 1.5),
        ("1 / 0", None),
        ("(1 + 2", None),
        ("1 +", None),
        ("x + 1", None),
        ("", None),
        ("(" * 50 + "1" + ")" * 50, None),
        ("1+" * 100 + "1", None),
        ("__import__('os')", None),
    ],
)
def test_an_expression_is_worth_what_it_says_and_nothing_else_is_run(expression: str, value: float | None) -> None:
    found = value_of(expression)
    assert found == (None if value is None else pytest.approx(value))


def test_the_steps_of_a_text_are_found_and_done_again() -> None:
    steps = steps_of("so 3 + 4 = 7, 7 x 12 = 86 and (2 + 3) ÷ 4 = <<(2+3)/4=1.25>>1.25; x = 5, 1/3 = 0.33; 80 = 80")
    assert [(step.said, step.right) for step in steps] == [(7, True), (86, False), (1.25, True), (0.33, True)]
    assert steps[0].operands == (3.0, 4.0)


def test_numbers_are_read_with_their_thousands_and_signs() -> None:
    assert numbers_in("1,250 and 3.50, then .5") == [1250.0, 3.5, 0.5]
    assert number_in("about -3 dollars") == -3.0
    assert number_in("none") is None


@pytest.mark.parametrize(
    ("reply", "ended"),
    [("Done.", True), ("#### 42", True), ("The answer is 42", True), ("so 3 + 4 =", False), ("and then", False)],
)
def test_a_reply_that_breaks_off_is_noticed(reply: str, ended: bool) -> None:
    assert is_ended(reply) is ended


def test_a_reply_that_adds_up_is_believed_more_than_one_that_does_not() -> None:
    verifier = ArithmeticVerifier()
    right, wrong = verifier.accept(PROMPT, RIGHT), verifier.accept(PROMPT, RIGHT.replace("= $48", "= $46"))
    assert right > 0.75
    assert wrong < right - 0.3
    assert verifier.accept(PROMPT, "The tickets cost 4 * $12 = $48. She gets") < right - 0.3
    assert verifier.accept(PROMPT, " ") == 0.0


def test_an_error_that_is_carried_on_is_seen_once_and_judged() -> None:
    assert ArithmeticVerifier().accept(PROMPT, WRONG) < ArithmeticVerifier().accept(PROMPT, RIGHT)


@pytest.mark.parametrize(
    "text", ["", "=", "1 = " * 9_000, "1+" * 9_000, "(" * 9_000, "\ud800 3 + 4 = 7", "1 " * 20_000]
)
def test_no_reply_makes_it_raise(text: str) -> None:
    assert len(read_reply(text, text)) == len(SIGNS)
    for verifier in (ArithmeticVerifier(), FormVerifier()):
        assert 0.0 <= verifier.accept(text, text) <= 1.0


@pytest.mark.parametrize(
    ("prompt", "name"),
    [
        (PROMPT, "arithmetic"),
        ("Wie viel sind 3 Kilo zu 4 Euro?", "arithmetic"),
        ("Who wrote Faust?", "form"),
        ("Fix this: ```x = [1, 2]``` What is wrong?", "form"),
        ("Translate 'good morning'.", "form"),
    ],
)
def test_each_prompt_gets_the_verifier_that_fits(prompt: str, name: str) -> None:
    assert verifier_for(prompt).name == name


def test_form_orders_replies_by_what_is_wrong_with_them() -> None:
    accept = FormVerifier().accept
    good = accept("Who wrote Faust?", "Goethe")
    doubtful = accept("Tell me of Faust.", "Faust is a tragic play by Goethe. " * 8 + "It was then that")
    assert accept("Reply in JSON", '{"a": 1}') == accept("Reply in JSON", '```json\n{"a": 1}\n```') == good
    for prompt, reply in (
        ("Hi", ""),
        ("Reply in JSON", "Sure: a = 1"),
        ("Who?", "I'm sorry, but I can't help with that."),
        ("Who?", "we go on and on and so forth " * 40),
    ):
        assert accept(prompt, reply) < doubtful < good


def test_weights_for_other_signs_are_refused() -> None:
    other = msgspec.structs.replace(reply_model(), signs=["length"])
    with pytest.raises(ValueError, match="other signs"):
        ArithmeticVerifier(other)
