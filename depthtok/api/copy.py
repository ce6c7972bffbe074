"""copy: a store to a bucket, the Hub or another disk, and back."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from depthtok.api.parameters import Flag, Positional
from depthtok.signals import stoppable

if TYPE_CHECKING:
    from depthtok.copies.copying import Copied


def copy(
    store: Annotated[Path, Positional("STORE", "a store, or the URL of one")],
    to: Annotated[Path, Positional("TO", "a URL, or a directory: new, or to go on with")],
    then_verify: Annotated[bool, "then read every byte at the other end, and compare"] = False,
    parts_at_once: Annotated[int, Flag("parts that are copied at the same time", least=1)] = 8,
) -> Copied:
    """Copy a store to a bucket or a disk, or from there.

    Parts go in parallel, and what makes them a store goes last. Given again, it goes on. In a
    bucket a part is one object; s3://, gs://, az:// and hf:// are known.

    Example: depthtok copy runs/codes s3://bucket/libero/codes --then-verify
    """
    from depthtok.copies.copying import copy_store
    from depthtok.remote.location import located

    with stoppable():
        return copy_store(
            located(store), located(to), then_verify=then_verify, at_once=parts_at_once
        )
