"""OpenGL contexts of several simulators in one process.

MuJoCo frees a renderer's buffers and textures by their numbers, in whichever context is current,
also when Python collects it. Is that another simulator's context, then this one's are gone: it goes
on, and its pictures are what happened to lie in memory. So they are held here, where they outlive
who drew with them, and freed while nothing is drawn, their own context being current.

Who draws makes a context current first, always: `release` leaves none.
"""

from __future__ import annotations

import weakref

import mujoco

_unused: list[tuple[mujoco.GLContext, mujoco.MjrContext]] = []


def hold(
    owner: object, context: mujoco.GLContext, buffers: mujoco.MjrContext
) -> weakref.finalize[..., object]:
    """Holds a context and MuJoCo's buffers in it; they are freed by the first `release` after their
    owner is gone, or after a call of what is returned."""
    end = weakref.finalize(owner, _unused.append, (context, buffers))
    end.atexit = False  # then the process frees them
    return end


def release() -> None:
    """Frees what nobody draws with any more. Not while anything is drawn."""
    while _unused:
        context, buffers = _unused.pop()
        context.make_current()
        buffers.free()
        context.free()


class Renderer(mujoco.Renderer):
    """MuJoCo's renderer, which may be closed, or forgotten, beside others."""

    _gl_context: mujoco.GLContext | None
    _mjr_context: mujoco.MjrContext | None

    def __init__(self, model: mujoco.MjModel, size: int) -> None:
        super().__init__(model, size, size)
        self._end = hold(self, self._gl_context, self._mjr_context)

    def close(self) -> None:
        if "_end" in vars(self):  # it has been made
            self._end()
        self._gl_context = self._mjr_context = None
