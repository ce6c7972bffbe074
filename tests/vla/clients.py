"""Clients of a served policy for tests: a friendly one, and raw sockets for what libraries refuse
to send."""

import os
import socket
import struct
import time

import numpy as np

from vla.serving.wire import pack, unpack

REQUEST = {
    "observation/main": np.full((24, 24, 3), 90, np.uint8),
    "observation/wrist": np.full((24, 24, 3), 20, np.uint8),
    "observation/state": np.zeros(8),
    "prompt": "open the drawer",
}
BINARY, PING = 2, 9
OPENED: list[socket.socket] = []  # raw sockets, which `close_all` closes after a test


class Client:
    """A friendly client."""

    def __init__(self, port):
        from websockets.sync.client import connect

        self.socket = connect(f"ws://127.0.0.1:{port}", compression=None).__enter__()
        self.about = unpack(self.socket.recv(timeout=30))
        self.slowest = 0.0  # s, of its answers

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.socket.close()

    def ask(self, request=REQUEST):
        """The actions for a request."""
        started = time.monotonic()
        self.socket.send(request if isinstance(request, bytes | str) else pack(request))
        reply = self.socket.recv(timeout=60)
        self.slowest = max(self.slowest, time.monotonic() - started)
        if isinstance(reply, str):
            raise RuntimeError(reply)
        return unpack(reply)["actions"]


def connection(port):
    """A socket on which nothing has been said yet."""
    opened = socket.create_connection(("127.0.0.1", port), timeout=30)
    OPENED.append(opened)
    return opened


def close_all():
    """Closes what `connection`, `raw` and `greeted` have opened."""
    while OPENED:
        OPENED.pop().close()


def raw(port, headers=b"", path=b"/"):
    """A socket that has asked to become a websocket."""
    opened = connection(port)
    opened.sendall(
        b"GET " + path + b" HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\n"
        b"Connection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
        b"Sec-WebSocket-Version: 13\r\n" + headers + b"\r\n"
    )
    return opened


def greeted(port):
    """A raw socket after the opening handshake and the server's greeting."""
    opened = raw(port)
    answer = b""
    while b"action_horizon" not in answer:
        answer += opened.recv(4096)
    return opened


def frame(opcode, data=b"", *, fin=True, claimed=None, bits=0):
    """A frame as a client sends it, masked with zeros; `claimed` is the size that it states."""
    size = len(data) if claimed is None else claimed
    first = bytes([(0x80 if fin else 0) | bits | opcode])
    if size < 126:
        head = first + bytes([0x80 | size])
    elif size < 2**16:
        head = first + b"\xfe" + struct.pack("!H", size)
    else:
        head = first + b"\xff" + struct.pack("!Q", size)
    return head + bytes(4) + data


def flood(opened, data, mebibytes=200):
    """Sends the same over and over, until the server disconnects; whether it did."""
    try:
        for _ in range(mebibytes * 2**20 // len(data)):
            opened.sendall(data)
    except ConnectionError:
        return True
    return False


def ending(opened, seconds=20):
    """How the server ends a raw connection: the code of its close frame, or "lost"."""
    opened.settimeout(seconds)
    received = b""
    try:
        while piece := opened.recv(2**16):
            received += piece
    except ConnectionError:
        pass
    at = received.rfind(b"\x88")  # a close frame: its size, its code, its reason
    if at < 0 or len(received) < at + 4:
        return "lost"
    return struct.unpack("!H", received[at + 2 : at + 4])[0]


def times():
    """By how much tests of chance are multiplied: DEPTHTOK_DAMAGES."""
    return int(os.environ.get("DEPTHTOK_DAMAGES", "1"))
