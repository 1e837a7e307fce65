"""What holds the connectors together: configuration, secrets, quotas, and the barrier between an order and a commit."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aip.errors import Denied
from aip.governance.effects.barrier import CommitPage, settled
from aip.governance.effects.configuration import EffectsInvalid, configured, connect, read
from aip.governance.effects.connector import DESCRIPTION_CHARS_MAX, line
from aip.governance.effects.quota import Bucket, Places
from aip.governance.effects.vault import KEPT_S, Vault

WHOLE = b"""
connectors:
  tickets:
    connector: http
    allow:
      - {url: "https://api.example.com/v1/tickets", methods: [POST]}
    headers: {Authorization: "Bearer secret:TICKETS_TOKEN"}
    rate_per_s: 5
  reports: {connector: file, root: /srv/reports}
  deploy:
    connector: process
    commands: {release: {argv: [/bin/echo, "{env}"], arguments: {env: staging|production}}}
  mail: {connector: smtp, host: mail.example.com, sender: robot@example.com, recipients: ["*@example.com"]}
  hook: {connector: webhook, url: "https://example.com/hook", secret: "secret:HOOK"}
"""


def test_a_file_with_every_kind_of_connector_is_read_and_no_secret_is_looked_up() -> None:
    def never(reference: str) -> str:
        raise AssertionError(reference)

    doors = connect(read(WHOLE), Vault(never, lambda: 0.0))
    assert {name: door.kind for name, door in doors.items()} == {
        "tickets": "http", "reports": "file", "deploy": "process", "mail": "smtp", "hook": "webhook",
    }  # fmt: skip
    assert doors["tickets"].config.rate_per_s == 5
    assert connect(read(b""), Vault(never, lambda: 0.0)) == {}


@pytest.mark.parametrize(
    ("text", "named"),
    [
        (b"connectors: {x: {connector: ftp}}", "connectors.x"),
        (b"connectors: {x: {connector: file}}", "connectors.x.file.root"),
        (b"connectors: {x: {connector: file, root: here}}", "from /"),
        (b"connectors: {X: {connector: file, root: /}}", "lower case"),
        (b"connectors: {x: {connector: file, root: /, rooot: 1}}", "rooot"),
        (b"connectors: {x: {connector: http, allow: [{url: 'https://*/'}]}}", "allow.0.url"),
        (b"connectors: {x: {connector: http, allow: [{url: 'https://a.example'}], private: [x]}}", "private"),
        (b"connectors: {x: {connector: webhook, url: 'https://a.example', secret: hunter2}}", "secret:NAME"),
        (b"connectors: {x: {connector: file, root: /, timeout_s: 0}}", "timeout_s"),
        (b"connectors: [", "effects.yaml:1"),
        (b"- a", "effects.yaml"),
        (b"a: !!python/object:os.system {}", "effects.yaml:1"),
        (b"#" * (2**20 + 1), "bytes"),
    ],
)
def test_a_mistake_is_named_by_its_field_and_no_value_is_quoted(text: bytes, named: str) -> None:
    with pytest.raises(EffectsInvalid) as caught:
        read(text)
    assert named in caught.value.message
    assert "hunter2" not in caught.value.message


def test_a_repeat_in_doubt_needs_a_key_that_the_server_sees() -> None:
    fields = {"connector": "http", "allow": [{"url": "https://a.example/"}], "repeat_in_doubt": True}
    configured({"connectors": {"x": fields}})
    with pytest.raises(EffectsInvalid, match="idempotency_header"):
        configured({"connectors": {"x": {**fields, "idempotency_header": ""}}})


def test_a_secret_is_looked_up_when_it_is_used_and_again_after_a_while() -> None:
    now, values, asked = [0.0], {"secret:A": "first-value"}, []

    def resolve(reference: str) -> str:
        asked.append(reference)
        return values[reference]

    vault = Vault(resolve, lambda: now[0])
    assert asked == []
    assert vault.expand("Bearer secret:A, and not secret:") == "Bearer first-value, and not secret:"
    values["secret:A"] = "second-value"
    assert vault.open("secret:A") == "first-value"
    now[0] = KEPT_S
    assert vault.open("secret:A") == "second-value"
    assert vault.hide(["first-value", {"second-value": b"second-value"}]) == [
        "[secret]",
        {"[secret]": b"[secret]"},
    ]
    assert len(asked) == 2


def test_a_secret_that_cannot_be_hidden_is_refused() -> None:
    with pytest.raises(Denied) as caught:
        Vault(lambda _: "abc", lambda: 0.0).open("secret:A")
    assert "abc" not in caught.value.message


def test_a_secret_inside_another_leaves_no_rest() -> None:
    values = {"secret:A": "abcdef", "secret:B": "abcdefghi"}
    vault = Vault(values.__getitem__, lambda: 0.0)
    vault.open("secret:A")
    vault.open("secret:B")
    assert vault.hide("x abcdefghi y abcdef") == "x [secret] y [secret]"


PLAIN = st.recursive(
    st.none() | st.integers() | st.text("sEcret-", max_size=12) | st.just("xx hunter2-hunter2 yy"),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)


@given(PLAIN)
def test_no_plain_value_carries_a_secret_out(value: Any) -> None:
    vault = Vault(lambda _: "hunter2-hunter2", lambda: 0.0)
    vault.open("secret:A")
    assert "hunter2" not in repr(vault.hide(value))


@given(st.lists(st.floats(0, 3), max_size=60), st.integers(1, 5))
def test_a_rate_is_never_exceeded_over_any_stretch_of_time(waits: list[float], burst: int) -> None:
    bucket, now, taken = Bucket(2.0, burst, 0.0), 0.0, []
    for wait in waits:
        now += wait
        if bucket.take(now) == 0.0:
            taken.append(now)
    for first in range(len(taken)):
        for last in range(first, len(taken)):
            assert last - first + 1 <= burst + 2.0 * (taken[last] - taken[first]) + 1e-6


def test_who_is_told_to_wait_that_long_gets_one_then() -> None:
    bucket = Bucket(4.0, 1, 0.0)
    assert bucket.take(0.0) == 0.0
    wait_s = bucket.take(0.1)
    assert bucket.take(0.1 + wait_s) == 0.0
    assert bucket.take(0.0) > 0, "a clock that is set back gives nothing"


def test_a_line_for_people_is_one_line() -> None:
    assert line("a\nb\x1b[31m\u202e") == "a\ufffdb\ufffd[31m\ufffd"
    assert len(line("x" * 1_000)) == DESCRIPTION_CHARS_MAX


# The barrier --------------------------------------------------------------------------------------------------------


def test_who_raises_an_order_waits_for_a_commit_that_is_in_its_step_and_for_no_other(tmp_path: Path) -> None:
    page, idle = CommitPage(tmp_path, "effects"), CommitPage(tmp_path, "effects-2")
    assert settled(tmp_path) == []
    looked: list[float] = []

    def sleep(seconds: float) -> None:
        looked.append(seconds)
        if len(looked) == 3:
            step.__exit__(None, None, None)

    step = page.step()
    step.__enter__()
    assert settled(tmp_path, 100.0, clock=lambda: 0.0, sleep=sleep) == []
    assert len(looked) == 3
    with idle.step():
        assert settled(tmp_path, 0.0) == ["effects-2"]


def test_a_gateway_that_stopped_inside_its_step_is_named_and_holds_nobody_up(tmp_path: Path) -> None:
    page = CommitPage(tmp_path, "effects")
    step = page.step()
    step.__enter__()
    times = iter(range(100))
    assert settled(tmp_path, 5.0, clock=lambda: next(times), sleep=lambda _: None) == ["effects"]
    assert settled(tmp_path, 0.0) == ["effects"]
    CommitPage(tmp_path, "effects")
    assert settled(tmp_path, 0.0) == [], "its successor's page is even: the old process commits no more"


def test_a_commit_after_another_is_not_taken_for_the_same_one(tmp_path: Path) -> None:
    """A busy gateway is inside a step at every look; the raiser waits for the one it saw, not for a quiet moment."""
    page = CommitPage(tmp_path, "effects")
    step = page.step()
    step.__enter__()

    def next_one(seconds: float) -> None:
        nonlocal step
        step.__exit__(None, None, None)
        step = page.step()
        step.__enter__()

    assert settled(tmp_path, 5.0, clock=lambda: 0.0, sleep=next_one) == []


def test_no_commit_that_read_the_old_fence_ends_after_the_raiser_was_answered(tmp_path: Path) -> None:
    """Two threads as two processes: the word goes up, `settled` answers, and nothing that read the old word is still to come."""
    page, word, stop = CommitPage(tmp_path, "effects"), [0], threading.Event()
    committed: list[tuple[int, int]] = []
    answered = [0]

    def gateway() -> None:
        while not stop.is_set():
            with page.step():
                seen = word[0]
                committed.append((seen, answered[0]))

    thread = threading.Thread(target=gateway)
    thread.start()
    for revision in range(1, 30):
        word[0] = revision
        assert settled(tmp_path, 10.0) == []
        answered[0] = revision
    stop.set()
    thread.join()
    assert all(seen >= known for seen, known in committed)


async def test_places_are_held_by_name_and_a_name_is_forgotten_with_the_last_who_wants_it() -> None:
    places, held = Places(2), []

    async def hold(name: str, until: asyncio.Event) -> None:
        async with places.one(name):
            held.append(name)
            await until.wait()

    first, second = asyncio.Event(), asyncio.Event()
    tasks = [asyncio.ensure_future(hold("slow", first)) for _ in range(3)]
    tasks.append(asyncio.ensure_future(hold("quick", second)))
    await asyncio.sleep(0)
    assert sorted(held) == ["quick", "slow", "slow"]
    tasks[2].cancel()
    second.set()
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert len(places) == 1
    first.set()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert (len(places), sorted(held)) == (0, ["quick", "slow", "slow"])
