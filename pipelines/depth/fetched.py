"""Published weights as they were fetched: which commit and which bytes, against what is known."""

from __future__ import annotations

import os
import re
from pathlib import Path

from depthtok.disk.digests import file_sha256
from depthtok.errors import WeightsError
from depthtok.installation import hub_cache
from depthtok.log import warn
from depthtok.remote.repository import recorded
from pipelines.depth.da3.published import PUBLISHED as DA3
from pipelines.depth.gem.published import PUBLISHED as GEM
from pipelines.depth.origin import WeightsOrigin
from pipelines.depth.vida.published import PUBLISHED as VIDA
from pipelines.depth.vida.published import Published, cached

_SHA256 = re.compile(r"[0-9a-f]{64}")


def sha256_of(path: Path, *, fresh: bool) -> str:
    """SHA-256 of a file. In the Hub's cache it is a link to one that is named so, and not read
    unless it is `fresh`, for that is the name that was promised."""
    name = path.resolve().name
    return name if _SHA256.fullmatch(name) and not fresh else file_sha256(path)


def require_known(name: str, published: Published, path: Path, *, fresh: bool) -> None:
    """Raises `WeightsError` where the file is another one than that which is published, as far as
    its hash is known; a `fresh` one that is not is deleted. Says so where none is known."""
    sha256 = sha256_of(path, fresh=fresh)
    if not published.sha256:
        if fresh:
            warn(
                f"no hash of the weights of {name} is known to depthtok: taken as they came from "
                f"{recorded(path)}, SHA-256 {sha256}"
            )
        return
    if sha256 == published.sha256:
        return
    url = recorded(path)
    if fresh:
        path.resolve().unlink()
        path.unlink(missing_ok=True)
    raise WeightsError(
        f"{published.file} of {url} has the SHA-256 {sha256[:16]}, that of {name} is known to be "
        f"{published.sha256[:16]}",
        remedy="fetch it again; if it was published anew and you trust it, give its path with "
        "--weights",
    )


def fetched_from(name: str) -> dict[str, str]:
    """What a store records of weights that came from the Hub: commit, file and SHA-256; {} for
    those that did not."""
    published = {**VIDA, **DA3, **GEM}.get(name)
    path = published and cached(published, hub_cache(os.environ))
    if not published or not path:
        return {}
    digest = sha256_of(path, fresh=False)
    return {"weights_from": f"{recorded(path)} {published.file} sha256={digest}"}


def weights_of(origin: WeightsOrigin | None, given: Path | None, name: str) -> dict[str, str]:
    """What a store records of where its estimator's weights are from: in words what they are of,
    and, where no file was `given`, what was fetched of the Hub."""
    said = {"weights": str(origin)} if origin else {}
    return said if given else said | fetched_from(name)
