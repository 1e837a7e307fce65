"""What a client of OPA's REST API gets from AIP: answers, warnings and errors in OPA's own shapes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from opa_kit import TOKEN, server
from starlette.testclient import TestClient

from aip.errors import UsageError
from aip.protocols.opa import app
from aip.protocols.opa.app import REQUEST_BYTES_MAX
from aip.protocols.opa.desk import PENDING_MAX

MESSAGE = {
    "kind": "call",
    "subject": {"address": "planner/1", "type": "planner", "tenant": "", "depth": 0, "children": 0},
    "target": {"address": "greeter/1", "type": "greeter", "tenant": ""},
    "capability": "greet",
    "run": "r-1",
    "principal": {"id": "", "roles": [], "attributes": {}},
    "labels": [],
    "session": {"labels": []},
    "isolation": "cell",
    "budget": {},
    "rates": {},
    "reputation": 1,
    "kill": {"level": "none"},
}
RULES = "package shop\n\ndefault allow := false\n\nallow if input.age >= data.limits.age\n"


class Log(list[dict[str, Any]]):
    async def __call__(self, event: dict[str, Any]) -> None:
        self.append(event)


@pytest.fixture(scope="module")
def log() -> Log:
    return Log()


@pytest.fixture(scope="module")
def opa(log: Log) -> Iterator[TestClient]:
    numbers = iter(range(10**6))
    made = app(server, token=TOKEN, decided=log, new_id=lambda: f"d-{next(numbers)}", clock_ns=lambda: 0)
    with TestClient(made, headers={"Authorization": f"Bearer {TOKEN}"}) as client:
        yield client


@pytest.fixture
def shop(opa: TestClient) -> Iterator[TestClient]:
    """With a policy and its data that a client put."""
    assert opa.put("/v1/data/limits", json={"age": 18}).status_code == 204
    assert opa.put("/v1/policies/shop", content=RULES).status_code == 200
    yield opa
    opa.delete("/v1/policies/shop")
    opa.delete("/v1/data/limits")


def code(response: Any) -> tuple[int, str]:
    return response.status_code, response.json()["code"]


# Decisions


def test_the_policy_in_force_answers_and_its_decision_is_logged_under_its_id(
    opa: TestClient, log: Log
) -> None:
    log.clear()
    answer = opa.post("/v1/data/aip/decision", json={"input": MESSAGE}).json()
    assert answer["result"]["allow"] is True
    assert answer["result"]["reasons"][0]["rule"] == "roles.laptop"
    assert [event["decision_id"] for event in log] == [answer["decision_id"]]
    assert log[0]["input"] == MESSAGE
    assert log[0]["result"] == answer["result"]


def test_the_default_decision_is_answered_bare(opa: TestClient) -> None:
    assert opa.post("/", json=MESSAGE).json()["allow"] is True
    assert opa.post("/", json={}).json()["allow"] is False


def test_a_question_without_input_is_answered_with_a_warning(opa: TestClient) -> None:
    answer = opa.post("/v1/data/aip/decision", json={}).json()
    assert answer["result"]["allow"] is False
    assert answer["warning"]["code"] == "api_usage_warning"


def test_no_answer_remembers_the_input_of_another(shop: TestClient) -> None:
    assert shop.post("/v1/data/shop/allow", json={"input": {"age": 20}}).json()["result"] is True
    assert shop.get("/v1/data/shop/allow").json()["result"] is False


def test_what_is_undefined_has_no_result_and_is_no_error(opa: TestClient) -> None:
    answer = opa.get("/v1/data/nothing/here")
    assert answer.status_code == 200
    assert "result" not in answer.json()


def test_input_may_come_in_the_address(shop: TestClient) -> None:
    assert shop.get("/v1/data/shop/allow", params={"input": '{"age": 18}'}).json()["result"] is True


def test_provenance_names_the_revision_that_decided(opa: TestClient) -> None:
    answer = opa.post("/v1/data/aip/decision?provenance", json={"input": MESSAGE}).json()
    status = opa.get("/v1/status").json()["result"]
    assert answer["provenance"]["bundles"]["aip"]["revision"] == status["bundles"]["aip"]["active_revision"]
    assert answer["provenance"]["bundles"]["aip"]["revision"].startswith("sha256:")


def test_metrics_are_given_where_asked_for_and_explain_is_said_to_be_missing(opa: TestClient) -> None:
    answer = opa.post("/v1/data/aip/decision?metrics=true&explain=full", json={"input": MESSAGE}).json()
    assert answer["metrics"] == {"timer_server_handler_ns": 0}
    assert "explain is not served" in answer["warning"]["message"]
    assert "metrics" not in opa.get("/v1/data/aip/config").json()


def test_pretty_is_for_eyes(opa: TestClient) -> None:
    assert '\n  "result"' in opa.get("/v1/data/aip/config?pretty").text
    assert "\n" not in opa.get("/v1/data/aip/config").text


def test_a_failing_function_is_an_error_and_never_undefined(opa: TestClient) -> None:
    opa.put("/v1/policies/bad", content="package bad\n\nx := to_number(input.text)\n")
    answer = opa.post("/v1/data/bad/x", json={"input": {"text": "ten"}})
    assert code(answer) == (500, "internal_error")
    assert answer.json()["errors"][0]["location"]["row"] == 3
    opa.delete("/v1/policies/bad")


# Policies and data


def test_a_policy_is_listed_with_its_text_its_package_and_its_rules(shop: TestClient) -> None:
    found = shop.get("/v1/policies/shop").json()["result"]
    assert found["raw"] == RULES
    assert [part["value"] for part in found["ast"]["package"]["path"]] == ["data", "shop"]
    assert found["ast"]["rules"] == [{"head": {"name": "allow"}}]
    assert {"shop", "aip/decision.rego"} <= {one["id"] for one in shop.get("/v1/policies").json()["result"]}


@pytest.mark.parametrize(
    ("text", "said", "row"),
    [
        ("package p\n\nallow {\n true\n}\n", "`if` keyword is required before rule body", 3),
        ("package p\n\nallow if {\n x > 1\n}\n", "unsafe", 4),
        ("package p\n\nallow := {\n", "expecting expression", 4),
        ("package limits.age\n\nyears := 1\n", "conflicting rule for data path limits/age", 0),
    ],
)
def test_a_policy_that_does_not_compile_is_refused_with_its_place(
    shop: TestClient, text: str, said: str, row: int
) -> None:
    answer = shop.put("/v1/policies/p", content=text)
    assert code(answer) == (400, "invalid_parameter")
    assert answer.json()["message"] == "error(s) occurred while compiling module(s)"
    (problem,) = answer.json()["errors"]
    assert said in problem["message"]
    assert problem["location"]["row"] == row
    assert shop.get("/v1/policies/p").status_code == 404


@pytest.mark.parametrize(
    ("method", "address", "body"),
    [
        ("PUT", "/v1/data/aip/config", "{}"),
        ("PUT", "/v1/data/aip", "{}"),
        ("PUT", "/v1/data", "{}"),
        ("DELETE", "/v1/data/aip/config/roles", ""),
        ("PATCH", "/v1/data/aip", '[{"op": "replace", "path": "/config/open", "value": true}]'),
        ("PATCH", "/v1/data", '[{"op": "add", "path": "/aip/config/open", "value": true}]'),
        ("PUT", "/v1/policies/aip/roles.rego", "package aip.roles\n\ngrants contains 1\n"),
        ("PUT", "/v1/policies/mine", "package aip.roles\n\ngrants contains 1\n"),
        ("PUT", "/v1/policies/mine", "package aip\n\nallow := true\n"),
        ("DELETE", "/v1/policies/aip/roles.rego", ""),
    ],
)
def test_what_the_bundle_owns_is_not_written_over_http(
    opa: TestClient, method: str, address: str, body: str
) -> None:
    answer = opa.request(method, address, content=body)
    assert code(answer) == (400, "invalid_parameter")
    refused = opa.post("/v1/data/aip/decision", json={"input": {**MESSAGE, "run": ""}}).json()["result"]
    assert refused["allow"] is False


def test_data_that_would_stand_in_a_rules_place_is_refused(shop: TestClient) -> None:
    assert code(shop.put("/v1/data/shop/allow", content="true")) == (400, "invalid_parameter")
    assert shop.post("/v1/data/shop/allow", json={"input": {"age": 1}}).json()["result"] is False


def test_a_document_is_not_written_over_where_the_client_forbids_it(shop: TestClient) -> None:
    again = shop.put("/v1/data/limits", json={"age": 0}, headers={"If-None-Match": "*"})
    assert again.status_code == 304
    assert shop.get("/v1/data/limits").json()["result"] == {"age": 18}


def test_a_document_is_not_written_through_a_plain_value(shop: TestClient) -> None:
    assert code(shop.put("/v1/data/limits/age/years", json=1)) == (404, "resource_conflict")


@pytest.mark.parametrize("address", ["/v1/data/limits/size", "/v1/policies/none"])
def test_what_is_not_there_cannot_be_deleted(shop: TestClient, address: str) -> None:
    assert code(shop.delete(address)) == (404, "resource_not_found")


# Queries


@pytest.mark.parametrize(
    ("query", "rows"),
    [
        ("x := 1; y := x + 1", [{"x": 1, "y": 2}]),
        ("data.limits[name] = n", [{"name": "age", "n": 18}]),
        ("1 == 1", [{}]),
        ("1 == 2", None),
        ("data.nothing.here", None),
        ("some n in [1, 2, 3]; n > 1", [{"n": 2}, {"n": 3}]),
        ("x := 1; not x == 1", None),
        ("not data.nothing.here", [{}]),
        ("n := count([y | some y in [1, 2]])", [{"n": 2}]),
        ("every y in [1, 2] { y > 0 }", [{}]),
        ('r := data.shop.allow with input as {"age": 3}', [{"r": False}]),
    ],
)
def test_a_query_gives_its_variables(shop: TestClient, query: str, rows: Any) -> None:
    assert shop.post("/v1/query", json={"query": query}).json().get("result") == rows
    assert shop.get("/v1/query", params={"q": query}).json().get("result") == rows


@pytest.mark.parametrize("query", ["", "1 +", "x", "not x", "true } other if { true", "nobody(1)", 7, None])
def test_what_is_no_query_is_told_so(opa: TestClient, query: Any) -> None:
    assert code(opa.post("/v1/query", json={"query": query})) == (400, "invalid_parameter")


# The door


@pytest.mark.parametrize("address", ["/v1/data", "/v1/policies", "/v1/config", "/v1/status", "/metrics"])
@pytest.mark.parametrize("header", ["", "Bearer", "Bearer wrong", f"Basic {TOKEN}", f"Bearer {TOKEN}x"])
def test_without_the_token_nothing_is_told(opa: TestClient, address: str, header: str) -> None:
    answer = opa.get(address, headers={"Authorization": header})
    assert code(answer) == (401, "unauthorized")


def test_a_probe_needs_no_token(opa: TestClient) -> None:
    assert opa.get("/health?bundles", headers={"Authorization": ""}).json() == {}


def test_no_server_is_open_by_accident() -> None:
    for token in (None, "", "short"):
        with pytest.raises(UsageError, match="token"):
            app(server, token=token)


def test_what_is_too_large_or_too_deep_is_refused(opa: TestClient) -> None:
    assert code(opa.post("/v1/data/x", content=b" " * (REQUEST_BYTES_MAX + 1))) == (413, "invalid_parameter")
    assert code(opa.put("/v1/data/x", content="[" * 65 + "]" * 65)) == (400, "invalid_parameter")
    assert code(opa.put("/v1/data/x", content="[" * 100_000)) == (400, "invalid_parameter")
    assert code(opa.put("/v1/data/x", content="NaN")) == (400, "invalid_parameter")
    assert code(opa.get("/v1/data/" + "/".join("x" * 65))) == (400, "invalid_parameter")


def test_too_many_that_wait_are_sent_away(opa: TestClient) -> None:
    desk = opa.app.state.desk  # type: ignore[attr-defined]
    desk.pending += PENDING_MAX
    assert code(opa.get("/v1/data")) == (503, "internal_error")
    desk.pending -= PENDING_MAX
    assert opa.get("/v1/data/aip/config").status_code == 200


def test_counters_are_for_prometheus(opa: TestClient) -> None:
    opa.get("/v1/config")
    text = opa.get("/metrics").text
    assert 'http_requests_total{handler="config",code="200"}' in text
    assert "aip_opa_pending 0" in text
