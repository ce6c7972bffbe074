"""Physics without what is computed twice, to the same bits.

robosuite computes everything three times in each of the 25 substeps of an action: before the
controller, again in it, and in MuJoCo's step. Positions and velocities do not change in between,
so what follows from them alone (kinematics, collisions, constraints) is still right; only what
follows from the controller's commands is computed again. The solver starts from its last solution,
so its passes are all kept: leaving one out would change the last bits.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


class Substeps:
    """Replaces `forward` and `step` of a simulation while an action is executed. Whatever else
    changes the state (a reset, a restored state) happens outside of that."""

    def __init__(self, sim) -> None:
        import mujoco

        self._sim, self._mujoco = sim, mujoco
        self._model, self._data = sim.model._model, sim.data._data
        self._known = False  # whether positions and velocities are those of the last pass
        integrator = mujoco.mjtIntegrator(self._model.opt.integrator)
        self._plain = integrator == mujoco.mjtIntegrator.mjINT_RK4  # has passes of its own

    @contextmanager
    def once(self) -> Iterator[None]:
        """Within the block nothing is computed twice."""
        if self._plain:
            yield
            return
        self._known = False
        methods = vars(self._sim)  # of this one object, before those of its class
        methods |= {"forward": self._forward, "step": self._step}
        try:
            yield
        finally:
            del methods["forward"], methods["step"]

    def _forward(self) -> None:
        if self._known:
            self._mujoco.mj_forwardSkip(
                self._model, self._data, self._mujoco.mjtStage.mjSTAGE_VEL, 0
            )
        else:
            self._mujoco.mj_forward(self._model, self._data)
        self._known = True

    def _step(self, with_udd: bool = True) -> None:
        if self._known:
            self._mujoco.mj_step2(self._model, self._data)
        else:
            self._mujoco.mj_step(self._model, self._data)
        self._known = False
