"""The clients of a served policy: what one may cost, so that none can harm the others.

A client may be slow, large, many or hostile. Bounded are: open connections, half-open ones, bytes
of messages that are not answered yet (of one client and of all), the time that a message may take
to arrive, frames a second, and replies that a client does not read. A client that goes beyond is
told why where that costs nothing, and disconnected; the others notice nothing.

Needs the package `websockets`.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Any

from websockets.asyncio.server import ServerConnection
from websockets.frames import Frame, Opcode
from websockets.protocol import State

from depthtok.log import warn

BACKLOG = 1024  # not accepted yet: the kernel drops more, and who was dropped tries again after 1 s
CONNECTIONS = 128
HALF_OPEN = 64  # beyond them the oldest is disconnected: who opens at once is always served
MESSAGE_LIMIT = 64 * 2**20  # bytes of one request
HELD_LIMIT = 4 * MESSAGE_LIMIT  # bytes of all requests that are not answered
MESSAGE_SECONDS = 20.0  # from a request's first byte to its last
FRAMES_A_SECOND = 4096  # pings, or pieces of messages
UNREAD_LIMIT = 2**20  # bytes of replies and pongs that a client does not read
CLOSE_SECONDS = 2.0  # to wait for a client's half of the closing handshake
REASON_BYTES = 120  # of a close frame
TOO_MUCH, TRY_LATER = 1008, 1013  # close codes: policy violation, try again later


class Clients:
    """All connections of one server."""

    def __init__(self) -> None:
        self.half_open: dict[Client, None] = {}  # in order of arrival
        self.admitted: set[Client] = set()

    @property
    def full(self) -> bool:
        """Whether no further client can be admitted."""
        return len(self.admitted) >= CONNECTIONS

    def arrive(self, client: Client) -> None:
        """A connection that has not asked for anything yet."""
        self.half_open[client] = None
        if len(self.half_open) > HALF_OPEN:
            next(iter(self.half_open)).abort()

    def admit(self, client: Client) -> None:
        """The connection is open from now on."""
        self.half_open.pop(client, None)
        self.admitted.add(client)

    def leave(self, client: Client) -> None:
        """The connection is lost."""
        self.half_open.pop(client, None)
        self.admitted.discard(client)

    def relieve(self) -> None:
        """Disconnects who holds most while all hold too much."""
        if sum(client.held for client in self.admitted) > HELD_LIMIT:
            most = max(self.admitted, key=lambda client: client.held)
            most.refuse(TRY_LATER, "too many large requests at once: send it again later")

    async def watch(self) -> None:
        """Disconnects, once a second, who does not finish a message."""
        while True:
            await asyncio.sleep(min(1.0, MESSAGE_SECONDS / 4))
            for client in list(self.admitted):
                if client.stalls():
                    limit = f"{MESSAGE_SECONDS:g} s"
                    client.refuse(TOO_MUCH, f"a message was not complete within {limit}")

    def abort_closing(self) -> None:
        """Disconnects, at the end of the server, who cannot be told of it: connections that are
        half open or half closed."""
        for client in [*self.half_open, *self.admitted]:
            if not is_open(client):
                client.abort()


class Client(ServerConnection):
    """One connection, which counts what it holds."""

    def __init__(self, clients: Clients, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.clients = clients
        self.name = "a client"
        self.unfinished = 0  # bytes of a message that has not arrived whole
        self.begun = 0.0  # when it began, s
        self.whole: deque[int] = deque()  # bytes of each message that is not answered
        self.fragments = 0  # bytes of complete frames in `unfinished`
        self.second, self.frames = 0.0, 0  # frames in this second
        self.gone = False  # nothing more is read from it
        self.closing = False

    @property
    def held(self) -> int:
        """Bytes of memory that its messages take up."""
        return self.unfinished + sum(self.whole)

    def stalls(self) -> bool:
        """Whether a message has been on its way for too long, and the client is to blame."""
        late = self.loop.time() - self.begun > MESSAGE_SECONDS
        return bool(self.unfinished) and not self.whole and late and not self.gone

    def answered(self) -> None:
        """The oldest of its messages has been answered."""
        self.whole.popleft()
        self.begun = self.loop.time()  # it may not have been read from in the meantime

    def refuse(self, code: int, reason: str) -> None:
        """Disconnects the client, and tells it why."""
        if self.gone:
            return
        self.gone = True
        warn(f"{self.name} is disconnected: {reason}")
        self.protocol.fail(code, brief(reason))
        self.send_data()
        self.loop.call_later(CLOSE_SECONDS, self.transport.abort)

    def abort(self, reason: str = "") -> None:
        """Disconnects the client without a word to it."""
        self.gone = True
        if reason:
            warn(f"{self.name} is disconnected: {reason}")
        self.transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        peer = transport.get_extra_info("peername")
        self.name = f"client {peer[0]}:{peer[1]}" if peer else "a client"
        super().connection_made(transport)
        self.clients.arrive(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self.clients.leave(self)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self.gone:
            return
        if self.request is not None:
            if not self.unfinished:
                self.begun = self.loop.time()
            self.unfinished += len(data)
        super().data_received(data)
        if self.protocol.close_expected() and not self.closing:
            self.closing = True  # the library would wait for as long as the client likes
            self.loop.call_later(CLOSE_SECONDS, self.transport.abort)
        if not self.gone and self.transport.get_write_buffer_size() > UNREAD_LIMIT:
            self.abort("it does not read what is sent to it")
        self.clients.relieve()

    def process_event(self, event: Any) -> None:
        if self.gone:
            return
        if isinstance(event, Frame):
            self._count(event)
        super().process_event(event)

    def _count(self, frame: Frame) -> None:
        now = self.loop.time()
        if now - self.second > 1:
            self.second, self.frames = now, 0
        self.frames += 1
        if self.frames > FRAMES_A_SECOND:
            self.abort(f"more than {FRAMES_A_SECOND} frames in a second")
        size = len(frame.data)
        if frame.opcode not in (Opcode.TEXT, Opcode.BINARY, Opcode.CONT):
            self.unfinished = max(0, self.unfinished - size - _header(size))
        elif frame.fin:
            self.whole.append(self.fragments + size)
            self.unfinished = max(0, self.unfinished - self.whole[-1] - _header(size))
            self.fragments = 0
        else:
            self.fragments += size
            self.unfinished = max(self.fragments, self.unfinished - _header(size))


def _header(size: int) -> int:
    """Bytes of the header of a client's frame with `size` bytes of data."""
    return 6 + (0 if size < 126 else 2 if size < 2**16 else 8)


def brief(text: str) -> str:
    """Text that fits into a close frame: one printable line."""
    line = " ".join(text.split())
    return line.encode("utf-8", "replace")[:REASON_BYTES].decode("utf-8", "ignore")


def is_open(client: ServerConnection) -> bool:
    """Whether an answer would still reach the client."""
    return client.state is State.OPEN
