"""A policy that `depthtok serve` answers for, as a model server of vla-eval.

    depthtok serve runs/policy --gripper open-1_closed1 --port 8000
    python depthtok_server.py --args.policy ws://127.0.0.1:8000 --port 8001
    vla-eval run --config libero.yaml --server-url ws://127.0.0.1:8001

Needs the packages vla-eval and openpi-client, and neither depthtok nor torch. What the policy's
numbers mean comes from the description that `depthtok serve` sends: a gripper of another convention
is refused, and columns that vla-eval has no word for are declared as raw.
"""

from __future__ import annotations

import logging
from typing import Any

import numpy as np
from openpi_client.websocket_client_policy import WebsocketClientPolicy
from vla_eval.model_servers.base import SessionContext
from vla_eval.model_servers.predict import PredictModelServer
from vla_eval.specs import (
    GRIPPER_CLOSE_POS,
    GRIPPER_RAW,
    IMAGE_RGB,
    LANGUAGE,
    POSITION_DELTA,
    RAW,
    DimSpec,
)

LOG = logging.getLogger(__name__)
CLOSE_POSITIVE = "open-1_closed1"  # the gripper of vla-eval's LIBERO and SimplerEnv
PICTURES = {"image": "agentview", "main": "agentview", "wrist_image": "wrist"}
"""The benchmark's picture for each camera of a policy, where their names differ."""


class DepthtokServer(PredictModelServer):
    """Asks a served policy. `policy` is its address; `pictures` says which picture of the benchmark
    each camera gets, as in `main=agentview,wrist=wrist`; `chunk_size` how many actions of a chunk
    are played (all of them by default).

    Raises `ValueError` for a policy whose gripper is known to have another convention.
    """

    def __init__(
        self,
        policy: str = "ws://127.0.0.1:8000",
        pictures: str = "",
        *,
        chunk_size: int | None = None,
        api_key: str | None = None,
        **settings: Any,
    ) -> None:
        self.policy, self.api_key = policy, api_key
        client = self._connect()
        self.about = client.get_server_metadata()
        client._ws.close()  # openpi's client has no other way
        horizon = self.about["action_horizon"]
        super().__init__(chunk_size=min(chunk_size or horizon, horizon), **settings)
        chosen = dict(pair.split("=", 1) for pair in pictures.split(",") if pair)
        self.pictures = {
            camera: chosen.get(camera, PICTURES.get(camera, camera))
            for camera in self.about["cameras"]
        }
        self._clients: dict[str, WebsocketClientPolicy] = {}
        gripper = self.about["gripper"]
        if gripper == "unknown":
            LOG.warning("what the policy's gripper means is not known: it is passed on as it is")
        elif gripper not in ("none", CLOSE_POSITIVE):
            raise ValueError(
                f"the policy's gripper is {gripper}, the benchmark's {CLOSE_POSITIVE}: "
                f"serve it with --gripper {CLOSE_POSITIVE}"
            )

    def _connect(self) -> WebsocketClientPolicy:
        return WebsocketClientPolicy(self.policy, api_key=self.api_key)

    async def on_episode_start(self, config: dict[str, Any], ctx: SessionContext) -> None:
        """A new connection: its noise begins anew, whatever was asked before, and by whom."""
        self._forget(ctx)
        self._clients[ctx.session_id] = self._connect()
        await super().on_episode_start(config, ctx)

    async def on_episode_end(self, result: dict[str, Any], ctx: SessionContext) -> None:
        """Ends the episode's connection."""
        self._forget(ctx)
        await super().on_episode_end(result, ctx)

    def _forget(self, ctx: SessionContext) -> None:
        client = self._clients.pop(ctx.session_id, None)
        if client is not None:
            client._ws.close()

    def get_observation_params(self) -> dict[str, Any]:
        """What benchmarks are asked to send. The angle of a quaternion and that of its negative
        differ: the data sets of LIBERO have the one that is not folded."""
        return {
            "send_wrist_image": len(self.pictures) > 1,
            "send_state": self.about["state_dim"] > 0,
            "quat_no_antipodal": True,
        }

    def get_action_spec(self) -> dict[str, DimSpec]:
        """What the columns of the actions are, as far as the policy says and vla-eval has words for
        it. How three angles are to be read is not said: they are raw."""
        rows = (self.about["meaning"] or {}).get("action", [])
        if [row[0] for row in rows] != ["x", "y", "z", "roll", "pitch", "yaw", "gripper"]:
            return {"actions": RAW}
        moves = {row[1] for row in rows[:3]} == {"delta"}
        closes = self.about["gripper"] == CLOSE_POSITIVE
        return {
            "position": POSITION_DELTA if moves else RAW,
            "rotation": RAW,
            "gripper": GRIPPER_CLOSE_POS if closes else GRIPPER_RAW,
        }

    def get_observation_spec(self) -> dict[str, DimSpec]:
        """Pictures by the benchmark's names, the state where the policy takes one, the task."""
        spec = dict.fromkeys(self.pictures.values(), IMAGE_RGB)
        state = {"state": RAW} if self.about["state_dim"] else {}
        return {**spec, **state, "language": LANGUAGE}

    def predict(self, obs: dict[str, Any], ctx: SessionContext) -> dict[str, Any]:
        """A chunk of actions. Raises `ValueError` for an observation without what the policy
        needs, and what the policy's server answers to one that it cannot use."""
        request: dict[str, Any] = {"prompt": obs["task_description"]}
        for camera, picture in self.pictures.items():
            if picture not in obs["images"]:
                raise ValueError(
                    f"camera {camera!r} gets picture {picture!r}, of {sorted(obs['images'])}: "
                    "name another with pictures, as in main=agentview"
                )
            request[f"observation/{camera}"] = np.asarray(obs["images"][picture], np.uint8)
        if self.about["state_dim"]:
            state = np.asarray(obs["states"] if "states" in obs else obs["state"], np.float32)
            if state.shape != (self.about["state_dim"],):
                raise ValueError(
                    f"the state has shape {state.shape}, the policy takes {self.about['state_dim']}"
                )
            request["observation/state"] = state
        return {"actions": self._clients[ctx.session_id].infer(request)["actions"]}


if __name__ == "__main__":
    from vla_eval.model_servers.serve import run_server

    run_server(DepthtokServer)
