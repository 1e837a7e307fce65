"""One chat from its request to its answer: attempts, pauses and money, against senders that do what a list says."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aip.errors import AIPError, BudgetExceeded
from aip.models import meter
from aip.models.chat import Answer, Request
from aip.models.exchange import CallLimitReached, Exchange, Line
from aip.models.failure import (
    CutOff,
    Garbage,
    ModelFailed,
    RateLimited,
    Rejected,
    Unpriced,
    Unreachable,
    Unstructured,
)
from aip.models.retry import PAUSE_S_MAX
from aip.models.spec import ModelConfig

ASKED = Request(({"role": "user", "content": "hello"},))
NUMBER = Request(ASKED.messages, schema={"type": "integer"})


def answer(text: str = "hi", prompt: int = 10, output: int = 5, **more: Any) -> Answer:
    return Answer(
        text, (), more.pop("finish", "stop"), {"prompt_tokens": prompt, "completion_tokens": output}
    )


class Account:
    """An account with a limit, as `Context.reserve` keeps it: what is not settled is spent."""

    def __init__(self, **limits: int) -> None:
        self.limits = limits
        self.spent: dict[str, int] = {}
        self.held: dict[str, int] = {}
        self.held_most: dict[str, int] = {}

    def reserve(self, **amounts: int) -> Hold:
        return Hold(self, amounts)


class Hold:
    def __init__(self, account: Account, amounts: dict[str, int]) -> None:
        self.account, self.amounts, self.settled = account, amounts, amounts

    def settle(self, **spent: int) -> None:
        self.settled = spent

    async def __aenter__(self) -> Hold:
        account = self.account
        for unit, amount in self.amounts.items():
            left = account.limits.get(unit, 10**18) - account.spent.get(unit, 0) - account.held.get(unit, 0)
            if amount > left:
                raise BudgetExceeded(f"{left} {unit} left", unit=unit)
        for unit, amount in self.amounts.items():
            account.held[unit] = account.held.get(unit, 0) + amount
            account.held_most[unit] = max(account.held_most.get(unit, 0), account.held[unit])
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        for unit, amount in self.amounts.items():
            self.account.held[unit] -= amount
            self.account.spent[unit] = self.account.spent.get(unit, 0) + self.settled[unit]


@dataclass
class Script:
    """A sender whose n-th attempt ends as the n-th entry says; the last one again and again."""

    outcomes: Sequence[Answer | Exception]
    asked: list[Request] = field(default_factory=list)
    at_once: int = 0
    at_once_most: int = 0

    async def send(self, request: Request, timeout_s: float) -> Answer:
        outcome = self.outcomes[min(len(self.asked), len(self.outcomes) - 1)]
        self.asked.append(request)
        self.at_once += 1
        self.at_once_most = max(self.at_once_most, self.at_once)
        try:
            await asyncio.sleep(0)
        finally:
            self.at_once -= 1
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    async def stream(self, request: Request, timeout_s: float) -> AsyncGenerator[str | Answer, None]:
        whole = await self.send(request, timeout_s)
        for word in whole.text.split():
            yield word
        yield whole


class Stage:
    """A line with a script behind it and an account before it; pauses are noted, not slept."""

    def __init__(self, *outcomes: Answer | Exception, account: Account | None = None, **config: Any) -> None:
        given = {
            "base_url": "http://localhost/v1",
            "model": "m",
            "prices": {"input": 10**6, "output": 2 * 10**6},
        }
        self.config = ModelConfig.model_validate({**given, "max_output_tokens": 50, "retries": 2, **config})
        self.script = Script(outcomes)
        self.account = account or Account()
        self.pauses: list[float] = []
        self.left_s = 100.0
        slots = asyncio.Semaphore(self.config.concurrency)
        self.line = Line(self.script, self.config, slots, random.Random(7), sleep=self._sleep)

    async def _sleep(self, seconds: float) -> None:
        self.pauses.append(seconds)
        self.left_s -= seconds

    def exchange(self, **limit: int) -> Exchange:
        return Exchange(self.line, self.account.reserve, lambda: self.left_s, limit)

    def bound(self, request: Request = ASKED) -> meter.Bound:
        return meter.bound(request, self.config)


async def test_what_a_call_used_is_charged_and_the_rest_is_free_again() -> None:
    stage = Stage(answer(prompt=10, output=5))
    told = await stage.exchange().chat(ASKED)
    assert told["usage"]["usd_micro"] == 20
    assert stage.account.spent == {"tokens": 15, "usd_micro": 20}
    assert stage.account.held_most == {"tokens": stage.bound().tokens, "usd_micro": stage.bound().usd_micro}
    assert stage.account.held == {"tokens": 0, "usd_micro": 0}


async def test_without_room_for_the_bound_nothing_is_sent() -> None:
    stage = Stage(answer(), account=Account(tokens=100))
    with pytest.raises(BudgetExceeded):
        await stage.exchange().chat(ASKED)
    assert stage.script.asked == []
    assert stage.account.spent == {}


FREE = [RateLimited("later"), Unreachable("502"), Rejected("no", status=401)]
PAID = [CutOff("silence"), Garbage("<html>"), Unreachable("broke off", cost_unknown=True)]


@pytest.mark.parametrize("error", FREE, ids=lambda error: error.code)
async def test_a_failure_that_endpoints_do_not_charge_for_costs_nothing(error: ModelFailed) -> None:
    stage = Stage(error, retries=0)
    with pytest.raises(type(error)):
        await stage.exchange().chat(ASKED)
    assert stage.account.spent == {"tokens": 0, "usd_micro": 0}


@pytest.mark.parametrize("error", PAID, ids=lambda error: error.code)
async def test_a_failure_whose_cost_nobody_knows_costs_the_bound_each_time(error: ModelFailed) -> None:
    stage = Stage(error, error, answer(prompt=10, output=5))
    told = await stage.exchange().chat(ASKED)
    assert stage.account.spent["tokens"] == 2 * stage.bound().tokens + 15
    assert told["usage"]["tokens"] == stage.account.spent["tokens"]
    assert told["usage"]["usd_micro"] == stage.account.spent["usd_micro"]
    assert told["usage"]["requests"] == 3


async def test_retries_end_with_their_number_and_say_how_many_there_were() -> None:
    stage = Stage(Unreachable("502"), retries=3)
    with pytest.raises(Unreachable) as caught:
        await stage.exchange().chat(ASKED)
    assert len(stage.script.asked) == 4
    assert caught.value.details["attempts"] == 4


async def test_a_pause_is_as_long_as_the_endpoint_says() -> None:
    stage = Stage(RateLimited("later", after_s=7.0), answer())
    await stage.exchange().chat(ASKED)
    assert 7.0 <= stage.pauses[0] <= 7.7


@pytest.mark.parametrize(("after_s", "left_s"), [(7.0, 5.0), (PAUSE_S_MAX + 1, 10_000.0)])
async def test_nobody_waits_for_an_attempt_that_would_come_too_late(after_s: float, left_s: float) -> None:
    stage = Stage(RateLimited("later", after_s=after_s), answer())
    stage.left_s = left_s
    with pytest.raises(RateLimited):
        await stage.exchange().chat(ASKED)
    assert stage.pauses == []


async def test_what_the_request_itself_got_wrong_is_not_tried_again() -> None:
    stage = Stage(Rejected("bad key", status=401), answer())
    with pytest.raises(Rejected):
        await stage.exchange().chat(ASKED)
    assert len(stage.script.asked) == 1


async def test_a_cancelled_call_counts_in_full_because_nobody_knows_its_cost() -> None:
    stage = Stage(answer())
    stage.script.send = lambda request, timeout_s: asyncio.sleep(3600)  # type: ignore[method-assign,assignment,return-value]
    task = asyncio.create_task(stage.exchange().chat(ASKED))
    for _ in range(5):
        await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert stage.account.spent["tokens"] == stage.bound().tokens


async def test_no_more_requests_at_once_than_the_model_allows_and_no_money_held_in_line() -> None:
    stage = Stage(answer(), concurrency=3)
    await asyncio.gather(*(stage.exchange().chat(ASKED) for _ in range(20)))
    assert stage.script.at_once_most == 3
    assert stage.account.held_most["tokens"] == 3 * stage.bound().tokens


# Money that nobody can count ------------------------------------------------------------------------------------------


async def test_a_model_without_a_price_is_refused_under_a_budget_of_money() -> None:
    stage = Stage(answer(), account=Account(usd_micro=10**9), prices=None)
    with pytest.raises(Unpriced, match="no price"):
        await stage.exchange().chat(ASKED)
    assert stage.script.asked == []
    assert not any(stage.account.spent.values())


async def test_a_model_without_a_price_works_where_only_tokens_are_counted() -> None:
    stage = Stage(answer(prompt=10, output=5), account=Account(tokens=10_000), prices=None)
    await stage.exchange().chat(ASKED)
    assert stage.account.spent == {"usd_micro": 0, "tokens": 15}


async def test_a_model_without_a_price_is_refused_where_the_call_limits_money() -> None:
    with pytest.raises(Unpriced):
        await Stage(answer(), prices=None).exchange(usd_micro=10**9).chat(ASKED)


async def test_a_callers_own_limit_holds_over_all_attempts() -> None:
    stage = Stage(CutOff("silence"), answer())
    with pytest.raises(CallLimitReached) as caught:
        await stage.exchange(tokens=stage.bound().tokens + 10).chat(ASKED)
    assert len(stage.script.asked) == 1
    assert caught.value.details["spent"] == stage.bound().tokens


# Structure ------------------------------------------------------------------------------------------------------------


async def test_an_answer_that_does_not_fit_is_repaired_once() -> None:
    stage = Stage(answer("it is seven"), answer("7"))
    told = await stage.exchange().chat(NUMBER)
    assert told["parsed"] == 7
    repair = stage.script.asked[1].messages
    assert repair[-3] == {"role": "assistant", "content": "it is seven"}
    assert "not JSON" in repair[-2]["content"]
    assert '{"type": "integer"}' in repair[-1]["content"]


async def test_a_second_answer_that_does_not_fit_is_an_error_and_was_paid_for() -> None:
    stage = Stage(answer("seven"), answer("still seven"))
    with pytest.raises(Unstructured) as caught:
        await stage.exchange().chat(NUMBER)
    assert len(stage.script.asked) == 2
    assert caught.value.details["usage"]["tokens"] == stage.account.spent["tokens"] == 30


async def test_an_answer_that_was_cut_is_not_repaired_but_explained() -> None:
    stage = Stage(answer('{"x": ', finish="length"))
    with pytest.raises(Unstructured) as caught:
        await stage.exchange().chat(NUMBER)
    assert "max_output_tokens" in caught.value.hint
    assert len(stage.script.asked) == 1


async def test_an_endpoint_that_does_not_know_schemas_is_asked_in_words_from_then_on() -> None:
    stage = Stage(Rejected("unknown field response_format", status=400), answer("7"))
    assert (await stage.exchange().chat(NUMBER))["parsed"] == 7
    assert [request.schema is None for request in stage.script.asked] == [False, True]
    await stage.exchange().chat(NUMBER)
    assert stage.script.asked[2].schema is None


async def test_a_request_that_is_wrong_in_itself_teaches_nothing_about_schemas() -> None:
    stage = Stage(Rejected("bad", status=400), Rejected("bad", status=400), answer("7"))
    with pytest.raises(Rejected):
        await stage.exchange().chat(NUMBER)
    assert (await stage.exchange().chat(NUMBER))["parsed"] == 7
    assert stage.script.asked[2].schema is not None


# Streams --------------------------------------------------------------------------------------------------------------


async def test_a_stream_gives_its_texts_and_then_the_whole() -> None:
    stage = Stage(RateLimited("later"), answer("one two"))
    parts = [part async for part in stage.exchange().stream(ASKED)]
    assert [part.get("delta") for part in parts] == ["one", "two", None]
    assert parts[-1]["text"] == "one two"
    assert stage.account.spent["tokens"] == 15


async def test_a_stream_that_breaks_off_after_its_first_text_is_not_begun_again() -> None:
    class Breaks(Script):
        async def stream(self, request: Request, timeout_s: float) -> AsyncGenerator[str | Answer, None]:
            self.asked.append(request)
            yield "half"
            raise CutOff("the network")

    stage = Stage(answer())
    stage.line.sender = stage.script = Breaks([])
    parts = []
    with pytest.raises(CutOff):
        async for part in stage.exchange().stream(ASKED):
            parts.append(part)
    assert parts == [{"delta": "half"}]
    assert len(stage.script.asked) == 1
    assert stage.account.spent["tokens"] == stage.bound().tokens


async def test_a_reader_who_leaves_pays_for_what_may_have_been_written() -> None:
    stage = Stage(answer("one two three"))
    stream = stage.exchange().stream(ASKED)
    assert await anext(stream) == {"delta": "one"}
    await stream.aclose()
    assert stage.account.spent["tokens"] == stage.bound().tokens
    assert stage.account.held["tokens"] == 0


# All of it ------------------------------------------------------------------------------------------------------------

outcomes = st.lists(
    st.one_of(
        st.builds(answer, st.just("7"), st.integers(1, 200), st.integers(0, 50)),
        st.sampled_from([*FREE, *PAID]),
    ),
    min_size=1,
    max_size=8,
)


@settings(deadline=None, max_examples=60)
@given(outcomes, st.integers(0, 5_000), st.integers(0, 10_000), st.integers(1, 12), st.integers(1, 4))
def test_whatever_endpoints_do_an_account_is_never_overspent_and_nothing_stays_held(
    ends: list[Answer | Exception], tokens: int, usd_micro: int, callers: int, concurrency: int
) -> None:
    async def story() -> Stage:
        account = Account(tokens=tokens, usd_micro=usd_micro)
        stage = Stage(*ends, account=account, concurrency=concurrency)
        calls = [stage.exchange().chat(ASKED) for _ in range(callers)]
        for result in await asyncio.gather(*calls, return_exceptions=True):
            assert isinstance(result, dict | AIPError)
        return stage

    stage = asyncio.run(story())
    for unit, limit in stage.account.limits.items():
        assert stage.account.spent.get(unit, 0) <= limit
        assert stage.account.held.get(unit, 0) == 0
