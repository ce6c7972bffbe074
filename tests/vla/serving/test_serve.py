"""Serving: openpi's protocol, spoken by a client written out here and by openpi-client."""

import time
import tracemalloc
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest

from depthtok.errors import ConfigError
from tests.vla import clients, fakes
from vla.serving.answers import observation
from vla.serving.policy import Policy
from vla.serving.server import describe, make_server
from vla.serving.wire import pack, unpack

websockets = pytest.importorskip("websockets.sync.client")
pytest.importorskip("msgpack")

REQUEST = clients.REQUEST


def test_a_server_that_cannot_begin_says_so(served):
    """It ran in a thread of its own, whose end looked like that of a server which was stopped."""
    with make_server(Policy.load(served), port=0) as server:
        server.socket.close()
        with pytest.raises(OSError, match="Bad file descriptor"):
            server.serve_forever()


def test_a_conversation(serve, served):
    with websockets.connect(f"ws://127.0.0.1:{serve()}", compression=None) as client:
        greeting = unpack(client.recv())
        assert greeting["action_horizon"] == 4
        assert greeting["cameras"] == ["main", "wrist"]
        assert greeting["gripper"] == "open1_closed-1"
        assert greeting["meaning"] == fakes.MEANING.to_json()
        replies = []
        for _ in range(2):
            client.send(pack(REQUEST))
            replies.append(unpack(client.recv()))
    policy = Policy.load(served)
    for reply in replies:
        assert (reply["actions"] == policy.act(observation(pack(REQUEST)))).all()
        assert reply["server_timing"]["infer_ms"] > 0


def test_a_robot_gets_its_own_gripper_convention(served):
    policy, other = Policy.load(served), Policy.load(served)
    other.speak("open0_closed1")
    assert describe(other)["gripper"] == describe(other)["meaning"]["gripper"] == "open0_closed1"
    asked = observation(pack(REQUEST))
    unconverted, converted = policy.act(asked)[:, -1], other.act(asked)[:, -1]
    np.testing.assert_allclose(converted, (1 - unconverted) / 2, atol=1e-6)


def test_a_policy_that_does_not_state_its_gripper_can_be_told(served):
    policy = Policy.load(served)
    policy.meaning = None
    assert (describe(policy)["gripper"], describe(policy)["meaning"]) == ("unknown", None)
    with pytest.raises(ConfigError, match="does not say what its gripper's numbers mean"):
        policy.speak("open1_closed0")
    policy.meaning = replace(Policy.load(served).meaning, gripper="unknown")
    with pytest.raises(ConfigError, match="does not say what its gripper's numbers mean") as raised:
        policy.speak("open1_closed0")
    assert "--policy-gripper" in raised.value.remedy
    with pytest.raises(ConfigError, match=r"the robot's gripper = 'open1' is not known") as raised:
        policy.speak("open1")
    assert "schema" not in raised.value.remedy
    policy.speak("open1_closed0", own="open-1_closed1")
    assert describe(policy)["gripper"] == "open1_closed0"
    stated = Policy.load(served).act(observation(pack(REQUEST)))
    unstated = policy.act(observation(pack(REQUEST)))
    np.testing.assert_allclose(unstated[:, -1], (1 - stated[:, -1]) / 2, atol=1e-6)
    assert (unstated[:, :-1] == stated[:, :-1]).all()


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        (
            pack({k: v for k, v in REQUEST.items() if "wrist" not in k}),
            "observation/wrist is missing",
        ),
        (pack({**REQUEST, "observation/main": [[1, 2], [3]]}), "observation/main has type list"),
        (pack({**REQUEST, "observation/state": np.zeros(3)}), "observation/state has shape"),
        (pack({**REQUEST, "observation/state": {}}), "observation/state has type dict"),
        (pack({**REQUEST, "observation/state": 1e308}), "observation/state has shape"),
        (pack({**REQUEST, "observation/state": np.full(8, 1e308)}), "or is not finite"),
        (pack({**REQUEST, "prompt": 5}), "prompt has type int"),
        (pack({**REQUEST, "prompt": "go " * 700}), "prompt has 2100 characters"),
        (pack({**REQUEST, "prompt": "x" * 2**17}), "exceeds max_str_len"),
        (pack({**REQUEST, "prompt": "\U0001f600" * 3000}), "prompt has 3000 characters"),
        (pack({"\x1b[2J\U0001f600" * 40: 1}), "observation/main is missing"),
        (pack({**REQUEST, "observation/main": np.zeros((9000, 1, 3), np.uint8)}), "4096"),
        (b"\xc1", "not valid openpi msgpack"),
        ("hello", "text message"),
        (pack([1]), "not a map"),
    ],
)
def test_errors_come_as_text_that_names_the_field(serve, request_, message):
    with websockets.connect(f"ws://127.0.0.1:{serve()}", compression=None) as client:
        client.recv()
        client.send(request_)
        reply = client.recv()
        assert isinstance(reply, str)
        assert message in reply
        assert "\x1b" not in reply
        with pytest.raises(Exception, match="1011"):
            client.recv()


