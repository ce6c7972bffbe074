"""A TCP proxy that breaks answers of an HTTP server on purpose."""

from __future__ import annotations

import re
import socket
import socketserver
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field


@dataclass
class Fault:
    """What happens to requests whose first line matches; `times` of them (after `skip`)."""

    pattern: str
    status: int = 0  # answered instead of the server
    delay_s: float = 0.0  # before the answer
    body: int | None = None  # bytes of the body that come before the connection ends
    shorter: bool = False  # Content-Length says that there were no more
    stall_s: float = 0.0  # of silence before the connection ends
    before: Callable[[], None] | None = None  # called before the request goes on
    times: int = 1 << 30
    skip: int = 0
    hits: int = 0

    def strikes(self, line: str) -> bool:
        if not re.search(self.pattern, line):
            return False
        self.hits += 1
        return self.skip < self.hits <= self.skip + self.times


@dataclass
class Proxy:
    """Stands before the server at `port`; its own is `self.port`."""

    target: int
    faults: list[Fault] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)  # first lines

    def __enter__(self) -> Proxy:
        proxy = self

        class Handler(socketserver.BaseRequestHandler):
            def handle(self) -> None:
                try:
                    while proxy._answer(self.request):
                        pass
                except (ConnectionError, TimeoutError):
                    pass

        class Server(socketserver.ThreadingTCPServer):
            daemon_threads = True
            allow_reuse_address = True

        self._server = Server(("127.0.0.1", 0), Handler)
        self.port = self._server.server_address[1]
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def _answer(self, client: socket.socket) -> bool:
        """One request; whether the connection goes on."""
        request = _message(client)
        if request is None:
            return False
        line = request[0].partition(b"\r\n")[0].decode()
        with self._lock:
            self.requests.append(line)
            fault = next((fault for fault in self.faults if fault.strikes(line)), None)
        if fault and fault.before:
            fault.before()
        if fault and fault.delay_s:
            time.sleep(fault.delay_s)
        if fault and fault.status:
            client.sendall(b"HTTP/1.1 %d Fault\r\nContent-Length: 0\r\n\r\n" % fault.status)
            return True
        head, body = self._forward(*request, bodiless=line.startswith("HEAD"))
        if fault and fault.shorter and fault.body is not None:
            head = re.sub(rb"(?i)content-length: \d+", b"Content-Length: %d" % fault.body, head)
        client.sendall(head + (body if not fault or fault.body is None else body[: fault.body]))
        if fault and fault.stall_s:
            time.sleep(fault.stall_s)
        return not fault or fault.body is None or fault.shorter

    def _forward(self, head: bytes, body: bytes, *, bodiless: bool) -> tuple[bytes, bytes]:
        with socket.create_connection(("127.0.0.1", self.target), timeout=20) as server:
            server.sendall(head + body)
            answer = _message(server, bodiless=bodiless)
        assert answer is not None
        return answer


def _message(peer: socket.socket, *, bodiless: bool = False) -> tuple[bytes, bytes] | None:
    """Head, with its empty line, and body; None where the peer has gone."""
    data = b""
    while b"\r\n\r\n" not in data:
        if not (more := peer.recv(1 << 16)):
            return None
        data += more
    head, _, body = data.partition(b"\r\n\r\n")
    length = re.search(rb"(?i)content-length: (\d+)", head)
    parts, wanted = [body], 0 if bodiless or not length else int(length[1])
    have = len(body)
    while have < wanted:
        parts.append(peer.recv(1 << 18))
        have += len(parts[-1])
        if not parts[-1]:
            return None
    return head + b"\r\n\r\n", b"".join(parts)
