"""An interpreter as an agent. The policy knows its type, and lets it work in a container only."""

import aip


class Untrusted(aip.Agent):
    @aip.capability
    def run(self, code: str) -> str:
        """Run a program; its error, or nothing."""
        try:
            exec(code, {})  # noqa: S102 - what this example is about
        except Exception as error:  # noqa: BLE001 - whatever the program raises is the answer
            return f"{type(error).__name__}: {error}"
        return ""


class Clerk(aip.Agent):
    @aip.capability
    def report(self, state: str) -> str:
        return f"the program {state}"