def test_health_and_keys(serve):
    port = serve(api_key="secret")
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/healthz") as reply:
        assert reply.status == 200
    with pytest.raises(Exception, match="401"), websockets.connect(f"ws://127.0.0.1:{port}"):
        pass
    headers = {"Authorization": "Api-Key secret"}
    with websockets.connect(f"ws://127.0.0.1:{port}", additional_headers=headers) as client:
        assert "action_dim" in unpack(client.recv())


@pytest.mark.parametrize(
    "sent", [b"Api-Key \xff\xfe", b"Api-Key secret\r\nAuthorization: Api-Key x"]
)
def test_keys_that_are_no_text_or_sent_twice_are_refused(serve, sent, capfd):
    answer = clients.raw(serve(api_key="secret"), b"Authorization: " + sent + b"\r\n").recv(4096)
    assert answer.startswith(b"HTTP/1.1 401")
    assert "Traceback" not in capfd.readouterr().err


def test_web_pages_are_refused_unless_they_are_let_in(serve):
    port = serve(origins=["http://localhost:3000"])
    for origin in ("https://evil.example", f"http://127.0.0.1:{port}", "null", "http://localhost"):
        assert clients.raw(port, b"Origin: %s\r\n" % origin.encode()).recv(4096)[9:12] == b"403"
    assert clients.raw(port, b"Origin: http://localhost:3000\r\n").recv(4096)[9:12] == b"101"
    assert clients.raw(port, b"").recv(4096)[9:12] == b"101"


def test_actions_that_are_not_finite_are_not_sent(serve, monkeypatch):
    monkeypatch.setattr(Policy, "acts", lambda *_: [np.array([[1.0, np.inf]])])
    with clients.Client(serve()) as client, pytest.raises(RuntimeError, match="not finite"):
        client.ask()


@pytest.mark.parametrize("batch", [1, 4])
def test_clients_share_passes_and_get_their_own_answers(serve, monkeypatch, batch):
    """Nine at once: the bytes that each gets alone; a bad request among them is told alone."""
    widths, acts = [], Policy.acts

    def counted(policy, seen, dice):
        time.sleep(0 if widths else 0.3)  # the others arrive
        widths.append(len(seen))
        return acts(policy, seen, dice)

    asked = [
        REQUEST | {"prompt": f"open drawer {n}", "observation/state": np.full(8, n / 9)}
        for n in range(9)
    ]
    port = serve(batch)
    alone = []
    for request in asked:
        with clients.Client(port) as client:
            alone.append([client.ask(request), client.ask(request)])
    monkeypatch.setattr(Policy, "acts", counted)
    people = [clients.Client(port) for _ in range(10)]
    with ThreadPoolExecutor(10) as hands:
        bad = hands.submit(people[9].ask, REQUEST | {"observation/state": np.zeros(3)})
        for turn in range(2):
            answers = hands.map(lambda one, what: one.ask(what), people, asked)
            for answer, alone_answer in zip(answers, alone, strict=True):
                assert np.array_equal(answer, alone_answer[turn])
        with pytest.raises(RuntimeError, match="observation/state has shape"):
            bad.result()
    for person in people:
        person.socket.close()
    assert sum(widths) == 18
    assert max(widths) <= batch
    assert batch == 1 or len(widths) < 18


