"""Clients that are slow, large, many or hostile: the others notice nothing."""

import random
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from tests.vla import clients
from tests.vla.clients import BINARY, PING, REQUEST, Client, flood, frame, greeted
from vla.serving.policy import Policy
from vla.serving.server import make_server
from vla.serving.wire import pack

pytest.importorskip("websockets.asyncio.server")
pytest.importorskip("msgpack")

import vla.serving.clients as limits

REQUESTS = 100 * clients.times()
PATIENCE = 3.0  # s, for which a friendly client may wait longer than alone


def array(data, dtype, shape):
    return {b"__ndarray__": True, b"data": data, b"dtype": dtype, b"shape": shape}


VALUES = (
    None,
    True,
    -1,
    2**63,
    1e308,
    "",
    "x" * 3000,
    b"\x00" * 99,
    [],
    [[1, 2], [3]],
    [0.5] * 5000,
    {},
    {"a": {"b": []}},
    np.zeros((3, 8, 8), np.uint8),
    np.zeros((8, 8), np.float32),
    np.zeros((0, 8, 3), np.uint8),
    np.zeros((5000, 1, 3), np.uint8),
    np.zeros((8, 8, 4), np.uint8),
    np.full(8, np.nan),
    np.full(8, np.inf),
    np.full(8, 3e38, np.float32),
    np.zeros(9),
    "\x1b]0;x",
    array(b"abcd", "|O", [1]),
    array(b"abcd", "u1", [2**62, 4]),
    array(b"", "u1", [0, 2**40]),
    array(b"abcd", "u1", [-4]),
    array(b"abcd", "f4,f4", [1]),
    array("abcd", "u1", [4]),
    array(b"abcd", "u1", "abcd"),
    array(b"abcd", "u1", [True] * 4),
    {b"__ndarray__": True},
    {b"__npgeneric__": True, b"data": "x", b"dtype": "<f4"},
)
RAW = (
    b"",
    b"\xc1",
    b"\xdd\xff\xff\xff\xff",
    b"\xdf\xff\xff\xff\xffxx",
    b"\x91" * 5000,
    "text",
    b"\x81\xa1a" * 5000,
    b"\xc6\xff\xff\xff\xff",
    b"\x9f" + b"\x90" * 4000,
)


def hostile(chance):
    """One request that is wrong, or may be."""
    kind = chance.choice(["value", "value", "missing", "raw", "flipped", "cut", "noise"])
    good = pack(REQUEST)
    if kind == "value":
        return pack({**REQUEST, chance.choice(list(REQUEST)): chance.choice(VALUES)})
    if kind == "missing":
        remaining = chance.sample(list(REQUEST), 3)
        return pack({name: REQUEST[name] for name in remaining})
    if kind == "raw":
        return chance.choice(RAW)
    if kind == "flipped":
        damaged = bytearray(good)
        for _ in range(3):
            damaged[chance.randrange(200)] = chance.randrange(256)
        return bytes(damaged)
    return good[: chance.randrange(len(good))] if kind == "cut" else chance.randbytes(300)


@pytest.fixture(autouse=True)
def _no_traceback(caplog):
    """What the server logs is one line for each event, and no mistake of ours."""
    yield
    assert not [record for record in caplog.get_records("call") if record.exc_info]


@pytest.fixture
def alone(serve):
    """The first answers that a client gets from a server of its own, and their slowest, s."""
    with Client(serve()) as client:
        return [client.ask() for _ in range(4)], client.slowest


def equal(answers, others):
    return all(np.array_equal(one, other) for one, other in zip(answers, others, strict=True))


