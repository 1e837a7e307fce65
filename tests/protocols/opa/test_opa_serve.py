"""`aip policy serve`: a process of its own, asked over the network by a plain HTTP client and by OPA's own."""

from __future__ import annotations

import asyncio
import http.client
import importlib
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from opa_kit import ROOT, TOKEN, served, server

from aip.cli.main import aip
from aip.governance.policy import rollout, store
from aip.governance.policy.bundle import Bundle, from_files
from aip.governance.policy.certify import INPUTS, Certificate
from aip.governance.policy.engine import BundleRejected
from aip.governance.policy.regocpp_engine import reference_name
from aip.governance.policy.regorus_engine import RegorusEngine
from aip.protocols.opa import app, in_force
from aip.protocols.opa.in_force import InForce
from aip.settings import Home


def bundle(revision: str, allow: str = "true") -> Bundle:
    manifest = json.dumps({"revision": revision, "roots": ["aip"]}).encode()
    rules = f'package aip\n\ndecision := {{"allow": {allow}}}\n'.encode()
    return from_files({"aip/rules.rego": rules, ".manifest": manifest})


def bring(home: Home, found: Bundle, *, certified: bool = True) -> None:
    """Into force, as `aip policy reload` does it after its comparison."""
    names = {"engine": RegorusEngine().name, "reference": reference_name()}
    counts = {"tests": 0, "inputs": INPUTS, "decided": INPUTS, "allowed": INPUTS, "seed": 1}
    certificate = Certificate(digest=found.digest, revision=found.revision, **names, **counts)
    place = rollout.folder(home)
    version = store.put(place, found, certificate if certified else None)
    store.save(place, store.load(place).stage(version).activate())


@contextmanager
def process(home: Path, *options: str) -> Iterator[tuple[int, subprocess.Popen[str]]]:
    """The command, and the port that it says."""
    command = [sys.executable, "-m", "aip.cli", "policy", "serve", "--port", "0", *options]
    paths = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
    environment = {**os.environ, "AIP_HOME": str(home), "OPA_TOKEN": TOKEN, "PYTHONPATH": paths}
    pipe: Any = subprocess.PIPE
    running = subprocess.Popen(command, env=environment, stdout=pipe, stderr=pipe, text=True, cwd=home)
    try:
        assert running.stderr is not None
        said = re.search(r"at http://127\.0\.0\.1:(\d+)", running.stderr.readline())
        assert said is not None
        yield int(said[1]), running
    finally:
        running.kill()
        running.communicate()


def ask(port: int, method: str, path: str, body: Any = None, token: str = TOKEN) -> tuple[int, Any]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    try:
        connection.request(method, path, body, {"Authorization": f"Bearer {token}"})
        response = connection.getresponse()
        return response.status, json.loads(response.read())
    finally:
        connection.close()


