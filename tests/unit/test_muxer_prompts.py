"""What is read from a prompt, in any language and format: task, complexity, text; and the signs of a bad answer."""

from __future__ import annotations

import json

import pytest

from apikeyrouter.muxer.prompts import prompt_of
from apikeyrouter.muxer.signs import agreement, final_words, plainly_wrong
from apikeyrouter.muxer.tasks import LOOKED_AT, Task, read_prompt


@pytest.mark.parametrize(
    ("text", "task"),
    [
        ("Write a python function that merges two sorted lists.", Task.Code),
        ("Schreibe mir Quellcode, der eine Liste sortiert.", Task.Code),
        ("写一个快速排序函数", Task.Code),
        ("```\nfor i in range(3):\n    return i\n```", Task.Code),
        ("Résous l'équation 3x + 5 = 20", Task.Maths),
        ("请证明根号2是无理数", Task.Maths),
        ("Natalia sold 48 clips in April and 24 in May, each for 3 dollars. What did she earn?", Task.Maths),
        ("Translate to French: where is the station?", Task.Translation),
        ("Übersetze ins Englische: Der Himmel ist blau.", Task.Translation),
        ("この文を翻訳してください: 空は青い", Task.Translation),
        ("Extract all email addresses from the text below.", Task.Extraction),
        ("Fasse diesen Artikel zusammen.", Task.Extraction),
        ("почему небо голубое? объясни подробно", Task.Reasoning),
        ("Why is the sky blue, and how would you compare both explanations?", Task.Reasoning),
        ("Hi there!", Task.Chat),
        ("", Task.Chat),
    ],
)
def test_the_task_is_told_in_many_languages(text: str, task: Task) -> None:
    assert read_prompt(text).task is task


def test_harder_prompts_read_as_more_complex() -> None:
    easy = read_prompt("What is the capital of France?").complexity
    middle = read_prompt("Explain why the sky is blue.").complexity
    hard = read_prompt(
        "Prove rigorously that the following algorithm terminates:\n1. let x = 3 * y + 2\n2. while x > 0: x = x - 7\n"
        "3. compare the bound with n^2 and explain every step of the derivation. What changes if y = 12, 48 or 96?"
    ).complexity
    assert easy < middle < hard <= 1.0


def test_a_long_prompt_is_read_at_both_ends() -> None:
    text = "x " * (10 * LOOKED_AT) + "\nTranslate all of this into German."
    assert read_prompt(text).task is Task.Translation


@pytest.mark.parametrize(
    "body",
    [
        {"messages": [{"role": "system", "content": "Be kind."}, {"role": "user", "content": "Why?"}]},
        {
            "messages": [
                {"role": "user", "content": [{"type": "text", "text": "Why?"}]},
                {"role": "tool", "content": "7"},
            ]
        },
        {"messages": [{"role": "user", "content": "Why?"}, {"role": "user", "content": [{"type": "tool_result"}]}]},
        {"input": "Why?"},
        {"input": [{"role": "user", "content": [{"type": "input_text", "text": "Why?"}]}]},
        {"contents": [{"role": "user", "parts": [{"text": "Why?"}]}, {"role": "model", "parts": [{"text": "So."}]}]},
        {"contents": [{"parts": [{"text": "Why?"}]}]},
        {"prompt": "Why?"},
        {"prompt": ["Why?"]},
    ],
)
def test_the_last_words_of_the_user_are_found_in_every_format(body: dict[str, object]) -> None:
    assert prompt_of(json.dumps(body).encode()).text == "Why?"


@pytest.mark.parametrize("body", [b"", b"[]", b"{", b'{"messages": 7}', b'{"messages": [7]}', b'{"text": 3}'])
def test_a_body_without_a_prompt_has_none(body: bytes) -> None:
    assert prompt_of(body).text == ""


def test_needs_are_seen_beside_the_text() -> None:
    body = {
        "messages": [
            {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}, {"text": "What?"}]}
        ],
        "tools": [{"type": "function"}],
        "response_format": {"type": "json_object"},
    }
    seen = prompt_of(json.dumps(body).encode())
    assert (seen.tools, seen.schema, seen.images) == (True, True, True)


@pytest.mark.parametrize("answer", ["", "  \n", "I'm sorry, but I cannot help with that.", "Lo siento, no puedo."])
def test_an_answer_that_is_none_is_told(answer: str) -> None:
    assert plainly_wrong(answer)


def test_an_answer_that_ended_early_is_told_and_a_whole_one_is_not() -> None:
    assert plainly_wrong("The capital of", "length") == "it ended early (length)"
    assert plainly_wrong("The capital of France is Paris.", "stop") == ""


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        ("First 48, then 24. #### 72", "72"),
        ("So we get \\boxed{1,234.50}", "1234.5"),
        ("Die Antwort ist Paris.", "paris"),
        ("48 + 24 = 72", "72"),
        ("Blue, of course", "blue of course"),
    ],
)
def test_an_answer_comes_down_to_its_result(answer: str, words: str) -> None:
    assert final_words(answer) == words


def test_agreement_is_the_share_of_answers_that_say_the_same() -> None:
    assert agreement(["It is 72.", "#### 72", "It is 71."]) == pytest.approx(2 / 3)
    assert agreement(["one"]) == 1.0
    assert agreement([]) == 0.0
    free = "the sky is blue since light scatters"
    assert agreement([free, "light scatters so the sky is blue", "because of the sea and its colour"]) == pytest.approx(
        2 / 3
    )
