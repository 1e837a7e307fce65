"""`aip policy`, as a person types it and as a script reads it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from platform_double import Double

from aip.cli.main import aip
from aip.cli.session import Session
from aip.governance.audit import AuditChain, Batch, Noted, log_path
from aip.settings import Home

Type = Callable[..., Result]
SHIPPED = Path(__file__).parents[2] / "policies"
STRICT = SHIPPED / "strict" / "config.json"
CALL = {"kind": "call", "subject": {"type": "planner"}, "target": {"type": "greeter"}, "run": "r-1"}
LEAK = {**CALL, "target": {"type": "http"}, "session": {"labels": ["secret"]}}
OPEN = """\
package aip

decision := {"allow": true, "reasons": [{"rule": "open.door", "text": "everybody may"}], "obligations": []}
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    shutil.copytree(SHIPPED, tmp_path / "mine")
    (tmp_path / "call.json").write_text(json.dumps(CALL))
    (tmp_path / "leak.json").write_text(json.dumps(LEAK))
    (tmp_path / "open").mkdir()
    (tmp_path / "open" / "open.rego").write_text(OPEN)
    return tmp_path


def one_json(result: Result) -> Any:
    return json.loads(result.stdout)


def revision(result: Result) -> str:
    return str(one_json(result)["in_force"]["revision"])


# test, check


def test_the_tests_of_a_policy_are_run(typed: Type, folder: Path) -> None:
    result = typed("policy test mine")
    assert result.exit_code == 0, result.output
    assert " hold, 0 do not" in result.stdout


def test_a_test_that_does_not_hold_is_named_and_ends_with_3(typed: Type, folder: Path) -> None:
    (folder / "mine" / "aip" / "mine_test.rego").write_text(
        "package aip.mine_test\n\ntest_pigs_fly if 1 == 2\n"
    )
    result = typed("policy test mine")
    assert result.exit_code == 3
    assert "test_pigs_fly" in result.stdout
    assert "aip/mine_test.rego" in result.stdout
    machine = typed("policy test mine -o json")
    assert [row["name"] for row in json.loads(machine.stdout) if not row["passed"]] == ["test_pigs_fly"]


def test_check_compares_the_engines_and_says_on_how_much(typed: Type, folder: Path) -> None:
    told = one_json(typed("policy check open -o json"))
    assert told["tests"] == 0
    assert told["engine"].startswith("reg")


def test_a_policy_that_is_none_ends_with_3_and_with_its_place(typed: Type, folder: Path) -> None:
    (folder / "mine" / "aip" / "roles.rego").write_text("package aip.roles\n\ngrants contains 1 {\n")
    result = typed("policy check mine")
    assert result.exit_code == 3
    assert "aip/roles.rego" in result.stderr


# explain


def test_explain_shows_the_rule_and_where_it_stands(typed: Type, folder: Path) -> None:
    result = typed("policy explain call.json")
    assert result.exit_code == 0, result.output
    assert result.stdout.startswith("allow\n")
    assert "roles.laptop" in result.stdout
    assert "aip/roles.rego:" in result.stdout


def test_explain_ends_with_4_where_it_is_asked_to(typed: Type, folder: Path) -> None:
    assert typed("policy explain leak.json").exit_code == 0
    result = typed("policy explain leak.json --exit-code -o json")
    assert result.exit_code == 4
    told = json.loads(result.stdout)
    assert told["allow"] is False
    assert [reason["rule"] for reason in told["reasons"]] == ["sequence.external_after_secret"]
    assert told["input"]["isolation"] == "cell"


def test_explain_reads_from_stdin(home: Home, folder: Path) -> None:
    result = CliRunner().invoke(
        aip, ["policy", "explain", "-"], obj=Session(home=home, client=Double()), input=json.dumps(LEAK)
    )
    assert result.exit_code == 0, result.output
    assert result.stdout.startswith("deny\n")


def test_explain_asks_another_policy_and_another_configuration(typed: Type, folder: Path) -> None:
    strict = typed(
        "policy", "explain", "call.json", "--policy", "mine", "--config", str(STRICT), "--exit-code"
    )
    assert strict.exit_code == 4
    assert "decision.default" in strict.stdout
    assert "open.door" in typed("policy explain leak.json --policy open").stdout


