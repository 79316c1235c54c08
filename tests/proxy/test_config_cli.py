"""`config check`, `show`, `diff`, `init`, `schema`, and `import`, as people run them."""

from __future__ import annotations

import json
from pathlib import Path

from tests.support.command import run_cli
from tests.support.config_files import ADMIN, configured
from tests.support.sim import Sim

SECRET = "sk-" + "cd34" * 6
GOOD = 'server: {port: 8001}\nkeys:\n  a: {provider: openai, secret: "${KEY}"}\n'
LITELLM = """\
model_list:
  - model_name: chat
    litellm_params: {model: openai/gpt-4o, api_key: os.environ/KEY_ONE, api_base: os.environ/SIM_URL, rpm: 900}
  - model_name: chat
    litellm_params: {model: openai/gpt-4o, api_key: os.environ/KEY_TWO, api_base: os.environ/SIM_URL, weight: 2}
  - model_name: small
    litellm_params: {model: openai/gpt-4o-mini, api_key: os.environ/KEY_ONE, api_base: os.environ/SIM_URL, timeout: 9}
router_settings: {routing_strategy: least-busy, num_retries: 1, fallbacks: [{chat: [small]}], redis_host: redis,
                  model_group_alias: {gpt-4: chat}}
litellm_settings: {drop_params: true, max_budget: 100, budget_duration: 30d, success_callback: [langfuse]}
general_settings: {master_key: os.environ/MASTER, database_url: "postgresql://u:p@db/litellm"}
"""


def test_check_shows_the_line_below_each_fault_and_ends_with_status_1(tmp_path: Path) -> None:
    (tmp_path / "apikeyrouter.yaml").write_text("server:\n  prot: 1\nkeys: {a: {provider: openai, secret: x y}}\n")
    ran = run_cli("config", "check", folder=tmp_path, status=1)
    assert (
        "apikeyrouter.yaml:2:3: server.prot: there is no such member; did you mean 'port'?\n      prot: 1\n      ^"
        in ran.out
    )
    assert ran.err == "Error: 2 faults; nothing was changed.\n"
    assert "x y" not in ran.out
    told = run_cli("config", "check", "--json", folder=tmp_path, status=1).json
    first = told["faults"][0]
    assert (first["line"], first["column"], first["hint"]) == (2, 3, "did you mean 'port'?")


def test_check_tells_all_that_is_wrong_with_one_budget(tmp_path: Path) -> None:
    (tmp_path / "apikeyrouter.yaml").write_text("budgets:\n  daily: {limit: 5 EUR, period: fortnight, perid: day}\n")
    told = run_cli("config", "check", "--json", folder=tmp_path, status=1).json
    spots = [(one["line"], one["column"], one["where"]) for one in told["faults"]]
    assert spots == [(2, 18, "budgets.daily.limit"), (2, 33, "budgets.daily.period"), (2, 44, "budgets.daily.perid")]


def test_check_and_show_of_a_sound_file(tmp_path: Path) -> None:
    (tmp_path / "apikeyrouter.yaml").write_text(GOOD)
    env = {"KEY": SECRET, "LOG_LEVEL": "ERROR"}
    assert "nothing is wrong. It defines 1 key." in run_cli("config", "check", folder=tmp_path, env=env).out
    told = run_cli("config", "show", "--json", folder=tmp_path, env=env).json
    values = {one["where"]: (one["value"], one["source"], one["at"]) for one in told["settings"]}
    assert values == {
        "server.port": (8001, "file", "apikeyrouter.yaml:1:10"),
        "server.log_level": ("ERROR", "environment", "LOG_LEVEL"),
    }
    assert [one["value"] for one in told["objects"]] == [{"provider": "openai", "secret": "${KEY}"}]
    assert SECRET not in run_cli("config", "show", "--all", folder=tmp_path, env=env).all