def test_the_policy_in_force_answers_until_the_process_is_asked_to_end(tmp_path: Path) -> None:
    bring(Home(tmp_path), bundle("r1"))
    with process(tmp_path, "--log-decisions") as (port, running):
        assert ask(port, "GET", "/health?bundles", token="none") == (200, {})
        assert ask(port, "GET", "/v1/status", token="another one, just as long")[0] == 401
        status, told = ask(port, "POST", "/v1/data/aip/decision?provenance", '{"input": {"kind": "call"}}')
        assert (status, told["result"]) == (200, {"allow": True})
        assert told["provenance"]["bundles"]["aip"]["revision"] == "r1"

        client = importlib.import_module("opa_client.opa").OpaClient(host="127.0.0.1", port=port, token=TOKEN)
        assert client.check_health()
        assert client.query_rule({"kind": "call"}, "aip", "decision")["result"] == {"allow": True}
        client.close_connection()

        running.send_signal(signal.SIGINT)
        out, err = running.communicate(timeout=30)
    assert (running.returncode, err) == (0, "")
    events = [json.loads(line) for line in out.splitlines()]
    assert [event["input"] for event in events] == [{"kind": "call"}] * 2
    assert events[0]["decision_id"] == told["decision_id"]


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        ((), "no secret OPA_TOKEN"),
        (("--token", "SHORT"), "at least 16 characters"),
        (("--host", "192.0.2.1", "--token", "LONG"), "cannot listen on 192.0.2.1"),  # RFC 5737: nobody's.
        (("--host", "localhost", "--token", "LONG"), "localhost is no address"),
    ],
)
def test_what_cannot_be_served_is_said(
    given: tuple[str, ...],
    problem: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    bring(Home(tmp_path), bundle("r1"))
    monkeypatch.setenv("PYTHON_KEYRING_BACKEND", "keyring.backends.null.Keyring")
    monkeypatch.delenv("OPA_TOKEN", raising=False)
    monkeypatch.setenv("SHORT", "abc")
    monkeypatch.setenv("LONG", TOKEN)
    with pytest.raises(SystemExit) as ended:
        aip.main(["policy", "serve", "--home", str(tmp_path), "--port", "0", *given])
    assert ended.value.code == 2
    assert problem in capsys.readouterr().err


# The policy in force --------------------------------------------------------------------------------------------------


@pytest.fixture(autouse=True)
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(in_force, "LOOK_EVERY_S", 0.001)


def test_where_nothing_was_brought_into_force_the_shipped_policy_is_served(tmp_path: Path) -> None:
    assert InForce(Home(tmp_path), {}).bundle.digest == rollout.read(rollout.shipped()).digest


async def test_a_policy_that_comes_into_force_is_served_from_then_on(tmp_path: Path) -> None:
    home = Home(tmp_path)
    bring(home, bundle("r1"))
    found = InForce(home, {})
    desk = app(found.server, token=TOKEN).state.desk
    assert await desk.ask(lambda server: server.value(("aip", "decision"), {})) == {"allow": True}
    following = asyncio.ensure_future(found.follow(desk))
    bring(home, bundle("r2", "false"))
    async with asyncio.timeout(20):
        while await desk.ask(lambda server: server.revision) == "r1":
            await asyncio.sleep(0.001)
    following.cancel()
    assert await desk.ask(lambda server: server.value(("aip", "decision"), {})) == {"allow": False}
    await desk.close()


async def test_one_that_cannot_be_served_ends_the_service_rather_than_answer_with_the_old_one(
    tmp_path: Path,
) -> None:
    home = Home(tmp_path)
    bring(home, bundle("r1"))
    found = InForce(home, {})
    desk = app(found.server, token=TOKEN).state.desk
    following = asyncio.ensure_future(found.follow(desk))
    await asyncio.sleep(0)
    bring(home, bundle("r2"), certified=False)
    async with asyncio.timeout(20):
        with pytest.raises(BundleRejected, match="r2 is not certified"):
            await following
    await desk.close()
    with pytest.raises(BundleRejected, match="not certified"):
        InForce(home, {})


# Limits ---------------------------------------------------------------------------------------------------------------


def test_who_asks_too_often_is_told_and_served_again_a_second_later(monkeypatch: pytest.MonkeyPatch) -> None:
    now_s = 0.0
    monkeypatch.setattr(importlib.import_module("aip.protocols.opa.app"), "REQUESTS_PER_S_MAX", 2)
    made = app(server, token=TOKEN, clock_ns=lambda: int(now_s * 1e9))
    with served(made) as port:
        assert [ask(port, "GET", "/health")[0] for _ in range(4)] == [200, 200, 429, 429]
        now_s = 1.0
        assert ask(port, "GET", "/health") == (200, {})


def test_a_body_that_does_not_come_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.import_module("aip.protocols.opa.app"), "REQUEST_S_MAX", 0.05)
    with served(app(server, token=TOKEN)) as port:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        connection.putrequest("POST", "/v1/data/aip")
        connection.putheader("Authorization", f"Bearer {TOKEN}")
        connection.putheader("Content-Length", "100")
        connection.endheaders(b"{")
        assert connection.getresponse().status == 408
        connection.close()