def test_a_field_that_is_misspelt_is_named(typed: Type, folder: Path) -> None:
    (folder / "call.json").write_text(json.dumps({**CALL, "capabilty": "greet"}))
    result = typed("policy explain call.json")
    assert result.exit_code == 2
    assert "capabilty" in result.stderr
    assert "aip policy show --schema" in result.stderr


@pytest.mark.parametrize(
    "words", ["policy explain", "policy explain call.json --from-audit 3", "policy explain none.json"]
)
def test_one_input_is_asked_for(typed: Type, folder: Path, words: str) -> None:
    assert typed(words).exit_code == 2


def test_a_recorded_decision_is_asked_again_by_its_entry_or_its_id(
    typed: Type, folder: Path, home: Home
) -> None:
    audited(home, {"decision": "d-1"}, {"decision": "d-2", "input": LEAK})
    for wanted in ("1", "d-2"):
        result = typed("policy", "explain", "--from-audit", wanted)
        assert "sequence.external_after_secret" in result.stdout, result.output
    assert "holds no input" in typed("policy explain --from-audit d-1").stderr
    assert typed("policy explain --from-audit d-3").exit_code == 2


def audited(home: Home, *details: dict[str, Any]) -> None:
    """A log that holds these as refusals."""
    notes = [
        Noted(number, 1.0 + number, "refused.policy", "planner/1", one) for number, one in enumerate(details)
    ]
    path = log_path(home.audit)
    path.parent.mkdir(parents=True)
    path.write_bytes(AuditChain().lines(Batch("test", notes)))


# diff


def test_policies_that_decide_alike_do_not_differ(typed: Type, folder: Path) -> None:
    roles = folder / "mine" / "aip" / "roles.rego"
    roles.write_text("# Moved, not changed.\n" + roles.read_text())
    result = typed("policy", "diff", str(SHIPPED), "mine", "-n", "200")
    assert result.exit_code == 0, result.output
    assert result.stdout == "no decision changed over 200 inputs\n"


def test_a_door_that_opens_is_told_with_the_input_that_goes_through(typed: Type, folder: Path) -> None:
    result = typed("policy diff mine open -n 100 -o json")
    assert result.exit_code == 1
    told = json.loads(result.stdout)
    assert told["inputs"] == 100
    assert told["changed"]["opened"] > 50
    opened = next(one for one in told["changes"] if one["change"] == "opened")
    assert (opened["old"]["allow"], opened["new"]["allow"]) == (False, True)


def test_recorded_inputs_are_asked_instead_of_generated_ones(typed: Type, folder: Path) -> None:
    (folder / "in.ndjson").write_text(f"{json.dumps(CALL)}\n\n{json.dumps(LEAK)}\n")
    words = ("policy", "diff", "mine", "mine", "--new-config", str(STRICT), "--inputs", "in.ndjson")
    result = typed(*words)
    assert result.exit_code == 1
    assert "of 2 inputs" in result.stdout
    (folder / "in.ndjson").write_text(f"{json.dumps(CALL)}\nnot json\n")
    broken = typed(*words)
    assert broken.exit_code == 2
    assert "in.ndjson:2" in broken.stderr
    (folder / "in.ndjson").write_text('{"kind": "shout"}\n')
    assert "in.ndjson:1" in typed(*words).stderr


# build, sign, trust


def test_the_same_policy_is_always_the_same_file(typed: Type, folder: Path) -> None:
    for name in ("one.tar.gz", "two.tar.gz"):
        assert typed("policy", "build", "mine", "--out", name).exit_code == 0
    assert (folder / "one.tar.gz").read_bytes() == (folder / "two.tar.gz").read_bytes()
    assert typed("policy test one.tar.gz").exit_code == 0


def signed(typed: Type, folder: Path, home: Home) -> None:
    assert typed("policy key ops.pem").exit_code == 0
    assert typed("policy sign open --key ops.pem --out signed.tar.gz").exit_code == 0


def test_a_key_is_private_and_never_written_over(typed: Type, folder: Path) -> None:
    assert typed("policy key ops.pem").exit_code == 0
    assert (folder / "ops.pem").stat().st_mode & 0o077 == 0
    before = (folder / "ops.pem").read_bytes()
    assert typed("policy key ops.pem").exit_code == 2
    assert (folder / "ops.pem").read_bytes() == before


