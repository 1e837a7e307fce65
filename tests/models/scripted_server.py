"""An OpenAI-compatible endpoint on loopback that does what a script says: real HTTP, in a thread of its own.

    with scripted(Say("hello"), Status(429, {"retry-after": "0"}), Say("again")) as server:
        ...                       # server.url, server.requests, server.closed_early

Each request takes the next entry of the script; a script that has run out repeats its last entry. An entry is what the endpoint
does with the connection, written down as a value.
"""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

USAGE = {"prompt_tokens": 12, "completion_tokens": 5, "total_tokens": 17}
STALL_S_MAX = 10.0  # Longer than any time-out of the tests; a forgotten stall must not hold the suite.


@dataclass(frozen=True)
class Say:
    """An answer; streamed, a word at a time, where the request asks for it."""

    text: str | None = None
    calls: tuple[tuple[str, Any], ...] = ()  # (name, arguments), arguments as text or as a value.
    usage: dict[str, Any] | None = field(default_factory=lambda: dict(USAGE))
    finish: str = ""
    after_s: float = 0.0


@dataclass(frozen=True)
class Status:
    """An error answer."""

    status: int
    headers: dict[str, str] = field(default_factory=dict)
    message: str = "no"


@dataclass(frozen=True)
class Raw:
    """Bytes as they are, under status 200; then the connection is closed."""

    body: bytes
    type: str = "application/json"


@dataclass(frozen=True)
class Half:
    """A stream that breaks off after some words."""

    text: str


@dataclass(frozen=True)
class Stall:
    """Takes the request and says nothing, or stops after some words of a stream."""

    text: str = ""


@dataclass(frozen=True)
class Drop:
    """Closes the connection without a word."""


Entry = Say | Status | Raw | Half | Stall | Drop
Script = Entry | Callable[[dict[str, Any]], Entry]


class Server:
    def __init__(self, script: list[Script]) -> None:
        self._script = script
        self._lock = threading.Lock()
        self.requests: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.at_once_most = 0
        self._at_once = 0
        self.closed_early = threading.Event()  # A client went away while it was being answered.
        self.ending = threading.Event()
        self.http = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self.http.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.http.server_address[1]}/v1"

    def next(self, body: dict[str, Any], headers: dict[str, str]) -> Entry:
        with self._lock:
            entry = self._script[min(len(self.requests), len(self._script) - 1)]
            self.requests.append(body)
            self.headers.append(headers)
        return entry(body) if callable(entry) else entry

    @contextmanager
    def counted(self) -> Iterator[None]:
        with self._lock:
            self._at_once += 1
            self.at_once_most = max(self.at_once_most, self._at_once)
        try:
            yield
        finally:
            with self._lock:
                self._at_once -= 1


def _handler(server: Server) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["content-length"])))
            entry = server.next(body, {name.lower(): value for name, value in self.headers.items()})
            with server.counted():
                self._do(entry, bool(body.get("stream")))

        def _do(self, entry: Entry, streamed: bool) -> None:
            match entry:
                case Say():
                    time.sleep(entry.after_s)
                    if streamed:
                        self._stream(list(_chunks(entry)))
                    else:
                        self._reply(200, json.dumps(_completion(entry)).encode())
                case Status():
                    error = {"error": {"message": entry.message, "type": "scripted", "code": None}}
                    self._reply(entry.status, json.dumps(error).encode(), entry.headers)
                case Raw():
                    self._reply(200, entry.body, {"content-type": entry.type})
                case Half():
                    self._stream([_chunk({"content": word}) for word in _words(entry.text)], done=False)
                case Stall():
                    if entry.text:
                        self._stream(
                            [_chunk({"content": word}) for word in _words(entry.text)], done=False, end=False
                        )
                    self._wait_for_the_client_to_go()
                case Drop():
                    self.close_connection = True
                    self.connection.shutdown(socket.SHUT_RDWR)

        def _reply(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
            self.send_response(status)
            for name, value in {"content-type": "application/json", **(headers or {})}.items():
                self.send_header(name, value)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def _stream(self, chunks: list[dict[str, Any]], *, done: bool = True, end: bool = True) -> None:
            self.send_response(200)
            self.send_header("content-type", "text/event-stream")
            self.send_header("connection", "close")
            self.end_headers()
            self.close_connection = True
            for chunk in chunks:
                self.wfile.write(f"data: {json.dumps(chunk)}\n\n".encode())
            if done:
                self.wfile.write(b"data: [DONE]\n\n")
            if end:
                self.wfile.flush()

        def _wait_for_the_client_to_go(self) -> None:
            self.close_connection = True
            self.connection.settimeout(0.02)
            until = time.monotonic() + STALL_S_MAX
            while time.monotonic() < until and not server.ending.is_set():
                try:
                    if self.connection.recv(1) == b"":
                        server.closed_early.set()
                        return
                except TimeoutError:
                    continue
                except OSError:
                    server.closed_early.set()
                    return

        def log_message(self, format: str, *args: Any) -> None:
            """A test's output is not an access log."""

    return Handler


def _words(text: str) -> list[str]:
    return [word for word in text.replace(" ", " \0").split("\0") if word]


def _tool_calls(entry: Say) -> list[dict[str, Any]]:
    return [
        {
            "id": f"call-{index}",
            "type": "function",
            "function": {"name": name, "arguments": given if isinstance(given, str) else json.dumps(given)},
        }
        for index, (name, given) in enumerate(entry.calls)
    ]


def _finish(entry: Say) -> str:
    return entry.finish or ("tool_calls" if entry.calls else "stop")


def _completion(entry: Say) -> dict[str, Any]:
    message: dict[str, Any] = {"role": "assistant", "content": entry.text}
    if entry.calls:
        message["tool_calls"] = _tool_calls(entry)
    answer = {
        "id": "chat-1",
        "object": "chat.completion",
        "choices": [{"index": 0, "message": message, "finish_reason": _finish(entry)}],
    }
    return answer if entry.usage is None else {**answer, "usage": entry.usage}


def _chunk(delta: dict[str, Any], finish: str | None = None) -> dict[str, Any]:
    return {
        "id": "chat-1",
        "object": "chat.completion.chunk",
        "choices": [{"index": 0, "delta": delta, "finish_reason": finish}],
    }


def _chunks(entry: Say) -> Iterator[dict[str, Any]]:
    for word in _words(entry.text or ""):
        yield _chunk({"content": word})
    for index, call in enumerate(_tool_calls(entry)):
        # As endpoints do: the name first, then the arguments in pieces.
        text = call["function"]["arguments"]
        head = {**call, "index": index, "function": {"name": call["function"]["name"], "arguments": ""}}
        yield _chunk({"tool_calls": [head]})
        for piece in (text[: len(text) // 2], text[len(text) // 2 :]):
            yield _chunk({"tool_calls": [{"index": index, "function": {"arguments": piece}}]})
    yield _chunk({}, _finish(entry))
    if entry.usage is not None:
        yield {"id": "chat-1", "object": "chat.completion.chunk", "choices": [], "usage": entry.usage}


@contextmanager
def scripted(*script: Script) -> Iterator[Server]:
    server = Server(list(script))
    thread = threading.Thread(target=lambda: server.http.serve_forever(poll_interval=0.01), daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.ending.set()
        server.http.shutdown()
        server.http.server_close()
        thread.join()
