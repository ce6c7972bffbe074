"""Serving: openpi's protocol, spoken by a client written out here and by openpi-client."""

import threading
import urllib.request

import fakes
import numpy as np
import pytest

from depthtok.errors import ConfigError
from vla.config import RunOptions
from vla.policy import Policy
from vla.serve import describe, make_server, observation
from vla.train import train
from vla.wire import pack, unpack

websockets = pytest.importorskip("websockets.sync.client")
pytest.importorskip("msgpack")

REQUEST = {
    "observation/main": np.full((24, 24, 3), 90, np.uint8),
    "observation/wrist": np.full((24, 24, 3), 20, np.uint8),
    "observation/state": np.zeros(8),
    "prompt": "open the drawer",
}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    out, config = tmp_path_factory.mktemp("served"), fakes.micro(train__steps=1)
    book = fakes.FakeCodebook(codes=16, dim=12)
    train(config, fakes.toy(config), out, RunOptions(workers=0), codebook=book)
    return out


@pytest.fixture
def serve(run):
    """Starts servers; gives their port."""
    begun = []

    def start(**options):
        server = make_server(Policy.load(run), port=0, **options)
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        begun.append((server, thread))
        return server.socket.getsockname()[1]

    yield start
    for server, thread in begun:
        server.shutdown()
        thread.join()


def test_a_conversation(serve, run):
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
    policy = Policy.load(run)
    for reply in replies:
        assert (reply["actions"] == policy.act(observation(pack(REQUEST)))).all()
        assert reply["server_timing"]["infer_ms"] > 0


def test_a_robot_gets_its_own_gripper_convention(run):
    policy, other = Policy.load(run), Policy.load(run)
    other.speak("open0_closed1")
    assert describe(other)["gripper"] == describe(other)["meaning"]["gripper"] == "open0_closed1"
    asked = observation(pack(REQUEST))
    own, converted = policy.act(asked)[:, -1], other.act(asked)[:, -1]
    np.testing.assert_allclose(converted, (1 - own) / 2, atol=1e-6)


def test_a_policy_that_does_not_state_its_gripper_can_be_told(run):
    policy = Policy.load(run)
    policy.meaning = None
    assert (describe(policy)["gripper"], describe(policy)["meaning"]) == ("unknown", None)
    with pytest.raises(ConfigError, match="does not say what its gripper's numbers mean"):
        policy.speak("open1_closed0")
    policy.speak("open1_closed0", own="open-1_closed1")
    assert describe(policy)["gripper"] == "open1_closed0"
    own = Policy.load(run).act(observation(pack(REQUEST)))
    made = policy.act(observation(pack(REQUEST)))
    np.testing.assert_allclose(made[:, -1], (1 - own[:, -1]) / 2, atol=1e-6)
    assert (made[:, :-1] == own[:, :-1]).all()


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
        (pack({**REQUEST, "prompt": 5}), "prompt has type int"),
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
    ],
)
def test_bad_arrays_are_refused(array):
    with pytest.raises(ConfigError, match="not valid openpi msgpack"):
        unpack(pack({"x": array}))
    with pytest.raises(TypeError, match="cannot be sent"):
        pack({"x": np.array([None])})