def test_hostile_requests_are_told_and_change_nothing_for_others(serve, alone, capfd):
    answers, slowest = alone
    port, chance, texts = serve(), random.Random(14), []
    friend = Client(port)
    replies = [friend.ask()]
    for number in range(REQUESTS):
        with Client(port) as client:
            try:
                assert np.isfinite(client.ask(hostile(chance))).all()
            except RuntimeError as error:
                texts.append(str(error))
        if number % (REQUESTS // 3) == 0 and len(replies) < 4:
            replies.append(friend.ask())
    friend.socket.close()
    assert equal(replies, answers)
    assert friend.slowest < slowest + PATIENCE
    assert len(texts) > REQUESTS / 2
    assert all(text.replace("\n", "").isprintable() for text in texts)
    assert "Traceback" not in capfd.readouterr().err


def test_each_client_has_noise_of_its_own(serve, alone):
    port = serve()
    with Client(port) as one, Client(port) as other:
        assert equal([one.ask()], alone[0][:1])
        other.ask(), other.ask()
        assert equal([one.ask(), one.ask(), one.ask()], alone[0][1:])
    with Client(port) as again:  # a new connection begins anew
        assert equal([again.ask(), again.ask()], alone[0][:2])
    assert not np.array_equal(*alone[0][:2])


def test_twenty_clients_at_once_take_turns(serve, alone):
    port, done, start = serve(), [], threading.Barrier(20)

    def talk(name):
        with Client(port) as client:
            start.wait()
            answers = []
            for _ in range(4 * clients.times()):
                answers.append(client.ask())
                done.append(name)
            return answers[:4]

    with ThreadPoolExecutor(20) as pool:
        for replies in pool.map(talk, range(20)):
            assert equal(replies, alone[0])
    ahead = 0  # by how many answers one client was ever ahead of another
    for end in range(1, len(done) + 1):
        counts = [done[:end].count(name) for name in range(20)]
        ahead = max(ahead, max(counts) - min(counts))
    assert ahead <= 3  # the order of arrival decides, and threads of this test arrive unevenly


def test_a_client_that_goes_away_leaves_one_line(serve, alone, capfd):
    port = serve()
    gone = [greeted(port) for _ in range(3)]
    for opened in gone:
        opened.sendall(frame(BINARY, pack(REQUEST)))  # and does not wait for the answer
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")  # by reset
        opened.close()
    with Client(port) as client:
        assert equal([client.ask()], alone[0][:1])
    time.sleep(0.2)
    lines = capfd.readouterr().err.splitlines()
    assert len(lines) == 3
    assert all("went away" in line for line in lines)


def test_a_message_that_does_not_end_is_given_up_and_a_pause_is_not(serve, alone, monkeypatch):
    monkeypatch.setattr(limits, "MESSAGE_SECONDS", 0.4)
    port = serve()
    with Client(port) as friend:
        one, piecewise, pinging = greeted(port), greeted(port), greeted(port)
        one.sendall(frame(BINARY, b"abc", claimed=1000))
        piecewise.sendall(frame(BINARY, b"abc", fin=False))
        for _ in range(10):
            pinging.sendall(frame(PING, b"hello"))
            time.sleep(0.1)
        assert [clients.ending(one), clients.ending(piecewise)] == [1008, 1008]
        pinging.sendall(frame(BINARY, pack(REQUEST)))
        pinging.settimeout(20)
        assert b"actions" in pinging.recv(10**6)[-1000:] + pinging.recv(10**6)
        assert equal([friend.ask()], alone[0][:1])  # it has been silent for longer


def test_more_bytes_than_a_message_may_have_are_refused_by_their_number(serve):
    port = serve()
    for size in (limits.MESSAGE_LIMIT + 1, 2**40, 2**62):
        opened = greeted(port)
        opened.sendall(frame(BINARY, b"x", claimed=size))
        assert clients.ending(opened) == 1009


def test_who_holds_most_makes_room(serve, alone, monkeypatch):
    monkeypatch.setattr(limits, "HELD_LIMIT", 3 * 2**20)
    port = serve()
    with Client(port) as friend:
        small = greeted(port)
        small.sendall(frame(BINARY, bytes(2**18), claimed=2**24))
        large = greeted(port)
        large.sendall(frame(BINARY, bytes(2**20), fin=False))
        large.sendall(frame(0, bytes(2**21), fin=False))
        assert clients.ending(large) == 1013
        assert equal([friend.ask()], alone[0][:1])
        small.settimeout(0.2)
        with pytest.raises(TimeoutError):  # it is still connected
            small.recv(10)


@pytest.mark.parametrize("sent", [frame(PING), frame(PING, b"x" * 125), frame(10, b"pong")])
def test_endless_pings_are_ended(serve, alone, sent):
    port = serve()
    with Client(port) as friend:
        assert flood(greeted(port), sent * 1000)
        assert equal([friend.ask()], alone[0][:1])
        assert friend.slowest < alone[1] + PATIENCE


def test_who_does_not_read_is_ended(serve, monkeypatch):
    monkeypatch.setattr(limits, "FRAMES_A_SECOND", 10**9)
    monkeypatch.setattr(limits, "UNREAD_LIMIT", 2**16)
    assert flood(greeted(serve()), frame(PING, b"x" * 125) * 1000)


def test_messages_in_countless_pieces_are_ended(serve, monkeypatch):
    monkeypatch.setattr(limits, "FRAMES_A_SECOND", 500)
    opened = greeted(serve())
    opened.sendall(frame(BINARY, b"x", fin=False))
    assert flood(opened, frame(0, b"x", fin=False) * 1000)


def test_nothing_is_decompressed(serve):
    port = serve()
    opened = clients.raw(port, b"Sec-WebSocket-Extensions: permessage-deflate\r\n")
    assert b"permessage-deflate" not in opened.recv(4096)
    opened.sendall(frame(BINARY, b"x", bits=0x40))
    assert clients.ending(opened) == 1002


def test_too_many_clients_are_told_and_one_may_follow_another(serve, alone, monkeypatch):
    monkeypatch.setattr(limits, "CONNECTIONS", 3)
    port = serve()
    friends = [Client(port) for _ in range(3)]
    assert b"503" in clients.raw(port).recv(4096)
    assert b"200" in clients.raw(port, path=b"/healthz").recv(4096)
    friends.pop().socket.close()
    with Client(port) as client:
        assert equal([client.ask()], alone[0][:1])
    for friend in friends:
        assert equal([friend.ask()], alone[0][:1])
        friend.socket.close()


def test_a_crowd_that_arrives_at_once_is_not_dropped_by_the_kernel(served):
    with make_server(Policy.load(served), port=0) as server:  # it does not accept anybody yet
        port, started = server.socket.getsockname()[1], time.monotonic()
        for _ in range(4 * limits.CONNECTIONS):
            clients.connection(port)
        clients.close_all()
        assert (
            time.monotonic() - started < PATIENCE
        )  # the kernel would have them try again after 1 s


def test_half_open_connections_shut_nobody_out(serve, alone, capfd):
    port = serve()
    idle = [clients.connection(port) for _ in range(2 * limits.HALF_OPEN)]
    for opened in idle[::2]:
        opened.sendall(b"GET / HTTP/1.1\r\nHost: ")
    started = time.monotonic()
    with Client(port) as client:
        assert equal([client.ask()], alone[0][:1])
    assert time.monotonic() - started < alone[1] + PATIENCE
    assert "Traceback" not in capfd.readouterr().err


NO_HTTP = (
    b"\x16\x03\x01\x02\x00\x01\xfc\x03\x03",
    b"POST / HTTP/1.1\r\n\r\n",
    b"\n\n",
    b"",
    b"GET / HTTP/1.1\r\n\r\n",
    b"GET / HTTP/1.1\r\n" + b"a: b\r\n" * 999 + b"\r\n",
)


def test_what_is_no_websocket_is_no_traceback(serve, alone, capfd):
    port = serve()
    for text in NO_HTTP:
        opened = clients.connection(port)
        opened.sendall(text)
        opened.shutdown(socket.SHUT_WR)
        clients.ending(opened)
    with Client(port) as client:
        assert equal([client.ask()], alone[0][:1])
    assert "Traceback" not in capfd.readouterr().err


def test_a_server_ends_whatever_its_clients_do(served):
    server = make_server(Policy.load(served), port=0)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    port = server.socket.getsockname()[1]
    clients.connection(port)
    for sent in (frame(BINARY, b"x", claimed=999), frame(BINARY, b"x", claimed=2**40), frame(7)):
        greeted(port).sendall(sent)  # and never reads or closes
    started = time.monotonic()
    server.shutdown()
    assert time.monotonic() - started < 2 * limits.CLOSE_SECONDS
    thread.join()
    clients.close_all()
