"""Where the example lies, and what it is asked."""

from __future__ import annotations

from pathlib import Path

EXAMPLE = Path(__file__).parents[3] / "examples" / "research-review"
DOCUMENTS = EXAMPLE / "documents"
QUESTION = "How was longitude found at sea?"
TORN = "torn-page.txt"
