"""`apikeyrouter.yaml`: what is read, what is refused and where, and which of two values counts."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from apikeyrouter.domain.errors import ConfigurationError
from apikeyrouter_proxy.config.changes import changes
from apikeyrouter_proxy.config.faults import ConfigFileError, Faults
from apikeyrouter_proxy.config.published import SCHEMA_FILE, reference, schema
from apikeyrouter_proxy.config.shown import effective, objects
from apikeyrouter_proxy.config.tree import read_yaml
from apikeyrouter_proxy.settings import ProxySettings, frozen_environ

ROOT = Path(__file__).parents[2]
SECRET = "sk-" + "ab12" * 6


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "apikeyrouter.yaml"


def load(file: Path, text: str, **environ: str) -> ProxySettings:
    file.write_text(text, encoding="utf-8")
    return ProxySettings.from_environ({"APIKEYROUTER_CONFIG": str(file), "HOME": "/home/somebody", **environ})


def faults(file: Path, text: str, **environ: str) -> list[str]:
    """The faults, without the folder."""
    with pytest.raises(ConfigFileError) as error:
        load(file, text, **environ)
    return [str(one).removeprefix(f"{file.parent}/") for one in error.value.found]


def test_every_fault_of_a_budget_is_told_at_its_member(file: Path) -> None:
    text = """\
keys:
  a: {provider: openai, secret: SECRET}
budgets:
  a: {limit: 5 EUR, period: fortnight, time_zone: Mars, scope: planet}
  b: {limit: 5, period: total, rolling: true, scope: team}
  c: {limit: -1, scope: key, scope_id: nobody}
  d: {limit: 5, perid: daily, enforcement_mode: weak, period: fortnight}
  e: {limit: [1], rolling: perhaps, scope_id: a}
  f: {time_zone: Mars}
teams:
  red: {budget: {limit: x, period: y, zone: UTC}}
""".replace("SECRET", SECRET)
    told = faults(file, text)
    begins = [
        "apikeyrouter.yaml:4:14: budgets.a.limit: '5 EUR' is not in US dollars",
        "apikeyrouter.yaml:4:29: budgets.a.period: 'fortnight' is not a period",
        "apikeyrouter.yaml:4:51: budgets.a.time_zone: 'Mars' is not a time zone",
        "apikeyrouter.yaml:4:64: budgets.a.scope: expected one of global",
        "apikeyrouter.yaml:5:6: budgets.b.scope_id: A budget of scope per_team needs scope_id",
        "apikeyrouter.yaml:5:41: budgets.b.rolling: a total budget never forgets",
        "apikeyrouter.yaml:6:14: budgets.c.limit: must be above zero",
        "apikeyrouter.yaml:6:40: budgets.c.scope_id: no key of this file is called 'nobody'",
        "apikeyrouter.yaml:7:17: budgets.d.perid: there is no such member; did you mean 'period'?",
        "apikeyrouter.yaml:7:49: budgets.d.enforcement_mode: expected 'hard' or 'soft'",
        "apikeyrouter.yaml:7:63: budgets.d.period: 'fortnight' is not a period",
        "apikeyrouter.yaml:8:14: budgets.e.limit: expected",
        "apikeyrouter.yaml:8:28: budgets.e.rolling: expected true or false",
        "apikeyrouter.yaml:8:47: budgets.e.scope_id: A global budget covers everything",
        "apikeyrouter.yaml:9:3: budgets.f: 'limit' is required",
        "apikeyrouter.yaml:9:18: budgets.f.time_zone: 'Mars' is not a time zone",
        "apikeyrouter.yaml:11:25: teams.red.budget.limit: 'x' is not an amount",
        "apikeyrouter.yaml:11:36: teams.red.budget.period: 'y' is not a period",
        "apikeyrouter.yaml:11:39: teams.red.budget.zone: there is no such member",
    ]
    assert len(told) == len(begins), told
    for line, begin in zip(told, begins, strict=True):
        assert line.startswith(begin), (line, begin)


def test_all_faults_are_told_at_once_each_with_its_line_and_column(file: Path) -> None:
    text = """\
server:
  port: 80000
  prot: 3
