"""An S3 server (moto's) in a process of its own on the loopback, and a faulty proxy before it."""

import importlib.util
import os
import signal
import socket
import subprocess
import sys
import time

import pytest

from tests.checked.checked_calls import unchecked
from tests.depthtok.remote.faulty_proxy import Proxy
from tests.depthtok.remote.file_sets import BLOCK, REAL, converted, upload

KEY, SECRET = "AKIATESTTESTTEST", "a-secret-that-nobody-may-see"


@pytest.fixture(scope="session")
def s3_port(tmp_path_factory):
    """The port of a server with a bucket `labs`."""
    for package in ("moto", "obstore"):
        if importlib.util.find_spec(package) is None:
            pytest.skip(f"needs {package}: `make .venv/dev`")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    log = tmp_path_factory.mktemp("moto") / "log"
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    with log.open("wb") as file:
        server = subprocess.Popen(command, stdout=file, stderr=file, env=unchecked())
    try:
        for _ in range(600):
            try:
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
                break
            except OSError:
                assert server.poll() is None, log.read_text()
                time.sleep(0.05)
        yield port
    finally:
        server.send_signal(signal.SIGTERM)
        server.wait(20)


@pytest.fixture
def proxy(s3_port, monkeypatch, tmp_path):
    """The proxy; this process and its children reach the bucket through it."""
    for name in [name for name in os.environ if name.startswith(("AWS_", "DEPTHTOK_REMOTE"))]:
        monkeypatch.delenv(name)
    settings = {"FIRST_WAIT_S": "0.01", "SILENCE_S": "1", "STREAM_MIB": "0.004", "ATTEMPTS": "4"}
    settings |= {"BLOCK_MIB": "0.002", "CACHE": str(tmp_path / "cache")}
    with Proxy(s3_port) as proxy:
        variables = {f"DEPTHTOK_REMOTE_{name}": value for name, value in settings.items()}
        variables |= {"AWS_ACCESS_KEY_ID": KEY, "AWS_SECRET_ACCESS_KEY": SECRET}
        variables |= {"AWS_ENDPOINT_URL": proxy.url, "AWS_REGION": "us-east-1"}
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        _make_bucket(s3_port)
        yield proxy


@pytest.fixture(scope="session")
def lerobot_store(tmp_path_factory):
    """The store of a LeRobot data set on the disk."""
    return converted(REAL, tmp_path_factory.mktemp("lerobot") / "here")


@pytest.fixture
def lerobot_bucket(proxy, request, monkeypatch):
    """The same data set in a bucket, in a folder of the test's own; fetched by larger requests."""
    monkeypatch.setenv("DEPTHTOK_REMOTE_STREAM_MIB", str(BLOCK / 2**20))
    folder = request.node.name.replace("[", "-").rstrip("]").replace(" ", "-")
    url = upload(REAL, f"s3://labs/files/{folder}/lerobot_v3")
    proxy.requests.clear()
    return url


def _make_bucket(port: int) -> None:
    with socket.create_connection(("127.0.0.1", port), timeout=20) as server:
        server.sendall(b"PUT /labs HTTP/1.1\r\nHost: s3\r\nConnection: close\r\n\r\n")
        while server.recv(4096):
            pass
