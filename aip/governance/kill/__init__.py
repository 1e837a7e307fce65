"""The kill switch: orders on a fence that every guard reads (docs/semantics.md, Kill)."""

from .check import KillCheck
from .fence import Fence
from .ladder import ENDING, LADDER, Conduct, Fate, Level
from .orders import KillOrder, KillOrders
from .target import DRILL, PLATFORM, check_target

__all__ = [
    "DRILL",
    "ENDING",
    "LADDER",
    "PLATFORM",
    "Conduct",
    "Fate",
    "Fence",
    "KillCheck",
    "KillOrder",
    "KillOrders",
    "Level",
    "check_target",
]
