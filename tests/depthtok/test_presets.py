"""Settings by name: in a folder, or in a file of one's own."""

from pathlib import Path

import pytest

from depthtok.errors import ConfigError
from depthtok.presets import file_of, names


def test_a_name_is_a_file_of_the_folder(tmp_path):
    for name in ("paper", "default"):
        (tmp_path / f"{name}.toml").write_text("steps = 7\n")
    (tmp_path / "notes.txt").write_text("")
    assert names(tmp_path) == ["default", "paper"]
    assert file_of(tmp_path, "paper") == tmp_path / "paper.toml"
    with pytest.raises(ConfigError, match="arm = 'papr' is not known") as caught:
        file_of(tmp_path, "papr", "arm")
    assert caught.value.remedy == "Did you mean 'paper'?"


@pytest.mark.parametrize("name", ["own/paper.toml", "config.json"])
def test_what_ends_like_a_file_is_one(tmp_path, name):
    assert file_of(tmp_path, name) == Path(name)
