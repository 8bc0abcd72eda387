"""A real ComfyUI, started for as long as a `with` block lasts, and what a prompt run on it gives back."""

from __future__ import annotations

import io
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.parse
import urllib.request
import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import websocket
from PIL import Image

from devtools import host, newest_frontend

TEXT = "guidance_kit.text"  # the message of a text on a node

# Loopback only: a proxy set for the machine must not see these requests.
_OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))


class ServerFailed(RuntimeError):
    """ComfyUI did not start, or is gone; the message ends with the tail of its log."""


class PromptRejected(RuntimeError):
    """ComfyUI refused a prompt, or a part of it, before running it."""

    def __init__(self, error: dict, node_errors: dict):
        self.error, self.node_errors = error, node_errors
        lines = [error.get("message", "ComfyUI refused a part of the prompt.")]
        for node_id, found in node_errors.items():
            for each in found["errors"]:
                lines.append(f"  node {node_id} ({found['class_type']}): {each['message']}: {each['details']}")
        super().__init__("\n".join(lines))


class PromptFailed(RuntimeError):
    """A node raised while the prompt ran."""

    def __init__(self, data: dict):
        self.exception_message = data["exception_message"].strip()
        self.exception_type = data["exception_type"]
        self.node_id, self.node_type = data["node_id"], data["node_type"]
        self.traceback = "".join(data["traceback"])
        super().__init__(f"{self.node_type} (node {self.node_id}): {self.exception_message}\n{self.traceback}")


class PromptInterrupted(RuntimeError):
    """The prompt was interrupted while it ran."""


@dataclass(frozen=True)
class Result:
    """What a finished prompt left behind."""

    server: ComfyServer = field(repr=False)
    outputs: dict[str, dict]
    """The history's outputs: node id -> what its front end shows (`images`, `text`, ...)."""
    messages: list[tuple[str, dict]] = field(repr=False)
    """Websocket messages in order, as (type, data)."""
    texts: dict[str, list[str]]
    """Node id -> the texts it showed, in order."""
    seconds: float

    def images(self, node_id: str | int) -> list[Image.Image]:
        """The pictures that a node put out, read through `/view`."""
        return [self.server.image(place) for place in self.outputs.get(str(node_id), {}).get("images", [])]


