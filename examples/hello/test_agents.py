"""The agents without a platform: the same road in one process, no Ray. Run it:  python -m pytest"""

import asyncio

from agents import Greeter, Guestbook

import aip.testing


async def greeted() -> None:
    async with aip.testing.platform(Greeter, Guestbook) as p:
        assert await p.call("greeter/any", "greet", name="Ada") == "hello, Ada"


async def signed_twice() -> None:
    async with aip.testing.platform(Guestbook) as p:
        assert await p.call("guestbook/lobby", "sign", lines=["Ada", "Grace"]) == 2
        assert await p.call("guestbook/lobby", "sign", lines=["Alan"]) == 3


def test_a_greeter_greets() -> None:
    asyncio.run(greeted())


def test_a_guestbook_keeps_what_was_written() -> None:
    asyncio.run(signed_twice())