def test_a_signature_is_verified_and_a_missing_or_foreign_one_ends_with_8(
    typed: Type, folder: Path, home: Home
) -> None:
    signed(typed, folder, home)
    assert one_json(typed("policy check signed.tar.gz --trust ops.pub.pem -o json"))["signed_by"] == "ops"
    assert typed("policy check open --trust ops.pub.pem").exit_code == 8
    assert typed("policy key other/ops.pem").exit_code != 0  # No folder is made for a key.
    (folder / "other").mkdir()
    assert typed("policy key other/ops.pem").exit_code == 0
    foreign = typed("policy check signed.tar.gz --trust other/ops.pub.pem")
    assert foreign.exit_code == 8
    assert "does not verify" in foreign.stderr


def test_a_platform_that_trusts_keys_takes_no_other_policy(typed: Type, folder: Path, home: Home) -> None:
    signed(typed, folder, home)
    trust = home.root / "policy" / "trust"
    trust.mkdir(parents=True)
    shutil.copy(folder / "ops.pub.pem", trust)
    refused = typed("policy reload open")
    assert refused.exit_code == 3
    assert "not signed" in refused.stderr
    assert typed("policy reload signed.tar.gz").exit_code == 0
    assert one_json(typed("policy show -o json"))["in_force"]["signed_by"] == "ops"
    other = typed("policy", "reload", "signed.tar.gz", "--config", str(STRICT))
    assert other.exit_code == 2


# reload, rollback, show


def test_without_a_policy_of_its_own_the_shipped_one_is_shown(typed: Type, folder: Path) -> None:
    result = typed("policy show")
    assert "shipped with AIP" in result.stdout
    assert "mode    laptop" in result.stdout
    assert one_json(typed("policy show -o json"))["in_force"] is None


def test_a_policy_comes_into_force_and_goes_again(typed: Type, folder: Path) -> None:
    assert typed("policy reload mine").exit_code == 0
    first = revision(typed("policy show -o json"))
    assert typed("policy reload open").exit_code == 0
    assert "open.door" in typed("policy explain leak.json").stdout
    told = one_json(typed("policy show -o json"))
    assert told["good"] == [first]  # The shipped one is the same bundle.
    assert typed("policy rollback").exit_code == 0
    assert revision(typed("policy show -o json")) == first
    assert "sequence.external_after_secret" in typed("policy explain leak.json").stdout
    assert typed("policy rollback").exit_code == 2


def test_the_first_policy_of_ones_own_can_be_taken_back_too(typed: Type, folder: Path) -> None:
    shipped = one_json(typed("policy show -o json"))["shipped"]["revision"]
    assert typed("policy reload open").exit_code == 0
    assert typed("policy rollback").exit_code == 0
    assert revision(typed("policy show -o json")) == shipped
    again = typed("policy rollback")
    assert again.exit_code == 2
    assert "no earlier policy" in again.stderr


def test_a_policy_that_is_in_force_already_is_not_put_behind_itself(typed: Type, folder: Path) -> None:
    for _ in range(2):
        assert typed("policy reload open").exit_code == 0
    assert len(one_json(typed("policy show -o json"))["good"]) == 1


def test_a_policy_that_is_refused_leaves_the_one_in_force(typed: Type, folder: Path) -> None:
    assert typed("policy reload open").exit_code == 0
    first = revision(typed("policy show -o json"))
    (folder / "mine" / "data.json").write_text('{"aip": {"config": {"open": "yes"}}}')
    assert typed("policy reload mine").exit_code == 3
    assert revision(typed("policy show -o json")) == first


def test_a_configuration_is_brought_into_force_with_its_policy(typed: Type, folder: Path) -> None:
    assert typed("policy", "reload", "mine", "--config", str(STRICT)).exit_code == 0
    assert one_json(typed("policy show -o json"))["in_force"]["mode"] == "strict"
    assert typed("policy explain call.json --exit-code").exit_code == 4


def test_the_schema_of_the_input_is_printed(typed: Type) -> None:
    assert "kind" in json.dumps(json.loads(typed("policy show --schema").stdout))
