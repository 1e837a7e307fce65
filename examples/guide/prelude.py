"""What the architecture guide's single-node snippet leaves open: `agent`, `capabilities` and `plan`.

`run.py` puts these names before the snippet, which it takes out of docs/architecture-guide.md unchanged.
"""

import aip


class Reader(aip.Agent):
    """Counts words."""

    @aip.capability("text.count")
    def count(self, text: str) -> int:
        """How many words a text has."""
        return len(text.split())


agent = Reader
capabilities = ["text.count"]
plan = {
    "tasks": {
        "title": {"capability": "text.count", "with": {"text": "Agent Infrastructure Platform"}},
        "body": {"capability": "text.count", "with": {"text": "every message takes the same road"}},
        "total": {
            "capability": "text.count",
            "with": {"text": "a ${{ tasks.title.output }} b ${{ tasks.body.output }}"},
        },
    },
}
