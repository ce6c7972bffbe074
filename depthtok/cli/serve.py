"""serve: a trained policy over openpi's websocket protocol."""

from __future__ import annotations

from depthtok.api.serve import Serving, serve
from depthtok.cli.options import Command
from depthtok.log import say
from depthtok.signals import Stopped, stoppable


def tell(serving: Serving) -> None:
    """Prints where it serves what, and serves until a signal ends it."""
    about, address = serving.about, serving.address
    with serving:
        say(
            f"{serving.run}: cameras {', '.join(about['cameras'])}; state of "
            f"{about['state_dim']}, {about['action_horizon']} actions of {about['action_dim']} at "
            f"once; gripper {about['gripper']}",
            f"serving on ws://{address} (health: http://{address}/healthz)",
        )
        try:
            with stoppable():
                serving.forever()
        except Stopped:
            say("stopped")


COMMAND = Command(serve, tell)
