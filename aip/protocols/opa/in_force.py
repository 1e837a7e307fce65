"""The policy in force in AIP_HOME, for a server of OPA's API: what it begins with, and what comes into force later.

Where none was ever brought into force it is the one that ships. Looked at once a second (one `stat`); what is new is read and
verified in a thread, and the server changes to it in one step. The API asks the fast engine, so it serves a policy only under a
certificate that covers it (`governance/policy/certify.py`), as a cell does.

Guaranteed: a policy that is no longer in force is not answered with for longer than it takes to look and to read. Whatever stands
in the way of the next one (no certificate, a signature that does not verify, data of clients where it has its own) ends `follow`
with that error, and who runs the server ends it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from functools import partial
from pathlib import Path

from ...governance.policy import bundle as bundles
from ...governance.policy import rollout, store
from ...governance.policy.bundle import Bundle
from ...governance.policy.engine import BundleRejected
from ...governance.policy.regocpp_engine import reference_name
from ...governance.policy.regorus_engine import RegorusEngine
from ...settings import Home
from .desk import Desk
from .server import Server

LOOK_EVERY_S = 1.0  # Cells look ten times as often: they hold the road. A client's answer names its revision.


class InForce:
    """`server` is what `app` makes its server with; `follow` is a task beside it."""

    def __init__(self, home: Home, labels: Mapping[str, str]) -> None:
        self._home = home
        self._labels = labels
        self._stamp = self._stamped()
        self.bundle = self._read()

    def server(self) -> Server:
        return Server(self.bundle, self._labels)

    async def follow(self, desk: Desk) -> None:
        """Until it is cancelled. Raises what kept the next policy from being served."""
        while True:
            await asyncio.sleep(LOOK_EVERY_S)
            stamp = self._stamped()
            if stamp != self._stamp:
                found = await asyncio.to_thread(self._read)
                await desk.ask(partial(Server.activate, bundle=found))
                self.bundle, self._stamp = found, stamp

    def _read(self) -> Bundle:
        place = rollout.folder(self._home)
        version = store.load(place).active
        if version is None:
            found, certificate = bundles.read(rollout.shipped()), rollout.certificate_of(rollout.shipped())
        else:
            found, certificate = store.get(place, version, rollout.trusted(self._home))
        if certificate is None or not certificate.covers(found, RegorusEngine().name, reference_name()):
            raise BundleRejected(
                f"{found.revision} is not certified for the fast engine, which OPA's API asks",
                hint="`aip policy check` says why; `aip policy reload` compares the engines again",
            )
        return found

    def _stamped(self) -> tuple[int, int] | None:
        return _stamp_of(rollout.folder(self._home) / store.VERSIONS)


def _stamp_of(path: Path) -> tuple[int, int] | None:
    try:
        found = path.stat()
    except FileNotFoundError:
        return None
    return found.st_mtime_ns, found.st_ino
