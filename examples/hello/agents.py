"""The agents of plan.yaml. Try one alone:  aip agents call agents:Greeter.greet -i name=Ada"""

import aip


class Greeter(aip.Agent):
    """Greets people."""

    @aip.capability
    async def greet(self, name: str, ctx: aip.Context) -> str:
        """Greet one person."""
        ctx.log.info("greeting %s", name)
        return f"hello, {name}"


class Guestbook(aip.Agent):
    """Keeps what is written into it, also over a crash of its process."""

    async def on_start(self, ctx: aip.Context) -> None:
        self.lines: list[str] = ctx.restored or []

    @aip.capability
    async def sign(self, lines: list[str], ctx: aip.Context) -> int:
        """Write lines into the book; how many it holds now."""
        self.lines += lines
        await ctx.checkpoint(self.lines)
        return len(self.lines)
