"""What a conversation of a hundred calls leaves behind on disk: the journal of its run, and what its agent checkpoints."""

from __future__ import annotations

import random
import sys
from pathlib import Path

import pytest
from model_kit import model
from scripted_server import Say, scripted

sys.path.append(str(Path(__file__).parents[1] / "orchestration"))
from run_kit import World, plan, task

from aip.models import LLMAgent
from aip.orchestration import run_inputs as inp
from aip.orchestration.artifact import ArtifactRef
from aip.runtime import codec
from aip.runtime.checkpoint import Record, encode_record
from aip.settings import DEFAULT_LIMITS
from aip.testing import configured, platform

CALLS = 100
MEGABYTE = 10**6
# Words as people write them pack to about a third; a text of random letters would not, and one word again and again far better.
WORDS = sorted(set((Path(__file__).parents[2] / "docs" / "semantics.md").read_text(encoding="utf-8").split()))


def text(rng: random.Random, words: int) -> str:
    return " ".join(rng.choices(WORDS, k=words))


def chain(calls: int) -> World:
    return World(plan(*(task(f"t{n}", *([f"t{n - 1}"] if n else [])) for n in range(calls))))


@pytest.mark.parametrize("answer_bytes", [200, DEFAULT_LIMITS.inline_bytes_max, 50_000])
def test_the_journal_of_a_run_of_a_hundred_calls_stays_under_a_megabyte(answer_bytes: int) -> None:
    """However long the answers are: the largest that stand in the journal are `inline_bytes_max`, others are named by hash."""
    world = chain(CALLS)
    rng = random.Random(1)
    for n in range(CALLS):
        one = world.open.pop(world.asked(f"t{n}").lease)
        data = codec.encode(rng.randbytes(answer_bytes - 3))  # Nothing that could be packed.
        inline = len(data) <= DEFAULT_LIMITS.inline_bytes_max
        value = data if inline else ArtifactRef.of(data)
        world.tell(inp.Succeeded(one.attempt, one.lease, value, {"tokens": 900, "usd_micro": 120}))
    assert world.state == "succeeded"
    journal_bytes = sum(map(len, world.journal))
    print(f"the run's journal has {journal_bytes} bytes")
    assert journal_bytes < MEGABYTE
    if not inline:
        assert journal_bytes < CALLS * 1_000


@pytest.mark.parametrize("bytes_max", [16_384, 1_048_576])
async def test_what_the_agent_checkpoints_in_a_hundred_calls_stays_under_a_megabyte(
    bytes_max: int,
) -> None:
    rng = random.Random(2)
    written: list[int] = []
    with scripted(lambda _: Say(text(rng, 400))) as server:
        memory = {"turns_max": 1_000, "bytes_max": bytes_max}
        thinker = configured(LLMAgent, "thinker", {"model": "writer", "memory": memory})
        async with platform(thinker, model(server)) as p:
            table = p.checkpoints.table
            apply = table.apply

            def counted(record: Record) -> None:
                written.append(len(encode_record(record)))
                apply(record)

            table.apply = counted  # type: ignore[method-assign]
            for _ in range(CALLS):
                await p.call("thinker/a", "ask", prompt=text(rng, 120))
        said = server.requests[-1]["messages"]
    print(f"the checkpoint shard was written {sum(written)} bytes")
    assert len(written) > CALLS
    assert sum(written) < MEGABYTE
    kept = sum(len(message["content"].encode()) for message in said[:-1])
    assert bytes_max / 2 < kept <= bytes_max or kept > 250_000, (
        "the conversation fills its memory, and no more"
    )