router: {attempts_max: 99}
providers:
  acme: {base_url: https://llm.acme.example/v1, quirks: [no_such]}
keys:
  a: {provider: openai, secret: "${NOT_SET}"}
  b: {provider: opnai, secret: SECRET}
  c: {provider: openai, secret: SECRET, rpm: zero}
  c: {provider: openai}
budgets:
  daily: {limit: 5 EUR}
  mine: {limit: 5, scope: key, scope_id: d}
deployments:
  slow: {targets: [gpt-4o, {provider: openai, model: x, wieght: 3}]}
policies:
  eu: {scope: teem}
prices:
  openai/gpt-4o: {input: 2}
virtual_keys:
  me: {secret: short}
""".replace("SECRET", SECRET)
    told = faults(file, text)
    begins = [
        "apikeyrouter.yaml:2:9: server.port: expected a port number",
        "apikeyrouter.yaml:3:3: server.prot: there is no such member; did you mean 'port'?",
        "apikeyrouter.yaml:4:24: router.attempts_max: expected less than or equal to 20",
        "apikeyrouter.yaml:6:58: providers.acme.quirks[0]: Invalid enum value",
        "apikeyrouter.yaml:8:33: keys.a.secret: the environment has no NOT_SET; set it there or in .env, or refer",
        "apikeyrouter.yaml:9:17: keys.b.provider: No provider is known as 'opnai'. Did you mean openai?",
        "apikeyrouter.yaml:10:67: keys.c.rpm: expected a whole number",
        "apikeyrouter.yaml:11:3: keys.c: is given twice, first in line 10; keep one",
        "apikeyrouter.yaml:13:18: budgets.daily.limit: '5 EUR' is not in US dollars",
        "apikeyrouter.yaml:14:42: budgets.mine.scope_id: no key of this file is called 'd'",
        "apikeyrouter.yaml:16:20: deployments.slow.targets[0]: 'gpt-4o' names no provider",
        "apikeyrouter.yaml:16:65: deployments.slow.targets[1].wieght: there is no such field; did you mean 'weight'?",
        "apikeyrouter.yaml:18:15: policies.eu.scope: expected one of global",
        "apikeyrouter.yaml:20:18: prices.openai/gpt-4o: unit must say what input and output are for",
        "apikeyrouter.yaml:22:16: virtual_keys.me.secret: must be 16 printable",
    ]
    assert len(told) == len(begins), told
    for line, begin in zip(told, begins, strict=True):
        assert line.startswith(begin)
    assert SECRET not in "".join(told)


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("keys:\n\ta: 1\n", "apikeyrouter.yaml:2:1: is not YAML: while scanning for the next token"),
        ("server: {port: 1\n", "is not YAML"),
        ("- a\n- b\n", "apikeyrouter.yaml:1:1: expected an object with members"),
        ("keys: [a]\n", "apikeyrouter.yaml:1:7: keys: expected an object of them by name"),
        ("server: !!python/object:os.system {}\n", "apikeyrouter.yaml:1:9: server: "),
        ("version: 2\n", "apikeyrouter.yaml:1:10: version: expected 1"),
        ("keys: {a: {secret: x}}\n", "apikeyrouter.yaml:1:8: keys.a: 'provider' is required"),
        ("a: &a [1,2]\nb: *a\n", "apikeyrouter.yaml:1:1: a: there is no such member"),
    ],
)
def test_what_is_no_configuration_is_told_as_such(file: Path, text: str, fault: str) -> None:
    assert fault in "\n".join(faults(file, text))


def test_a_document_that_unfolds_without_end_is_refused() -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 9)]
    found = Faults()
    read_yaml("\n".join(lines), "bomb.yaml", found)
    assert [one.message for one in found.found] == ["holds too much"]


def test_plain_words_mean_what_yaml_1_2_says(tmp_path: Path) -> None:
    text = 'a: no\nb: 012\nc: 0o14\nd: 2026-12-01\ne: 1e3\nf: "5"\ng: ~\nh: True\ni: 1:30\n'
    value = read_yaml(text, str(tmp_path), Faults())
    expected = {
        "a": "no",
        "b": 12,
        "c": 12,
        "d": "2026-12-01",
        "e": 1000.0,
        "f": "5",
        "g": None,
        "h": True,
        "i": "1:30",
    }
    assert value == expected


def test_the_environment_goes_before_the_file_and_arguments_before_both(file: Path) -> None:
    text = "server: {port: 8001, log_level: ERROR}\nrouter: {attempts_max: 5, request_timeout_s: 20}\n"
    settings = load(file, text, PORT="8002", REQUEST_TIMEOUT="30")
    assert (settings.port, settings.log_level) == (8002, "ERROR")
    assert settings.router_config == {"attempts_max": "5", "request_timeout_s": "30"}
    environ = {"APIKEYROUTER_CONFIG": str(file), "PROXY_PORT": "8003", "HOME": "/home/somebody"}
    argued = ProxySettings.from_environ(environ, arguments=["PROXY_PORT"])
    shown = {one.where: one for one in effective(argued)}
    assert (shown["server.port"].value, shown["server.port"].source) == (8003, "argument")
    assert shown["server.port"].shadowed == f"{file}:1:10"
    assert (shown["server.log_level"].source, shown["server.log_level"].at) == ("file", f"{file}:1:22")
    assert shown["server.workers"].source == "default"


def test_a_fault_of_the_environment_is_not_blamed_on_the_file(file: Path) -> None:
    file.write_text("server: {port: 8001}\n", encoding="utf-8")
    with pytest.raises(ConfigurationError) as error:
        ProxySettings.from_environ({"APIKEYROUTER_CONFIG": str(file), "PROXY_PORT": "many", "HOME": "/"})
    assert error.value.faults == ["PROXY_PORT: expected a port number from 0 to 65535 (0 takes a free one)"]


def test_references_lead_to_variables_files_and_programs(file: Path) -> None:
    (file.parent / "key").write_text(f"{SECRET}-file\n", encoding="utf-8")
    text = """
keys:
  a: {provider: openai, secret: "${KEY}"}
  b: {provider: openai, secret: "${file:key}"}
  c: {provider: openai, secret: "${command:printf %s from-a-program-0001}"}
  d: {provider: openai, secret: "${NONE:-otherwise-0001}", region: "a$$b"}
"""
    settings = load(file, text, KEY=f"{SECRET}-variable", PATH="/usr/bin:/bin")
    assert settings.config is not None
    found = {key.name: key for key in settings.config.meaning.keys}
    assert [found[name].material.reveal() for name in "abcd"] == [
        f"{SECRET}-variable",
        f"{SECRET}-file",
        "from-a-program-0001",
        "otherwise-0001",
    ]
    assert found["d"].metadata["region"] == "a$b"
    assert settings.warnings == ()
    shown = str([objects(settings), effective(settings)]) + repr(settings)
    assert SECRET not in shown
    assert "${file:key}" in shown


def test_references_that_lead_nowhere_are_faults_without_what_was_seen(file: Path) -> None:
    text = """
keys:
  a: {provider: openai, secret: "${file:missing}"}
  b: {provider: openai, secret: "${command:false}"}
  c: {provider: openai, secret: "${command:printf ''}"}
  d: {provider: openai, secret: "${what is this}"}
  e: {provider: openai, secret: "${command:no-such-program-at-all}"}
"""
    told = "\n".join(faults(file, text, PATH="/usr/bin:/bin"))
    for part in (
        "missing' cannot be read",
        "'false' ended with status 1",
        "printed nothing",
        "is no reference",
        "cannot be run",
    ):
        assert part in told


def test_a_secret_in_the_clear_is_taken_with_a_warning(file: Path) -> None:
    settings = load(file, f"keys: {{a: {{provider: openai, secret: {SECRET}}}}}\n")
    assert len(settings.warnings) == 1
    assert "keys.a.secret stands in the file in the clear" in settings.warnings[0]


def test_files_that_are_included_are_one_document(file: Path) -> None:
    parts = file.parent / "parts"
    parts.mkdir()
    (parts / "keys.yaml").write_text("keys: {a: {provider: openai, secret: '${KEY}'}}\n", encoding="utf-8")
    (parts / "more.yaml").write_text("keys: {b: {provider: openai, secret: '${file:b.key}'}}\n", encoding="utf-8")
    (parts / "b.key").write_text("second-key-0001", encoding="utf-8")
    settings = load(file, "include: parts/*.yaml\n", KEY="first-key-0001")
    assert settings.config is not None
    assert [key.name for key in settings.config.meaning.keys] == ["a", "b"]
    (parts / "more.yaml").write_text("keys: {a: {provider: openai, secret: x}}\nkeyz: 1\n", encoding="utf-8")
    told = faults(file, "include: [parts/*.yaml, gone.yaml]\n", KEY="first-key-0001")
    assert any(line.startswith("parts/more.yaml:1:8: keys.a: is defined already, in ") for line in told)
    assert any("there is no file" in line and "gone.yaml" in line for line in told)
    assert any(line.startswith("parts/more.yaml:2:1: keyz: there is no such member") for line in told)


def test_pools_teams_aliases_and_fallbacks_mean_what_they_stand_for(file: Path) -> None:
    text = """
pools:
  account: {rpm: 100, tier: "2"}
keys:
  a: {provider: openai, secret: "${KEY}", pool: account, models: "gpt-4o*, o3"}
deployments:
  fast: {targets: openai/gpt-4o-mini}
aliases: {quick: fast, other: openai/gpt-4o}
fallbacks: {gpt-4o: [quick], fast: [gpt-4o]}
teams:
  research: {budget: {limit: $50, period: month}, policy: {allowed_models: gpt-4o*}}
virtual_keys:
  ann: {secret: "${ANN}", team: research, expires_at: 2027-01-01}
policies:
  hers: {scope: virtual_key, scope_id: ann, max_cost: 0.05}
"""
    settings = load(file, text, KEY="first-key-0001", ANN="0123456789abcdef")
    assert settings.config is not None
    meaning = settings.config.meaning
    assert dict(meaning.keys[0].metadata) | {"source": ""} == {
        "source": "",
        "quota_pool": "account",
        "rpm": 100,
        "tier": "2",
        "models": ["gpt-4o*", "o3"],
    }
    deployments = {one.name: one for one in meaning.deployments}
    assert [deployments[name].targets[0].model for name in ("fast", "quick", "other")] == [
        "gpt-4o-mini",
        "gpt-4o-mini",
        "gpt-4o",
    ]
    assert deployments["gpt-4o"].fallbacks == ("quick",)
    assert deployments["fast"].fallbacks == ("gpt-4o",)
    assert [(one.name, one.scope_id) for one in meaning.budgets] == [("team-research", "research")]
    assert {one.policy_id: one.scope_id for one in meaning.policies} == {"hers": "vkf_ann", "team-research": "research"}
    assert meaning.virtual_keys[0].expires_at_s == 1798761600.0


def test_a_worker_gets_the_same_configuration_without_the_file(file: Path) -> None:
    text = 'server: {port: 8005}\nkeys: {a: {provider: openai, secret: "${KEY}"}}\naliases: {x: openai/gpt-4o}\n'
    settings = load(file, text, KEY="first-key-0001")
    environ = frozen_environ({"APIKEYROUTER_CONFIG": str(file), "HOME": "/", "KEY": "first-key-0001"}, None)
    file.unlink()
    again = ProxySettings.from_environ(json.loads(json.dumps(environ)))
    assert again.port == 8005
    assert again.config is not None
    assert settings.config is not None
    assert again.config.meaning.deployments == settings.config.meaning.deployments
    assert again.config.meaning.keys[0].material.reveal() == "first-key-0001"
    assert again.config.configuration is not None
    assert again.config.configuration.place_of("keys", "a") is not None


def test_the_published_schema_and_reference_are_those_of_the_types() -> None:
    advice = "run: python -m apikeyrouter_proxy.config.published ."
    assert json.loads(SCHEMA_FILE.read_text(encoding="utf-8")) == schema(), advice
    assert (ROOT / "docs/reference/configuration.md").read_text(encoding="utf-8") == reference(), advice


def test_every_member_of_the_schema_says_what_it_is() -> None:
    made = schema()
    for name, part in {**made["$defs"], "the file": made}.items():
        for member, shape in part["properties"].items():
            assert shape.get("description"), f"{name}.{member}"
        assert part["additionalProperties"] is False, name


def test_keys_of_the_environment_can_be_left_out(file: Path) -> None:
    text = "server: {keys_from_environment: false}\n"
    assert load(file, text, OPENAI_API_KEY=SECRET).env_keys == ()
    assert len(load(file, "server: {}\n", OPENAI_API_KEY=SECRET).env_keys) == 1


def test_the_whole_configuration_may_stand_in_a_variable() -> None:
    settings = ProxySettings.from_environ({"APIKEYROUTER_CONFIG_YAML": "server: {port: 8011}\n", "HOME": "/"})
    assert settings.port == 8011


def test_secrets_in_the_clear_are_shown_nowhere(file: Path) -> None:
    password = "pw" + "0f" * 8
    text = f"""
server: {{admin_key: {SECRET}1, store: "postgresql://akr:{password}@db.example/akr", encryption_key: {SECRET}2}}
providers:
  acme: {{base_url: https://llm.acme.example/v1, headers: {{X-Team: blue}}}}
keys:
  a: {{provider: acme, secret: {SECRET}4}}
virtual_keys:
  b: {{secret: {SECRET}5}}
"""
    before = load(file, "server: {}\n")
    after = load(file, text)
    shown = str([objects(after), effective(after), [str(one) for one in changes(before, after)]]) + repr(after)
    assert SECRET not in shown
    assert password not in shown
    assert "blue" in shown
    told = faults(file, text.replace("X-Team: blue", f"X-Api-Token: {SECRET}3"))
    assert len(told) == 1
    assert "header 'X-Api-Token' looks like a credential" in told[0]
    assert SECRET not in told[0]
    assert "postgresql://akr:********@db.example/akr" in shown
