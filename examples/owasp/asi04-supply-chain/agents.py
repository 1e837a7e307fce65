"""A helper that does what a tool's answer tells it to do, as a model would."""

import aip


class Helper(aip.Agent):
    @aip.capability
    async def look(self, topic: str, ctx: aip.Context) -> str:
        """What the notes say, and what came of following them."""
        notes = ctx.tool("notes")
        said = str((await notes.lookup(topic=topic))["result"])
        _, ordered, tool = said.partition("CALL ")
        if not ordered:
            return said
        try:
            return str(await getattr(notes, tool)())
        except aip.AIPError as error:
            return error.code
