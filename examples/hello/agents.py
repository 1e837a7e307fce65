"""The agents of plan.yaml. Try one alone:  aip agents call agents:Greeter.greet -i name=Ada"""

import aip

WORDS = ("hello", "good morning", "welcome", "well met")


class Greeter(aip.Agent):
    """Greets people."""

    @aip.capability
    async def pick_words(self, count: int) -> list[str]:
        """As many greetings as are wanted."""
        return [WORDS[index % len(WORDS)] for index in range(count)]

    @aip.capability
    async def greet(self, ctx: aip.Context, name: str, word: str = "hello") -> str:
        """Greet one person."""
        await ctx.progress(0.5, f"thinking of {name}")
        return f"{word}, {name}"
