"""Names of what lies elsewhere."""

from types import SimpleNamespace

import pytest

from depthtok.remote.location import Location, located

COMMIT = "c" * 40


@pytest.mark.parametrize(
    ("url", "pinned"),
    [
        ("hf://datasets/lab/set/1.0.0", f"hf://datasets/lab/set@{COMMIT}/1.0.0"),
        ("hf://datasets/lab/set@main", f"hf://datasets/lab/set@{COMMIT}"),
        ("hf://lab/set/1.0.0", f"hf://datasets/lab/set@{COMMIT}/1.0.0"),
        ("hf://models/lab/set/1.0.0", f"hf://models/lab/set@{COMMIT}/1.0.0"),
    ],
)
def test_a_commit_is_of_the_same_repository(url, pinned, monkeypatch):
    objects = SimpleNamespace(revision=COMMIT)
    monkeypatch.setattr(Location, "objects", property(lambda self: objects))
    location = located(url)
    assert isinstance(location, Location)
    assert location.pinned == pinned
    assert located(pinned).pinned == pinned