def test_diff_names_what_differs_between_two_files(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(GOOD)
    (tmp_path / "b.yaml").write_text(GOOD.replace("8001", "8002").replace("${KEY}", "${OTHER}") + "objective: cost\n")
    env = {"KEY": SECRET, "OTHER": SECRET + "5"}
    ran = run_cli("config", "diff", "a.yaml", "b.yaml", folder=tmp_path, env=env, status=1)
    assert ran.out.splitlines() == [
        "~ server.port: 8001 -> 8002",
        "~ keys.a.secret: secret -> another secret",
        "+ objective: added (cost)",
    ]
    assert run_cli("config", "diff", "a.yaml", "a.yaml", folder=tmp_path, env=env).out == "Nothing differs.\n"


def test_init_writes_a_file_that_passes_the_check_and_never_over_another(tmp_path: Path) -> None:
    env = {"OPENAI_API_KEY": SECRET, "GROQ_API_KEY": SECRET + "g"}
    run_cli("config", "init", "--yes", folder=tmp_path, env=env)
    text = (tmp_path / "apikeyrouter.yaml").read_text()
    assert SECRET not in text
    assert "secret: ${GROQ_API_KEY}" in text
    assert "It defines 2 keys, 1 budget." in run_cli("config", "check", folder=tmp_path, env=env).out
    assert "is there already" in run_cli("config", "init", "--yes", folder=tmp_path, env=env, status=2).err


def test_init_asks_and_takes_the_answers(tmp_path: Path) -> None:
    answers = "y\nmistral\n\nn\ncost\n12.50\nn\n8123\n"
    run_cli("config", "init", folder=tmp_path, stdin=answers)
    text = (tmp_path / "apikeyrouter.yaml").read_text()
    for line in ("port: 8123", "objective: cost", "secret: ${MISTRAL_API_KEY}", "limit: 12.50"):
        assert line in text


def test_schema_is_json_that_names_every_section(tmp_path: Path) -> None:
    made = json.loads(run_cli("config", "schema", folder=tmp_path).out)
    assert {"server", "providers", "keys", "budgets", "virtual_keys"} <= set(made["properties"])


def test_import_litellm_writes_references_and_lists_what_it_leaves_out(tmp_path: Path) -> None:
    literal = LITELLM.replace("os.environ/KEY_TWO", SECRET)
    (tmp_path / "config.yaml").write_text(literal)
    ran = run_cli("import", "litellm", "config.yaml", "-o", "ours.yaml", folder=tmp_path)
    text = (tmp_path / "ours.yaml").read_text()
    assert SECRET not in text + ran.all
    assert "in the clear for keys.openai-sim-url-2.secret" in ran.err
    for name in ("redis_host", "success_callback", "database_url", "timeout"):
        assert f"{name}: " in ran.err, name
    assert "config.yaml:8:" in ran.err
    env = {"KEY_ONE": "first-key-0001", "OPENAI_SIM_URL_API_KEY_2": SECRET, "SIM_URL": "http://127.0.0.1:9/v1"}
    env |= {"MASTER": "master-of-the-tests"}
    told = run_cli("config", "show", "ours.yaml", "--json", folder=tmp_path, env=env, status=None)
    assert told.status == 0, told.all
    values = {one["where"]: one["value"] for one in told.json["settings"]}
    assert values["router.default_objective"] == "reliability"
    assert (values["router.attempts_max"], values["server.drop_params"]) == ("2", True)
    assert (
        "is there already"
        in run_cli("import", "litellm", "config.yaml", "-o", "ours.yaml", folder=tmp_path, status=2).err
    )


def test_a_litellm_file_is_served_as_it_is(sim: Sim, tmp_path: Path) -> None:
    env = {"KEY_ONE": sim.keys[0], "KEY_TWO": sim.keys[1], "MASTER": ADMIN}
    with configured(sim, tmp_path, LITELLM, env) as running:
        assert running.chat("chat")[0] == 200
        assert running.chat("gpt-4")[0] == 200
        assert running.chat("small")[0] == 200
        assert running.proxy.post("/v1/chat/completions", {"model": "chat", "messages": []})[0] == 401
        assert running.rows("budgets")["all"]["period"] == "monthly"
        deployment = running.rows("deployments")["chat"]
        assert deployment["fallbacks"] == ["small"]
        assert "config" not in running.proxy.log or "router_settings.redis_host" in running.proxy.log


def test_import_of_a_key_proxys_env_file(tmp_path: Path) -> None:
    (tmp_path / ".env.old").write_text(
        f"PROXY_API_KEY={SECRET}x\nOPENAI_API_KEY_1={SECRET}1\nOPENAI_API_KEY_2={SECRET}2\n"
        f"ACME_API_BASE=https://llm.acme.example/v1\nACME_API_KEY={SECRET}3\nMAX_CONCURRENT_REQUESTS_PER_KEY_OPENAI=3\n"
        "ROTATION_MODE_OPENAI=balanced\nFAIR_CYCLE_OPENAI=true\n"
    )
    ran = run_cli("import", "llm-api-key-proxy", ".env.old", "-o", "apikeyrouter.yaml", folder=tmp_path)
    assert SECRET not in ran.all + (tmp_path / "apikeyrouter.yaml").read_text()
    assert ".env.old:8: FAIR_CYCLE_OPENAI: has no counterpart here." in ran.err
    checked = run_cli("config", "check", "--env-file", ".env.old", folder=tmp_path)
    assert "It defines 3 keys, 1 virtual key." in checked.out


def test_import_of_a_key_list_in_a_script(tmp_path: Path) -> None:
    (tmp_path / "config.js").write_text(
        "module.exports = {\n  port: 3000,\n  keys: [\n    { key: 'sk-key-1', provider: 'openai' }, // first\n"
        "    { key: process.env.KEY_TWO, provider: 'groq', weight: 2 }\n  ],\n  routing: 'least-used'\n};\n"
    )
    text = run_cli("import", "llm-api-key-proxy", "config.js", folder=tmp_path).out
    for line in (
        "port: 3000",
        "objective: reliability",
        "secret: ${OPENAI_API_KEY_1}",
        "secret: ${KEY_TWO}",
        "weight: 2",
    ):
        assert line in text
    assert "sk-key-1" not in text


def test_import_of_the_environment(tmp_path: Path) -> None:
    env = {"OPENAI_API_KEY": SECRET, "PROXY_PORT": "8012", "APIKEYROUTER_ADMIN_KEY": ADMIN, "REQUEST_TIMEOUT": "90"}
    text = run_cli("import", "env", folder=tmp_path, env=env).out
    for line in (
        "port: 8012",
        "admin_key: ${APIKEYROUTER_ADMIN_KEY}",
        "request_timeout_s: 90",
        "secret: ${OPENAI_API_KEY}",
    ):
        assert line in text
    assert SECRET not in text


def test_commands_find_the_proxy_that_the_file_configures(sim: Sim, tmp_path: Path) -> None:
    text = 'server: {port: PORT, admin_key: "${ADMIN_KEY}"}\nproviders: {openai: {base_url: "${SIM_URL}"}}\n'
    text += 'keys: {a: {provider: openai, secret: "${SIM_KEY_1}"}}\n'
    with configured(sim, tmp_path, text.replace("PORT", "8000")) as running:
        running.write(text.replace("PORT", str(running.proxy.port)))
        env = {"ADMIN_KEY": ADMIN, "SIM_URL": sim.base_url, "SIM_KEY_1": sim.keys[0]}
        assert [row["label"] for row in run_cli("keys", "list", "--json", folder=tmp_path, env=env).json] == ["a"]
        ran = run_cli("config", "diff", folder=tmp_path, env=env, status=1)
        assert ran.out == f"~ server.port: 8000 -> {running.proxy.port}\n"
        assert "Applied." in run_cli("config", "reload", folder=tmp_path, env=env).out
        running.write("keyz: {}\n" + text)
        env["APIKEYROUTER_ADMIN_KEY"] = ADMIN
        ran = run_cli("config", "reload", "--url", running.proxy.origin, folder=tmp_path, env=env, status=1)
        assert "did you mean 'keys'?" in ran.err