class ComfyServer:
    """Starts ComfyUI on 127.0.0.1 (a free port, or `port`) with our pack linked in, and stops it after the block.

    `base` is ComfyUI's base directory (models, input, output, user); without one it is a temporary folder, removed at
    the end. `packs` are further custom node packs; `pack` takes our own pack's place (None leaves it out). `options`
    go to ComfyUI's command line; it runs on the CPU unless `cpu` is False.
    """

    def __init__(
        self,
        base: Path | str | None = None,
        packs: Sequence[Path | str] = (),
        *,
        pack: Path | str | None = host.ROOT,
        options: Sequence[str] = (),
        cpu: bool = True,
        port: int = 0,
        patience: float = 300.0,
    ):
        self._given_base = base
        self._packs = {Path(path).name: Path(path).resolve() for path in packs}
        if pack is not None:
            self._packs[host.PACK_NAME] = Path(pack).resolve()
        self._options = ["--cpu", *options] if cpu else list(options)
        self._port = port
        self._patience = patience
        self._temporary: tempfile.TemporaryDirectory | None = None
        self._process: subprocess.Popen | None = None

    def __enter__(self) -> ComfyServer:
        folder = host.comfyui()
        if self._given_base is None:
            self._temporary = tempfile.TemporaryDirectory(prefix="guidance-kit-", ignore_cleanup_errors=True)
        self.base = Path(self._temporary.name if self._temporary else self._given_base).resolve()
        self.log_file = self.base / "comfyui.log"
        try:
            self._link_packs()
            self._start(folder)
            self._wait_until_ready()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        if self._process is not None:
            self._process.stdin.close()  # the launcher leaves when its standard input ends
            try:
                self._process.wait(timeout=20)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        if self._temporary is not None:
            for name in self._packs:
                _unlink(self.base / "custom_nodes" / name)
            self._temporary.cleanup()

    # What tests and tools ask of it

    def object_info(self) -> dict[str, dict]:
        """Every node the server knows, as the front end is told."""
        return self._get("/object_info")

    def run(
        self, prompt: dict, *, timeout: float = 600.0, watch: Callable[[str, dict], object] | None = None, **extra: Any
    ) -> Result:
        """Queue a prompt in API format and wait for its end.

        `watch(type, data)` is called with every websocket message meanwhile, so that it can interrupt. `extra` joins
        the request's body (`extra_data`, ...). Raises PromptRejected, PromptFailed, PromptInterrupted or TimeoutError.
        """
        began = time.monotonic()
        client = uuid.uuid4().hex
        connection = websocket.create_connection(f"ws://{self._address}/ws?clientId={client}", timeout=timeout)
        try:
            prompt_id = self._queue({"prompt": prompt, "client_id": client, **extra})
            messages, texts = [], {}
            for kind, data in self._listen(connection, began + timeout):
                if kind == TEXT and not data["refused"]:
                    texts.setdefault(data["node"], []).append(data["text"])
                if kind != "status" and data.get("prompt_id", prompt_id) != prompt_id:
                    continue
                messages.append((kind, data))
                if watch is not None:
                    watch(kind, data)
                if kind == "executing" and data["node"] is None:
                    break
        finally:
            connection.close()
        outputs = self.wait(prompt_id)
        return Result(self, outputs, messages, texts, time.monotonic() - began)

    def wait(self, prompt_id: str, *, timeout: float = 600.0) -> dict[str, dict]:
        """The outputs of a queued prompt, by node id, as soon as it has ended; raises as `run` does."""
        deadline = time.monotonic() + timeout
        while not (history := self._get(f"/history/{prompt_id}")):
            if time.monotonic() > deadline:
                raise TimeoutError(f"The prompt did not end in {timeout:.0f} seconds.\n{self._tail()}")
            time.sleep(0.1)
        for kind, data in history[prompt_id]["status"]["messages"]:
            if kind == "execution_error":
                raise PromptFailed(data)
            if kind == "execution_interrupted":
                raise PromptInterrupted(f"Interrupted at {data['node_type']} (node {data['node_id']}).")
        return history[prompt_id]["outputs"]

    def set_setting(self, name: str, value: Any) -> None:
        """Change a setting of the front end, as its dialog does; a page loaded afterwards follows it."""
        self._post(f"/settings/{name}", value)

    def forget(self) -> None:
        """Let ComfyUI forget what it has computed, so that every node runs again."""
        self._post("/free", {"free_memory": True})

    def interrupt(self) -> None:
        """Stop the prompt that is running, as the front end's button does."""
        self._post("/interrupt", {})

    def image(self, place: dict) -> Image.Image:
        """A picture by its place (`filename`, `subfolder`, `type`), as outputs name it."""
        query = urllib.parse.urlencode({key: place[key] for key in ("filename", "subfolder", "type")})
        picture = Image.open(io.BytesIO(self._request(f"/view?{query}")))
        picture.load()
        return picture

    def log(self) -> str:
        """All that ComfyUI has written so far."""
        return self.log_file.read_text(encoding="utf-8", errors="replace")

    def running(self) -> bool:
        """Whether the server process is still there."""
        return self._process is not None and self._process.poll() is None

    # How it does it

    def _link_packs(self) -> None:
        for folder in ("custom_nodes", "models", "input", "output", "temp", "user"):
            (self.base / folder).mkdir(parents=True, exist_ok=True)
        for name, target in self._packs.items():
            _unlink(self.base / "custom_nodes" / name)
            _link(self.base / "custom_nodes" / name, target)

    def _start(self, folder: Path) -> None:
        port = _free_port(self._port)
        self._address = f"127.0.0.1:{port}"
        self.url = f"http://{self._address}"
        command = [sys.executable, "-m", "devtools.launch", str(folder), "--listen", "127.0.0.1", "--port", str(port)]
        command += ["--base-directory", str(self.base), "--database-url", "sqlite:///:memory:"]
        command += ["--disable-auto-launch", "--disable-api-nodes", *newest_frontend.options(), *self._options]
        environment = {**os.environ, "PYTHONUTF8": "1", "PYTHONUNBUFFERED": "1"}
        with self.log_file.open("wb") as log:
            self._process = subprocess.Popen(
                command, cwd=host.ROOT, env=environment, stdin=subprocess.PIPE, stdout=log, stderr=subprocess.STDOUT
            )

    def _wait_until_ready(self) -> None:
        deadline = time.monotonic() + self._patience
        while True:
            if not self.running():
                raise ServerFailed(
                    f"ComfyUI ended with status {self._process.returncode} while starting:\n{self._tail()}"
                )
            if time.monotonic() > deadline:
                raise ServerFailed(f"ComfyUI was not ready after {self._patience:.0f} seconds:\n{self._tail()}")
            try:
                self._get("/queue")
                break
            except OSError:
                time.sleep(0.2)
        for line in self.log().splitlines():
            if "IMPORT FAILED" in line and any(line.endswith(name) for name in self._packs):
                raise ServerFailed(f"ComfyUI could not load a pack ({line.strip()}):\n{self._tail(80)}")

    def _tail(self, lines: int = 40) -> str:
        return "\n".join(self.log().splitlines()[-lines:])

    def _queue(self, body: dict) -> str:
        try:
            answer = self._post("/prompt", body)
        except urllib.error.HTTPError as refusal:
            answer = json.loads(refusal.read())
            raise PromptRejected(answer["error"], answer["node_errors"]) from None
        if answer["node_errors"]:  # the rest of the graph was queued all the same
            self._post("/queue", {"delete": [answer["prompt_id"]]})
            self._post("/interrupt", {"prompt_id": answer["prompt_id"]})
            raise PromptRejected({}, answer["node_errors"])
        return answer["prompt_id"]

    def _listen(self, connection: websocket.WebSocket, deadline: float) -> Iterator[tuple[str, dict]]:
        """Yield (type, data) of each websocket message."""
        while True:
            connection.settimeout(max(deadline - time.monotonic(), 0.001))
            try:
                opcode, payload = connection.recv_data()
            except websocket.WebSocketTimeoutException:
                raise TimeoutError(f"The prompt did not end in time.\n{self._tail()}") from None
            except (websocket.WebSocketException, OSError) as gone:
                raise ServerFailed(f"ComfyUI is gone ({gone}):\n{self._tail()}") from None
            if opcode == websocket.ABNF.OPCODE_TEXT:
                message = json.loads(payload)
                yield message["type"], message["data"]

    def _get(self, path: str) -> Any:
        return json.loads(self._request(path))

    def _post(self, path: str, body: Any) -> Any:
        answer = self._request(path, json.dumps(body).encode())
        return json.loads(answer) if answer else None

    def _request(self, path: str, body: bytes | None = None) -> bytes:
        request = urllib.request.Request(self.url + path, body, {"Content-Type": "application/json"})
        with _OPENER.open(request, timeout=60) as answer:
            return answer.read()


def _free_port(wanted: int) -> int:
    """A port of 127.0.0.1 that nobody listens on: the wanted one, or any for 0."""
    with socket.socket() as probe:
        if os.name != "nt":  # a port just left may be taken again; on Windows this would also take one in use
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", wanted))
        except OSError:
            raise ServerFailed(f"Port {wanted} is in use; choose another one.") from None
        return probe.getsockname()[1]


def _link(link: Path, target: Path) -> None:
    """Make `link` lead to the folder `target`; a junction where Windows grants no symbolic links."""
    try:
        link.symlink_to(target, target_is_directory=True)
    except OSError:
        if os.name != "nt":
            raise
        subprocess.run(["cmd", "/c", "mklink", "/J", str(link), str(target)], check=True, capture_output=True)


def _unlink(link: Path) -> None:
    """Take away a link made by `_link`, and never what it leads to."""
    if link.is_symlink():
        link.unlink()
    elif link.exists() and os.path.realpath(link) != os.path.abspath(link):
        os.rmdir(link)  # a junction
