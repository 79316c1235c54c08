"""Model routing through the proxy, over real HTTP: every format of conversations, headers, scopes, feedback."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from apikeyrouter.muxer.trained.log import read_log
from tests.support.command import run_cli
from tests.support.processes import ProxyProcess, proxy_process
from tests.support.sim import Sim

WEAK, STRONG = "gpt-4o-mini", "gpt-4.1"
GROUPS = [
    {
        "name": "default",
        "models": [{"model": f"openai/{WEAK}", "role": "weak"}, {"model": f"openai/{STRONG}", "role": "strong"}],
    },
    {
        "name": "watched",
        "models": [f"openai/{WEAK}", "openai/gpt-4o"],
        "reference": "openai/gpt-4o",
        "strategy": "cost",
        "shadow": True,
    },
]
CHAT = {"messages": [{"role": "user", "content": "Hello!"}]}


@pytest.fixture(scope="module")
def proxy(sim_server: Sim, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ProxyProcess]:
    env = {"APIKEYROUTER_MODEL_GROUPS": json.dumps(GROUPS)}
    with proxy_process(sim_server, tmp_path_factory.mktemp("muxer"), env=env) as running:
        yield running


@dataclass
class Reply:
    status: int
    body: Any
    headers: dict[str, str]


def ask(proxy: ProxyProcess, path: str, body: dict[str, Any], headers: dict[str, str] | None = None) -> Reply:
    return Reply(*proxy.ask("POST", path, body, headers))


def chat(proxy: ProxyProcess, model: str, headers: dict[str, str] | None = None, **more: Any) -> Reply:
    return ask(proxy, "/v1/chat/completions", {"model": model, **CHAT, **more}, headers)


FORMATS: list[tuple[str, dict[str, Any]]] = [
    ("/v1/chat/completions", {"model": "auto:cost", **CHAT}),
    ("/v1/messages", {"model": "auto:cost", "max_tokens": 50, **CHAT}),
    ("/v1/responses", {"model": "auto:cost", "input": "Hello!"}),
    ("/v1beta/models/auto:cost:generateContent", {"contents": [{"role": "user", "parts": [{"text": "Hello!"}]}]}),
    ("/v1/completions", {"model": "auto:cost", "prompt": "Hello!"}),
]


@pytest.mark.parametrize(("path", "body"), FORMATS, ids=[path for path, _ in FORMATS])
def test_auto_is_served_in_every_format(path: str, body: dict[str, Any], proxy: ProxyProcess, sim: Sim) -> None:
    reply = ask(proxy, path, body)
    assert reply.status == 200, reply.body
    assert reply.headers["x-akr-model"] == f"openai/{WEAK}"
    assert reply.headers["x-akr-strategy"] == "cost_optimized"
    assert sim.requests(last=1)[0]["json"]["model"] == WEAK
    decision = proxy.get(f"/api/v1/decisions/{reply.headers['x-akr-decision']}")[1]
    choice = decision["model_choice"]
    assert choice["model"] == f"openai/{WEAK}"
    assert choice["reference"] == f"openai/{STRONG}"
    assert float(choice["saved_usd"]) > 0
    assert "less than openai/gpt-4.1" in choice["explanation"]


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/chat/completions", {"model": "auto:cascade", "stream": True, "max_tokens": 40, **CHAT}),
        ("/v1/messages", {"model": "auto:cascade", "stream": True, "max_tokens": 40, **CHAT}),
        ("/v1/responses", {"model": "auto:cascade", "stream": True, "max_output_tokens": 40, "input": "Hello!"}),
        (
            "/v1beta/models/auto:cascade:streamGenerateContent?alt=sse",
            {"contents": [{"role": "user", "parts": [{"text": "Hello!"}]}]},
        ),
    ],
)
def test_a_cascade_streams_in_every_format(path: str, body: dict[str, Any], proxy: ProxyProcess, sim: Sim) -> None:
    reply = ask(proxy, path, body)
    assert reply.status == 200, reply.body
    assert reply.headers["x-akr-strategy"] == "cascade"
    assert int(reply.headers["x-akr-answers"]) >= 3
    assert float(reply.headers["x-akr-cost-of-others"]) > 0
    assert "data:" in reply.body
    assert sim.seen() == int(reply.headers["x-akr-answers"])


def test_a_named_model_is_served_as_named_whatever_headers_say(proxy: ProxyProcess, sim: Sim) -> None:
    reply = chat(proxy, STRONG, {"x-akr-strategy": "cost"})
    assert reply.status == 200
    assert "x-akr-model" not in reply.headers
    assert [one["json"]["model"] for one in sim.requests()] == [STRONG]


def test_header_and_body_say_how_to_choose_and_do_not_travel_upstream(proxy: ProxyProcess, sim: Sim) -> None:
    reply = chat(proxy, "auto:cost", {"x-akr-strategy": "quality"}, routing={"strategy": "latency"})
    assert reply.headers["x-akr-model"] == f"openai/{STRONG}"
    reply = chat(proxy, "auto:quality", routing={"strategy": "cost"})
    assert reply.headers["x-akr-model"] == f"openai/{WEAK}"
    assert all("routing" not in one["json"] for one in sim.requests())


@pytest.mark.parametrize("how", ["header", "body"])
def test_max_cost_refuses_before_anything_is_sent_and_names_the_cheapest(
    how: str, proxy: ProxyProcess, sim: Sim
) -> None:
    if how == "header":
        reply = chat(proxy, "auto", {"x-akr-max-cost": "0.00001"})
    else:
        reply = chat(proxy, "auto", routing={"max_cost": 0.00001})
    assert reply.status == 402
    error = reply.body["error"]
    assert error["code"] == "max_cost"
    assert f"the cheapest alternative is openai/{WEAK}" in error["message"]
    assert sim.seen() == 0
    assert chat(proxy, "auto:quality", {"x-akr-max-cost": "0.012"}).headers["x-akr-model"] == f"openai/{WEAK}"


def test_max_cost_holds_for_a_named_model_too(proxy: ProxyProcess, sim: Sim) -> None:
    assert chat(proxy, STRONG, {"x-akr-max-cost": "0.00001"}).status == 402
    assert chat(proxy, STRONG, {"x-akr-max-cost": "10"}).status == 200
    assert sim.seen() == 1


@pytest.mark.parametrize(
    ("model", "headers", "more", "code"),
    [
        ("auto:best-ever", {}, {}, "invalid_model_routing"),
        ("auto/nobody", {}, {}, "invalid_model_routing"),
        ("auto", {"x-akr-strategy": "random"}, {}, "invalid_model_routing"),
        ("auto", {"x-akr-max-cost": "much"}, {}, "invalid_header"),
        ("auto", {}, {"routing": {"price": 1}}, "invalid_model_routing"),
        ("auto", {}, {"routing": {"max_cost": -1}}, "invalid_model_routing"),
    ],
)
def test_a_wish_that_cannot_be_meant_is_refused_with_a_reason(
    model: str, headers: dict[str, str], more: dict[str, Any], code: str, proxy: ProxyProcess, sim: Sim
) -> None:
    reply = chat(proxy, model, headers, **more)
    assert reply.status == 400, reply.body
    assert reply.body["error"]["code"] == code
    assert sim.seen() == 0


def test_auto_is_refused_where_no_conversation_is_meant(proxy: ProxyProcess, sim: Sim) -> None:
    reply = ask(proxy, "/v1/embeddings", {"model": "auto", "input": "Hello!"})
    assert reply.status == 400
    assert "conversations only" in reply.body["error"]["message"]
    assert sim.seen() == 0


def test_a_key_for_certain_models_gets_only_those_by_auto(fresh: ProxyProcess, sim: Sim) -> None:
    status, made = fresh.post("/api/v1/virtual-keys", {"name": "narrow", "models": [WEAK]})
    assert status in (200, 201), made
    headers = {"authorization": f"Bearer {made['key']}"}
    reply = chat(fresh, "auto:quality", headers)
    assert reply.status == 200, reply.body
    assert reply.headers["x-akr-model"] == f"openai/{WEAK}"
    assert [one["json"]["model"] for one in sim.requests()] == [WEAK]


def test_shadow_mode_serves_what_was_asked_and_says_what_it_would_have_saved(proxy: ProxyProcess, sim: Sim) -> None:
    reply = chat(proxy, "gpt-4o")
    assert [one["json"]["model"] for one in sim.requests()] == ["gpt-4o"]
    assert reply.headers["x-akr-would-choose"] == f"openai/{WEAK}"
    choice = proxy.get(f"/api/v1/decisions/{reply.headers['x-akr-decision']}")[1]["model_choice"]
    assert choice["mode"] == "shadow"
    assert float(choice["saved_usd"]) > 0
    assert "Answered by gpt-4o as asked" in choice["explanation"]
    rows = {row["group"]: row for row in proxy.get("/api/v1/model-routing")[1]["data"]}
    assert (rows["watched"]["routed"], rows["watched"]["expected_saved_usd"]) == (0, 0.0)
    assert rows["watched"]["shadowed"] >= 1
    assert rows["watched"]["shadow_strong_share"] == 0.0
    assert rows["watched"]["shadow_saved_usd"] > 0
    listed = proxy.get("/api/v1/model-routing/choices?group=watched")[1]["data"][0]
    assert (listed["mode"], listed["model"], listed["would"]) == ("shadow", "gpt-4o", f"openai/{WEAK}")
    assert float(listed["saved_usd"]) == float(choice["saved_usd"])


def test_a_group_tells_its_models_with_prices_before_anybody_asked_for_it(fresh: ProxyProcess) -> None:
    (row,) = fresh.get("/api/v1/model-routing")[1]["data"]
    assert (row["group"], row["strategy"], row["strategy_in_force"]) == ("default", None, "hybrid")
    assert (row["routed"], row["strong_share"], row["mean_mark"], row["alerts"]) == (0, None, None, [])
    told = [(one["model"], one["quality"], one["input"], one["output"]) for one in row["candidates"]]
    assert told == [(f"openai/{WEAK}", 0.0, "0.15", "0.6"), (f"openai/{STRONG}", 1.0, "2", "8")]
    assert row["reference"] == f"openai/{STRONG}"
    assert fresh.get("/api/v1/model-routing/choices")[1]["data"] == []


def test_answers_that_nobody_got_are_told_with_what_they_cost(fresh: ProxyProcess) -> None:
    reply = chat(fresh, "auto:cascade", max_tokens=40)
    others_usd = float(reply.headers["x-akr-cost-of-others"])
    (row,) = fresh.get("/api/v1/model-routing")[1]["data"]
    assert others_usd > 0
    assert row["discarded_usd"] == pytest.approx(others_usd)
    fresh.post("/api/v1/feedback", {"request_id": reply.headers["x-request-id"], "score": 0.5})
    (choice,) = fresh.get("/api/v1/model-routing/choices")[1]["data"]
    assert choice["decision_id"] == reply.headers["x-akr-decision"]
    assert (choice["answers"], choice["score"]) == (int(reply.headers["x-akr-answers"]), 0.5)
    assert fresh.get("/api/v1/model-routing")[1]["data"][0]["mean_mark"] == pytest.approx(0.5)


def test_feedback_moves_the_odds_and_a_second_thought_replaces_the_first(fresh: ProxyProcess) -> None:
    request_id = chat(fresh, "auto:cost").headers["x-request-id"]
    status, taken = fresh.post("/api/v1/feedback", {"request_id": request_id, "thumb": "down"})
    assert (status, taken["group"], taken["score"], taken["replaced"]) == (200, "default", 0.0, False)
    taken = fresh.post("/api/v1/feedback", {"request_id": request_id, "score": 0.7})[1]
    assert taken["replaced"] is True
    rows = fresh.get("/api/v1/model-routing")[1]["data"]
    assert [(row["group"], row["routed"], row["feedback"]) for row in rows] == [("default", 1, 1.0)]


def test_thumbs_down_send_the_same_prompt_to_the_strong_model(fresh: ProxyProcess) -> None:
    gains = []
    for _ in range(80):
        reply = chat(fresh, "auto:cost")
        choice = fresh.get(f"/api/v1/decisions/{reply.headers['x-akr-decision']}")[1]["model_choice"]
        gains.append(choice["gain"])
        if choice["model"] == f"openai/{STRONG}":
            break
        fresh.post("/api/v1/feedback", {"request_id": reply.headers["x-request-id"], "thumb": "down"})
    assert 5 < len(gains) < 80
    assert choice["model"] == f"openai/{STRONG}"
    assert choice["raw_gain"] == pytest.approx(gains[0], abs=1e-3)
    assert gains == sorted(gains)
    assert gains[-1] > choice["tolerance"] > gains[0]


def test_feedback_leaves_the_proxy_as_a_log_that_the_trainer_reads(fresh: ProxyProcess, tmp_path: Path) -> None:
    prompts = []
    for model, score in (("auto:cost", 0.25), ("auto:quality", 1.0), ("auto:cost", None)):
        text = "Hello!" if score is not None else "Bye!"
        body = {"model": model, "messages": [{"role": "user", "content": text}]}
        request_id = ask(fresh, "/v1/chat/completions", body).headers["x-request-id"]
        prompts.append({"request_id": request_id, "prompt": text})
        if score is not None:
            assert fresh.post("/api/v1/feedback", {"request_id": request_id, "score": score})[0] == 200
    marks = fresh.get("/api/v1/feedback")[1]["data"]
    assert [(one["request_id"], one["quality"], one["score"]) for one in marks] == [
        (prompts[1]["request_id"], 1.0, 1.0), (prompts[0]["request_id"], 0.0, 0.25),
    ]  # fmt: skip
    (tmp_path / "asked.jsonl").write_text("\n".join(map(json.dumps, prompts)))
    command = ("muxer", "export", "--url", fresh.origin)
    plain = run_cli(*command, folder=tmp_path)
    assert [json.loads(line)["score"] for line in plain.out.splitlines()] == [1.0, 0.25]
    log = run_cli(*command, "--prompts", "asked.jsonl", folder=tmp_path)
    assert [json.loads(line) for line in log.out.splitlines()] == [
        {"prompt": "Hello!", "weak": 0.25, "strong": 1.0, "group": "default"}, {"prompt": "Bye!"},
    ]  # fmt: skip
    assert [one.weak for one in read_log(log.out.encode().splitlines(), outcomes=False)] == [0.25, None]
    whole = run_cli(*command, "--prompts", "asked.jsonl", "--both", folder=tmp_path)
    assert [json.loads(line)["prompt"] for line in whole.out.splitlines()] == ["Hello!"]
    assert "2 prompts, 1 with outcomes of both models." in whole.err
    assert "--both needs --prompts" in run_cli(*command, "--both", folder=tmp_path, status=2).err
    (tmp_path / "asked.jsonl").write_text('{"request_id": "a", "prompt": "b"}\n{"prompt": "c"}\n')
    failed = run_cli(*command, "--prompts", "asked.jsonl", folder=tmp_path, status=1)
    assert 'asked.jsonl, line 2: needs "request_id" and "prompt"' in failed.err


def test_feedback_that_teaches_nothing_is_refused(proxy: ProxyProcess) -> None:
    named = chat(proxy, "gpt-4.1-mini").headers["x-request-id"]
    assert proxy.post("/api/v1/feedback", {"request_id": named, "thumb": "up"})[0] == 409
    assert proxy.post("/api/v1/feedback", {"request_id": "req_unknown", "thumb": "up"})[0] == 404
    assert proxy.post("/api/v1/feedback", {"request_id": named})[0] == 400
    assert proxy.post("/api/v1/feedback", {"request_id": named, "thumb": "up", "score": 1})[0] == 400


def test_a_dry_run_says_which_model_would_be_chosen(proxy: ProxyProcess, sim: Sim) -> None:
    status, decision = proxy.post("/api/v1/route", {"model": "auto:cost", **CHAT})
    assert status == 200, decision
    assert decision["model_choice"]["model"] == f"openai/{WEAK}"
    assert sim.seen() == 0


def test_groups_are_listed_as_models(proxy: ProxyProcess) -> None:
    listed = {row["id"] for row in proxy.get("/v1/models")[1]["data"]}
    assert {"auto", "auto/watched"} <= listed


def test_groups_stand_in_the_configuration_file_too(sim: Sim, tmp_path: Path) -> None:
    text = f"""
version: 1
router: {{default_routing_strategy: quality}}
model_groups:
  default: {{models: [openai/{WEAK}, openai/{STRONG}]}}
  small: {{models: openai/{WEAK}, strategy: cost, note: for tests}}
"""
    with proxy_process(sim, tmp_path, env={"APIKEYROUTER_CONFIG_YAML": text}) as running:
        assert chat(running, "auto").headers["x-akr-model"] == f"openai/{STRONG}"
        assert chat(running, "auto/small").headers["x-akr-model"] == f"openai/{WEAK}"
