"""openpi's client gets from `depthtok serve` what the policy says in process."""

import json
import sys
from importlib import metadata
from pathlib import Path

import numpy as np
from openpi_client.websocket_client_policy import WebsocketClientPolicy

folder, address = Path(sys.argv[1]), sys.argv[2]
expected = np.load(folder / "expected.npz")
facts = json.loads((folder / "expected.json").read_text())
client = WebsocketClientPolicy(f"ws://{address}")
about = client.get_server_metadata()
assert about["cameras"] == facts["cameras"], about
assert about["gripper"] == "open-1_closed1", about
for step, chunk in enumerate(expected["chunks"]):
    seen = {f"observation/{name}": expected[f"seen/{name}"][step] for name in about["cameras"]}
    state, prompt = expected["proprio/0"][step], facts["instructions"][0]
    answer = client.infer({**seen, "observation/state": state, "prompt": prompt})
    np.testing.assert_allclose(answer["actions"], chunk, rtol=1e-5, atol=1e-6)
version = metadata.version("openpi-client")
print(f"openpi-client {version}, numpy {np.__version__}: {step + 1} answers are equal")
