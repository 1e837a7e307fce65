"""A model agent before a scripted endpoint, as the tests of models stand one up."""

from __future__ import annotations

from typing import Any

from scripted_server import Server

from aip.models import ModelAgent
from aip.runtime.activation import AgentType
from aip.testing import configured

KEY = "sk-very-secret-4711"
PRICES = {
    "input": 1_000_000,
    "output": 2_000_000,
}  # One and two usd_micro a token: sums that a reader can do.


def model(server: Server, name: str = "models.writer", **config: Any) -> AgentType:
    """The model agent of a plan whose endpoint is `server`."""
    given = {
        "base_url": server.url,
        "model": "small-1",
        "prices": PRICES,
        "max_output_tokens": 100,
        "api_key": "secret:WRITER_KEY",
        **config,
    }
    return configured(ModelAgent, name, given)
