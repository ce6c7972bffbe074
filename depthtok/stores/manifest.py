"""Manifests: what belongs to a part, as JSON that ends with the digest of everything before."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from depthtok.config import canonical_json
from depthtok.disk.digests import REPAIR
from depthtok.errors import CorruptPart, as_written

MANIFEST = "manifest.json"
_TAIL = ',"sha256":"%s"}\n'


def pack_manifest(content: Mapping[str, object]) -> bytes:
    """Manifest bytes: canonical JSON that ends with the digest of everything before."""
    body = canonical_json(content)
    return (body[:-1] + _TAIL % hashlib.sha256(body.encode()).hexdigest()).encode()


def unpack_manifest(data: bytes, path: Path) -> tuple[dict[str, Any], str]:
    """The manifest's content and digest. Raises `CorruptPart` for any change of its bytes."""
    tail = len(_TAIL % ("0" * 64))
    body = data[:-tail] + b"}"
    digest = hashlib.sha256(body).hexdigest()
    if data[-tail:] != (_TAIL % digest).encode():
        raise CorruptPart(f"{path} is damaged", remedy=REPAIR)
    with as_written(path, REPAIR):
        content = json.loads(body)
    if not isinstance(content, dict):
        raise CorruptPart(f"{path} holds no JSON object", remedy=REPAIR)
    return content, digest
