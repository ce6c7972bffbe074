"""OpenGL contexts of several simulators in one process.

MuJoCo frees a renderer's buffers and textures by their numbers, in whichever context is current. Is
that another simulator's, then this one's are gone: it goes on, and its pictures are what happened
to lie in memory. And a simulator that nobody closed is freed when Python comes to it, perhaps
between two lines of another's drawing. So what is to be freed is kept here until nothing is drawn,
and its own context is current then.

Who draws makes a context current first, always: `release` leaves none.
"""

from __future__ import annotations

from typing import Any

import mujoco

_unused: list[tuple[Any, mujoco.MjrContext]] = []


def retire(gl: Any, renderer: mujoco.MjrContext) -> None:
    """Has a context and MuJoCo's buffers in it freed, later."""
    _unused.append((gl, renderer))


def release() -> None:
    """Frees what has been retired. Not while anything is drawn."""
    while _unused:
        gl, renderer = _unused.pop()
        gl.make_current()
        renderer.free()
        gl.free()


class Renderer(mujoco.Renderer):
    """MuJoCo's renderer, which may be closed, or forgotten, beside others."""

    _gl_context: Any
    _mjr_context: Any

    def close(self) -> None:
        if self._gl_context is not None:
            retire(self._gl_context, self._mjr_context)
            self._gl_context = self._mjr_context = None


def retire_offscreen(context: Any) -> None:
    """The end of a render context of robosuite, instead of its own `__del__`."""
    retire(context.gl_ctx, context.con)
