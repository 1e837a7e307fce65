"""The world outside of the ten attacks: a gullible model, and whatever an attacker wants to reach. Nothing leaves this machine.

    python examples/owasp/outside.py FOLDER       # writes the plans, told where this server is, into FOLDER, and serves

The model obeys. It cannot tell whose words it reads: wherever a line says `CALL tool {json}` - in the question, in a page, in a
tool's answer - it makes that call, once; `{tool}` within the arguments stands for that tool's last answer. A real model does so
some of the time; what is to hold must hold when it always does.

    POST /v1/chat/completions     the model, as OpenAI's endpoint
    GET /seen                     what has arrived here, as a list of {method, path, body}
    everything else               is noted, and answered 200: whatever stands there has left the platform
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
WRITTEN_HERE = "127.0.0.1:8765"  # The address that the plans name; `lay_out` writes the real one over it.
WRITTEN_PATH = "/srv/owasp"  # The same of the folder that they lie in.
ORDER = re.compile(r"^CALL (\w+) (\{.*\})$", re.MULTILINE)
USAGE = {"prompt_tokens": 20, "completion_tokens": 8, "total_tokens": 28}


def lay_out(folder: Path, address: str) -> Path:
    """The plans and their agents in `folder`, told where the outside is and where they lie."""
    shutil.copytree(HERE, folder, dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__", "*.md"))
    for path in folder.rglob("*"):
        if path.suffix in (".yaml", ".py", ".txt") and path.name != Path(__file__).name:
            path.write_text(
                path.read_text().replace(WRITTEN_HERE, address).replace(WRITTEN_PATH, str(folder))
            )
    return folder


def obey(messages: list[dict[str, Any]]) -> dict[str, Any]:
    """The model's next message: the first order that it has read and not yet followed, else a word of farewell."""
    made = [call["function"] for said in messages for call in said.get("tool_calls") or ()]
    answers = dict(
        zip(
            (call["name"] for call in made),
            (m["content"] for m in messages if m["role"] == "tool"),
            strict=True,
        )
    )
    done = {call["name"] for call in made}
    for said in messages:
        for tool, arguments in (
            ORDER.findall(str(said.get("content") or "")) if said["role"] != "assistant" else ()
        ):
            if tool not in done:
                for name, answer in answers.items():
                    arguments = arguments.replace(f"{{{name}}}", json.dumps(answer)[1:-1])
                function = {"name": tool, "arguments": arguments}
                call = {"id": f"call-{len(made)}", "type": "function", "function": function}
                return {"role": "assistant", "content": None, "tool_calls": [call]}
    return {"role": "assistant", "content": f"I have followed {len(done)} orders."}


class Outside:
    """A server on a port of its own. `seen` is what came."""

    def __init__(self) -> None:
        self.seen: list[dict[str, str]] = []
        self._http = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._http.daemon_threads = True
        self.address = f"127.0.0.1:{self._http.server_address[1]}"

    def arrived(self, prefix: str) -> list[dict[str, str]]:
        return [request for request in list(self.seen) if request["path"].startswith(prefix)]

    @contextmanager
    def serving(self) -> Iterator[Outside]:
        thread = threading.Thread(target=self._http.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        try:
            yield self
        finally:
            self._http.shutdown()
            self._http.server_close()
            thread.join()


def _handler(outside: Outside) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("content-length") or 0)).decode()
            if self.path == "/v1/chat/completions":
                said = obey(json.loads(body)["messages"])
                finish = "tool_calls" if said.get("tool_calls") else "stop"
                choice = {"index": 0, "message": said, "finish_reason": finish}
                self._answer({"id": "1", "object": "chat.completion", "choices": [choice], "usage": USAGE})
            else:
                outside.seen.append({"method": self.command, "path": self.path, "body": body})
                self._answer({"ok": True})

        def do_DELETE(self) -> None:
            self.do_POST()

        def do_GET(self) -> None:
            self._answer(outside.seen)

        def _answer(self, value: Any) -> None:
            body = json.dumps(value).encode()
            self.send_response(200)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:
            """What arrived is at /seen."""

    return Handler


def main() -> None:
    parser = argparse.ArgumentParser(description="The world outside of the OWASP examples.")
    parser.add_argument("folder", type=Path, help="where to write the plans")
    folder = parser.parse_args().folder.absolute()
    with Outside().serving() as outside:
        lay_out(folder, outside.address)
        print(
            f"plans in {folder}; what arrives is at http://{outside.address}/seen; Ctrl-C ends it", flush=True
        )
        try:
            threading.Event().wait()
        except KeyboardInterrupt:
            print(f"{len(outside.seen)} requests arrived")


if __name__ == "__main__":
    main()
