"""`aip submit --chaos SEED`: kill -9 on a cell and on the run's own process while it works, once each, in the open.

For whoever wants to see that a run survives: the result is the same as undisturbed. The seed draws the order and the moments.
Nothing is touched but this run's process and one cell of its code. A run that ends before there is anything to kill is
left in peace, and told so.
"""

from __future__ import annotations

import contextlib
import os
import random
import signal
import threading
from collections.abc import Iterator

from actors.run_spec import read_spec

from ..errors import AIPError
from .contract import Json, Platform
from .session import Session

QUIET_S = (
    0.1,
    0.8,
)  # Before each blow: early enough for a short run, late enough that something is in flight.
LOOK_EVERY_S = 0.05


class Chaos:
    """One thread beside the one that watches the run. `with Chaos(...)` waits for it at the end."""

    def __init__(self, session: Session, platform: Platform, run_id: str, seed: int) -> None:
        self._session, self._platform, self._run = session, platform, run_id
        self._rng = random.Random(seed)
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._strike, name="chaos", daemon=True)

    def __enter__(self) -> Chaos:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _strike(self) -> None:
        victims = self._victims()
        self._rng.shuffle(victims)
        for name, pid in victims:
            self._over.wait(self._rng.uniform(*QUIET_S))
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
                self._session.say(f"chaos: killed {name} (process {pid})")
        if not victims:
            self._session.say("chaos: the run ended before anything was killed")

    def _victims(self) -> list[tuple[str, int]]:
        """The run's process and a cell of its agents' code, as soon as both are there; none if the run ends first."""
        own = f"run-{self._run}"
        pools = [use.spec.pool for use in read_spec(self._session.folder, self._run).pools]
        while not self._over.wait(LOOK_EVERY_S):
            with contextlib.suppress(AIPError):  # The root may be busy bringing something else back.
                pids = dict(_processes(self._platform.status()["tree"]))
                cells = sorted(name for pool in pools for name in pids if name.startswith(f"cell-{pool}-"))
                if cells and own in pids:
                    cell = self._rng.choice(cells)
                    return [(cell, pids[cell]), (own, pids[own])]
        return []


def _processes(node: Json) -> Iterator[tuple[str, int]]:
    if node["pid"]:
        yield node["name"], node["pid"]
    for child in node["children"]:
        yield from _processes(child)
