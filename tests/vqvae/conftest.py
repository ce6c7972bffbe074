from __future__ import annotations

import pytest

from tests.vqvae.synthetic import scenes
from vqvae.data.clips import ClipSource


@pytest.fixture
def source() -> ClipSource:
    return ClipSource("synthetic", "f0", scenes(6))
