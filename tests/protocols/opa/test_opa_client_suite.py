"""The integration test that `opa-python-client` ships for OPA passes against AIP's server, unchanged but for the address."""

from __future__ import annotations

import functools
import importlib
import unittest

import pytest
from opa_kit import TOKEN, served, server

from aip.protocols.opa import app

suite = pytest.importorskip("opa_client.test.test_integaration_opa", reason="opa-python-client is an extra")
CASES = unittest.TestLoader().getTestCaseNames(suite.TestIntegrationOpaClient)


@pytest.fixture(scope="module")
def port() -> int:
    with served(app(server, token=TOKEN)) as port:
        yield port


@pytest.mark.parametrize("case", CASES)
def test_opas_own_client_finds_an_opa_server(case: str, port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    client = importlib.import_module("opa_client.opa").OpaClient

    def at_ours(host: str, **asked: int) -> object:
        assert asked == {"port": 8181}
        return client(host=host, port=port, token=TOKEN, timeout=30)

    monkeypatch.setattr(suite, "OpaClient", functools.wraps(client)(at_ours))
    outcome = unittest.TestResult()
    unittest.TestSuite([suite.TestIntegrationOpaClient(case)]).run(outcome)
    assert outcome.testsRun == 1
    assert [trace for _, trace in (*outcome.failures, *outcome.errors)] == []
    assert outcome.skipped == []


def test_the_suite_is_all_there() -> None:
    assert len(CASES) >= 10


def test_without_the_token_opas_client_gets_nowhere(port: int) -> None:
    client = importlib.import_module("opa_client.opa").OpaClient(host="localhost", port=port, timeout=30)
    with pytest.raises(importlib.import_module("opa_client.errors").ConnectionsError):
        client.check_connection()
    client.close_connection()
