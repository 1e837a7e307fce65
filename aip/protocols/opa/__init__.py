"""OPA's REST API over AIP's policy engine: whatever speaks to an OPA server can ask AIP instead."""

from .app import app
from .server import Server

__all__ = ["Server", "app"]
