"""What every process of ours does in order: restore, open the door, and only then begin."""

from __future__ import annotations

import tempfile
from pathlib import Path

from actors.process import Process
from actors.site import Site
from aip.governance.kill import Fence


class Probe(Process):
    async def opened(self) -> None:
        self.door_at_restore = self.peers.socket(self.name).exists()

    def begin(self) -> None:
        self.door_at_begin = self.peers.socket(self.name).exists()


async def test_nobody_sends_before_an_answer_could_reach_it(tmp_path: Path) -> None:
    with tempfile.TemporaryDirectory() as sockets:  # A socket's path must be short.
        site = Site("p", str(tmp_path), sockets)
        site.home.make()
        site.health.mkdir(parents=True, exist_ok=True)
        Fence(site.fence)
        probe = Probe(site, "audit", 1)
        await probe.open()
        assert not probe.door_at_restore
        assert probe.door_at_begin
        await probe.endpoint.close()