def test_a_failing_pass_is_told_to_all_of_it_and_the_server_goes_on(serve, monkeypatch):
    acts = Policy.acts

    def fails(*_):
        raise ConfigError("no luck")

    port = serve(4)
    monkeypatch.setattr(Policy, "acts", fails)
    with clients.Client(port) as client, pytest.raises(RuntimeError, match="no luck"):
        client.ask()
    monkeypatch.setattr(Policy, "acts", acts)
    with clients.Client(port) as client:
        assert client.ask().shape == (4, 7)
        about = client.about
    assert (about["precision"], about["sampler"], about["batch"]) == ("float32", "plain", 4)


def test_a_server_may_end_before_it_began(served):
    with make_server(Policy.load(served), port=0) as server:
        server.shutdown()
        server.serve_forever()


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of the client's own imports
def test_the_stock_client(serve):
    openpi = pytest.importorskip("openpi_client.websocket_client_policy")
    client = openpi.WebsocketClientPolicy("127.0.0.1", serve())
    assert client.get_server_metadata()["action_dim"] == 7
    assert client.infer(REQUEST)["actions"].shape == (4, 7)


@pytest.mark.parametrize(
    "value", [np.arange(6, dtype="<i4").reshape(2, 3), np.float32(1.5), np.zeros((0, 3)), True, "x"]
)
def test_values_travel(value):
    back = unpack(pack({"x": value}))["x"]
    assert np.array_equal(back, value)
    assert getattr(back, "dtype", None) == getattr(value, "dtype", None)


@pytest.mark.parametrize(
    "array",
    [
        {b"__ndarray__": True, b"data": b"123", b"dtype": "<f4", b"shape": [1]},
        {b"__ndarray__": True, b"data": b"12345678", b"dtype": "|O", b"shape": [1]},
        {b"__ndarray__": True, b"data": b"", b"dtype": "<f4", b"shape": [-1, 0]},
        {b"__npgeneric__": True, b"data": 1, b"dtype": "<c8"},
        {b"__npgeneric__": True, b"data": 300, b"dtype": "|u1"},
        {b"__ndarray__": True},
        {b"__ndarray__": True, b"data": b"", b"dtype": "(,", b"shape": [0]},
        {b"__ndarray__": True, b"data": b"12345678", b"dtype": "f4,f4", b"shape": [1]},
        {b"__ndarray__": True, b"data": b"1" * 16, b"dtype": "<f16", b"shape": [1]},
        {b"__ndarray__": True, b"data": b"1", b"dtype": "u1", b"shape": [1] * 9},
        {b"__ndarray__": True, b"data": b"1", b"dtype": b"u1", b"shape": [1]},
    ],
)
def test_bad_arrays_are_refused(array):
    with pytest.raises(ConfigError, match="not valid openpi msgpack"):
        unpack(pack({"x": array}))
    with pytest.raises(TypeError, match="cannot be sent"):
        pack({"x": np.array([None])})


@pytest.mark.parametrize(
    "bomb",
    [
        b"\xdd\x00\x80\x00\x00" * 900 + bytes(2**23),  # lists in lists, each claims 8 million
        b"\x9f" * 900 + b"\xc0" * 2**20,
        (b"\xdc\x0f\xff" + b"\x90" * 4095) * 600,  # empty lists: 56 bytes for one
        b"\xdc\x02\x58" + (b"\xdc\x0f\xff" + b"\x90" * 4095) * 600,
        b"\xdc\x02\x58" + (b"\xdc\x0f\xff" + b"\x80" * 4095) * 600,
        b"\x91" * 100_000,
        b"\x81\xa1a" * 100_000,
        b"\xdf\x00\x00\x40\x00" + bytes(2**20),
    ],
    ids=range(8),
)
def test_few_bytes_do_not_become_many_objects(bomb):
    tracemalloc.start()
    try:
        with pytest.raises(ConfigError, match="not valid openpi msgpack"):
            unpack(bomb)
        assert tracemalloc.get_traced_memory()[1] < 2**23
    finally:
        tracemalloc.stop()
