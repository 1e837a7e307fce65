"""The threads of a graph, kept in its agent's checkpoint: what LangGraph knows of a run survives the death of its cell.

LangGraph writes a checkpoint after each of its steps, and the writes of the nodes of a step as they end. Each of them is one
checkpoint of the agent, so it is in the journal before the graph goes on (docs/semantics.md, A5), and a cell that lost the agent
meanwhile is refused (A3).

Kept is the latest checkpoint of each thread and namespace, with its writes: enough to go on, not enough to travel back in time.
The threads that were used last are kept, within the two limits below; what a subgraph had written goes when the step of its
parent is over. `DeltaChannel`s need the whole chain of checkpoints: a graph with them wants a checkpointer of its own.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Any

from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import (
    WRITES_IDX_MAP,
    BaseCheckpointSaver,
    ChannelVersions,
    Checkpoint,
    CheckpointMetadata,
    CheckpointTuple,
    get_checkpoint_metadata,
)

THREADS_MAX = 64  # Each checkpoint of the agent carries all of them.
BYTES_MAX = (
    4 * 2**20
)  # The same; a checkpoint may have 16 MiB, and the thread at work is kept whatever its size.
STATE_VERSION = 1

Record = dict[
    str, Any
]  # id, parent, attempt; checkpoint and metadata as (type, bytes); writes by "task/index".
Namespaces = dict[str, Record]


class Threads:
    """What is kept, the thread used last at the end."""

    def __init__(self, state: Any = None) -> None:
        self._threads: OrderedDict[str, Namespaces] = OrderedDict()
        if isinstance(state, dict) and state.get("version") == STATE_VERSION:
            self._threads.update(state["threads"])

    def of(self, thread: str) -> Namespaces:
        """The namespaces of a thread, which is the one at work from here on."""
        found = self._threads.setdefault(thread, {})
        self._threads.move_to_end(thread)
        return found

    def attempt(self, thread: str) -> str:
        """On behalf of which piece of work this thread was written last, or ""."""
        root: Record = self._threads.get(thread, {}).get("", {})
        return str(root.get("attempt", ""))

    def drop(self, thread: str) -> None:
        self._threads.pop(thread, None)

    def to_state(self) -> dict[str, Any]:
        size = sum(map(_size, self._threads.values()))
        while len(self._threads) > 1 and (len(self._threads) > THREADS_MAX or size > BYTES_MAX):
            size -= _size(self._threads.popitem(last=False)[1])
        return {"version": STATE_VERSION, "threads": dict(self._threads)}


def _size(namespaces: Namespaces) -> int:
    return sum(
        len(record["checkpoint"][1])
        + len(record["metadata"][1])
        + sum(len(write[2][1]) for write in record["writes"].values())
        for record in namespaces.values()
    )


class ThreadSaver(BaseCheckpointSaver[str]):
    """LangGraph's checkpointer over `Threads`. `save` makes the agent's checkpoint, `attempt` is the piece of work at hand."""

    def __init__(self, threads: Threads, attempt: str, save: Callable[[Any], Awaitable[None]]) -> None:
        super().__init__()
        self._threads = threads
        self._attempt = attempt
        self._save = save

    async def aget_tuple(self, config: RunnableConfig) -> CheckpointTuple | None:
        where = config["configurable"]
        namespace = where.get("checkpoint_ns", "")
        record = self._threads.of(where["thread_id"]).get(namespace)
        if record is None or where.get("checkpoint_id") not in (None, record["id"]):
            return None
        return CheckpointTuple(
            config=_config(where["thread_id"], namespace, record["id"]),
            checkpoint=self.serde.loads_typed(tuple(record["checkpoint"])),
            metadata=self.serde.loads_typed(tuple(record["metadata"])),
            parent_config=_config(where["thread_id"], namespace, record["parent"])
            if record["parent"]
            else None,
            pending_writes=[
                (task, channel, self.serde.loads_typed(tuple(value)))
                for task, channel, value, _ in record["writes"].values()
            ],
        )

    async def alist(
        self,
        config: RunnableConfig | None,
        *,
        filter: dict[str, Any] | None = None,
        before: RunnableConfig | None = None,
        limit: int | None = None,
    ) -> AsyncIterator[CheckpointTuple]:
        """The latest, which is all there is."""
        found = None if config is None or before is not None else await self.aget_tuple(config)
        if found is not None and (limit is None or limit > 0):
            known: Any = found.metadata
            if all(known.get(name) == value for name, value in (filter or {}).items()):
                yield found

    async def aput(
        self,
        config: RunnableConfig,
        checkpoint: Checkpoint,
        metadata: CheckpointMetadata,
        new_versions: ChannelVersions,
    ) -> RunnableConfig:
        where = config["configurable"]
        thread, namespace = where["thread_id"], where.get("checkpoint_ns", "")
        namespaces = self._threads.of(thread)
        if not namespace:
            # A step of the graph is over, and so are the subgraphs that worked in it: their namespaces name their task.
            for ended in [name for name in namespaces if ":" in name]:
                del namespaces[ended]
        namespaces[namespace] = {
            "id": checkpoint["id"],
            "parent": where.get("checkpoint_id"),
            "attempt": self._attempt,
            "checkpoint": self.serde.dumps_typed(checkpoint),
            "metadata": self.serde.dumps_typed(get_checkpoint_metadata(config, metadata)),
            "writes": {},
        }
        await self._save(self._threads.to_state())
        return _config(thread, namespace, checkpoint["id"])

    async def aput_writes(
        self, config: RunnableConfig, writes: Sequence[tuple[str, Any]], task_id: str, task_path: str = ""
    ) -> None:
        where = config["configurable"]
        record = self._threads.of(where["thread_id"]).get(where.get("checkpoint_ns", ""))
        if record is None or record["id"] != where["checkpoint_id"]:
            return  # Of a step that is over: its checkpoint holds them already.
        record["attempt"] = self._attempt
        for position, (channel, value) in enumerate(writes):
            index = WRITES_IDX_MAP.get(channel, position)
            key = f"{task_id}/{index}"
            if index < 0 or key not in record["writes"]:
                record["writes"][key] = (task_id, channel, self.serde.dumps_typed(value), task_path)
        await self._save(self._threads.to_state())

    async def adelete_thread(self, thread_id: str) -> None:
        self._threads.drop(thread_id)
        await self._save(self._threads.to_state())

    def get_next_version(self, current: str | None, channel: None) -> str:
        """Sorts as it grows, and is never taken for that of another writer."""
        return f"{int((current or '0').partition('.')[0]) + 1:032}"


def _config(thread: str, namespace: str, checkpoint: str) -> RunnableConfig:
    where = {"thread_id": thread, "checkpoint_ns": namespace, "checkpoint_id": checkpoint}
    return {"configurable": where}
