"""Sandboxed agents (`isolation: container`): untrusted code in a process that holds nothing and reaches nobody but its parent."""

from .inspection import inspect_sandboxed
from .limits import SandboxLimits
from .means import DEFAULT, FLOOR, Demand, Mean, Means, MeansMissing
from .probe import probe
from .process import SandboxLost
from .sandbox import Sandbox

__all__ = [
    "DEFAULT",
    "FLOOR",
    "Demand",
    "Mean",
    "Means",
    "MeansMissing",
    "Sandbox",
    "SandboxLimits",
    "SandboxLost",
    "inspect_sandboxed",
    "probe",
]
