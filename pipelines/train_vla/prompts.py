"""The instructions of a training, looked over before it starts; not a command itself."""

from __future__ import annotations

from depthtok.log import say, warn
from vla.data.dataset import Dataset
from vla.data.prompts import Prompts


def look_over(
    learn: Dataset, validation: Dataset | None, *, begun: bool = False, quiet: bool = False
) -> Prompts:
    """What the model will read of all instructions that it learns or is validated by; said
    on stderr unless `quiet`.

    Raises `ConfigError` where different instructions become one prompt, unless the settings allow
    it, or the training was `begun` before: that goes on as it is.
    """
    import numpy as np

    from depthtok.stores.instructions import read
    from vla.data import prompts

    used: dict = {}
    for member in (*learn.members, *(validation.members if validation else ())):
        none = np.zeros(len(member.episodes.lengths), bool)
        _, marks = used.setdefault(member.name, (member.episodes, none))
        marks[member.episodes_used] = True
    drawn = learn.config.data.instruction == "draw"
    texts = [(name, read(store, marks, drawn=drawn)) for name, (store, marks) in used.items()]
    prompts_read = prompts.check(texts, learn.tokenizer, learn.config.model.max_text)
    if learn.config.data.equal_prompts == "refuse" and not begun:
        prompts_read.require_distinct()
    if not quiet:
        say(f"instructions: {prompts_read.line()}", json=True)
        for text in prompts_read.warnings():
            warn(text)
    return prompts_read
