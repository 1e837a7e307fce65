"""The agents without a platform: the same road in one process. Run it:  python -m pytest"""

import asyncio

import aip.testing
from agents import Greeter


async def greeted() -> None:
    async with aip.testing.platform(Greeter) as p:
        assert await p.call("greeter/ada", "greet", name="Ada") == "hello, Ada"
        assert await p.call("greeter/ada", "pick_words", count=2) == ["hello", "good morning"]


def test_a_greeter_greets() -> None:
    asyncio.run(greeted())
