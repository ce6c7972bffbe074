"""Every orientation is undone: pictures and depth become what the camera saw."""

import json

import numpy as np
import pytest

from depthtok.data import DepthKind, ImageTransform
from depthtok.errors import ConfigError
from depthtok.orientation import Orientation

SEEN = np.arange(2 * 3 * 4 * 3, dtype=np.uint8).reshape(2, 3, 4, 3)
PUBLISHED = {
    "identity": SEEN,
    "rotate180": np.rot90(SEEN, 2, axes=(1, 2)),
    "mirror": np.flip(SEEN, 2),
    "flip": np.flip(SEEN, 1),
}


@pytest.mark.parametrize("orientation", [*Orientation])
def test_a_published_image_becomes_the_true_view(orientation):
    transform = ImageTransform(true_view=orientation)
    assert ImageTransform.from_json(json.loads(json.dumps(transform.to_json()))) == transform
    if orientation is Orientation.UNKNOWN:
        with pytest.raises(ConfigError, match="orientation is unknown"):
            transform.rgb(SEEN)
        return
    published = PUBLISHED[orientation]
    depth = published[..., 0].astype(np.float32)
    assert np.array_equal(transform.rgb(published), SEEN)
    assert np.array_equal(transform.depth(depth, DepthKind.METRES), SEEN[..., 0])
