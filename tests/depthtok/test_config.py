"""Settings: strict reading, canonical JSON, stable digests."""

from dataclasses import dataclass, field, replace
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Literal

import pytest

from depthtok.config import (
    RunOptions,
    built,
    digest,
    from_mapping,
    load_toml,
    parse_settings,
    setting_text,
    to_json,
)
from depthtok.errors import ConfigError
from depthtok.required import require


class Shape(StrEnum):
    ROUND = "round"
    SQUARE = "square"


@dataclass(frozen=True)
class Inner:
    depth: int = 2


@dataclass(frozen=True)
class Everything:
    steps: Annotated[int, "steps"]
    rate: Annotated[float, "learning rate"] = 1e-3
    name: str = "x"
    flag: bool = False
    out: Path | None = None
    sizes: tuple[int, ...] = ()
    window: tuple[int, float] = (3, 0.5)
    shape: Shape = Shape.ROUND
    mode: Literal["a", "b"] = "a"
    mixed: int | str = 1
    table: dict[str, float] = field(default_factory=dict)
    inner: Inner = Inner()

    def __post_init__(self) -> None:
        require(self.steps > 0, "steps", self.steps, "give 1 or more")


def test_every_type_is_read_from_toml_values():
    got = from_mapping(
        Everything,
        {
            "steps": 5,
            "rate": 1,
            "out": "a/b",
            "sizes": [1, 2],
            "window": [4, 1],
            "shape": "square",
            "mode": "b",
            "mixed": "word",
            "table": {"k": 2},
            "inner": {"depth": 7},
        },
        "f.toml",
    )
    assert got == Everything(
        steps=5,
        rate=1.0,
        out=Path("a/b"),
        sizes=(1, 2),
        window=(4, 1.0),
        shape=Shape.SQUARE,
        mode="b",
        mixed="word",
        table={"k": 2.0},
        inner=Inner(7),
    )
    assert isinstance(got.rate, float)
    assert isinstance(got.window[1], float)


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"stps": 1}, ["f.toml", "'stps'", "Did you mean 'steps'?"]),
        ({}, ["f.toml", "`steps` is not given"]),
        ({"steps": 0}, ["f.toml", "`steps` cannot be 0", "1 or more"]),
        ({"steps": "5"}, ["`steps` cannot be '5'", "a whole number"]),
        ({"steps": True}, ["`steps` cannot be True"]),
        ({"steps": 1.0}, ["`steps` cannot be 1.0"]),
        ({"steps": 1, "rate": "1e-4"}, ["`rate` cannot be '1e-4'", "a number"]),
        ({"steps": 1, "rate": float("nan")}, ["`rate` cannot be nan"]),
        ({"steps": 1, "rate": False}, ["`rate` cannot be False"]),
        ({"steps": 1, "name": 3}, ["`name` cannot be 3", "text"]),
        ({"steps": 1, "flag": 1}, ["`flag` cannot be 1", "true or false"]),
        ({"steps": 1, "out": 1}, ["`out` cannot be 1", "a path"]),
        ({"steps": 1, "out": ""}, ["`out` cannot be ''"]),
        ({"steps": 1, "sizes": ["a"]}, ["`sizes` cannot be 'a'"]),
        ({"steps": 1, "sizes": 3}, ["`sizes` cannot be 3", "a list of a whole number"]),
        ({"steps": 1, "window": [1]}, ["`window` has 1 entries", "give 2"]),
        ({"steps": 1, "shape": "squar"}, ["`shape` cannot be 'squar'", "Did you mean 'square'?"]),
        ({"steps": 1, "mode": "c"}, ["`mode` cannot be 'c'", "'a' or 'b'"]),
        ({"steps": 1, "mixed": 1.5}, ["`mixed` cannot be 1.5"]),
        ({"steps": 1, "inner": {"dept": 1}}, ["`inner`", "'dept'", "Did you mean 'depth'?"]),
        ({"steps": 1, "inner": 3}, ["`inner` cannot be 3", "a table"]),
        ({"steps": 1, "table": {"k": "v"}}, ["`table`.k cannot be 'v'"]),
    ],
)
def test_nonsense_is_refused_with_field_value_and_remedy(wrong, words):
    with pytest.raises(ConfigError) as caught:
        from_mapping(Everything, wrong, "f.toml")
    assert caught.value.remedy
    for word in words:
        assert word in str(caught.value)


def test_flags_beat_defaults():
    got = built(Everything, {"steps": 5, "flag": False})
    assert (got.steps, got.name, got.flag) == (5, Everything(1).name, False)
    with pytest.raises(ConfigError, match="`steps` is not given"):
        built(Everything, {})


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (True, "true"),
        (2.0, "2.0"),
        ("auto", "auto"),
        ("2024", '"2024"'),
        ("true", '"true"'),
        (Path("a b/c"), "a b/c"),
        (Shape.SQUARE, "square"),
        (("left", "größer"), '["left", "größer"]'),
        ((3, 4), "[3, 4]"),
    ],
)
def test_a_setting_is_written_as_it_is_read(value, text):
    assert setting_text(value) == text
    assert parse_settings([f"x={text}"]) == {"x": to_json(value)}


def test_json_goes_there_and_back():
    config = Everything(3, out=Path("a") / "b", shape=Shape.SQUARE, sizes=(1,), inner=Inner(9))
    plain = to_json(config)
    assert plain["out"] == "a/b"
    assert plain["shape"] == "square"
    assert plain["sizes"] == [1]
    settings = {key: value for key, value in plain.items() if value is not None}
    assert from_mapping(Everything, settings, "json") == config


def test_digest_is_stable_and_sees_every_field():
    config = Everything(3)
    assert digest(config) == digest(to_json(config))
    assert digest(Everything(3, rate=1)) == digest(Everything(3, rate=1.0))
    assert digest({"b": 1, "a": (2,)}) == digest({"a": [2], "b": 1})
    # Pinned: a change here makes every store in the world stale.
    assert digest({"a": [1, 2.5, None, True, "é"]}) == (
        "db37d9de159dd00a10f7dcf8e139b0cd6f197a37e4235d2328966830b241c8ad"
    )
    others = [replace(config, steps=4), replace(config, inner=Inner(3)), replace(config, name="y")]
    assert len({digest(settings) for settings in [config, *others]}) == 4
    with pytest.raises(ConfigError, match="no fingerprint"):
        digest({"x": float("inf")})
    with pytest.raises(ConfigError, match="Everything: `steps` cannot be 'three'"):
        digest(_mistyped())


def _mistyped() -> Everything:
    config = Everything(3)
    object.__setattr__(config, "steps", "three")
    return config


def test_toml_errors_name_file_and_line(tmp_path):
    path = tmp_path / "a.toml"
    path.write_text("x = 1\ny = = 2\n")
    with pytest.raises(ConfigError, match=r"a\.toml: .*line 2"):
        load_toml(path)
    with pytest.raises(ConfigError, match="No such file"):
        load_toml(tmp_path / "absent.toml")
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigError, match="not UTF-8"):
        load_toml(path)


@pytest.mark.parametrize(
    "wrong",
    [
        {"workers": -1},
        {"ray_address": "auto"},
        {"gpus_per_worker": -0.5},
        {"cpus_per_worker": 0},
        {"shard": "0/4"},
        {"shard": "5/4"},
        {"shard": "1-4"},
        {"limit": 0},
        {"device": "gpu"},
    ],
)
def test_run_options_reject_nonsense(wrong):
    (name, value), *_ = wrong.items()
    with pytest.raises(ConfigError) as caught:
        RunOptions(**wrong)
    assert f"`{name}` cannot be {value!r}" in caught.value.problem
    assert caught.value.remedy


def test_shards_share_out_the_work_without_gap_or_overlap():
    items = list("abcdefghij")
    jobs = [RunOptions(shard=f"{i}/3").mine(items) for i in (1, 2, 3)]
    assert sorted(item for job in jobs for item in job) == items
    assert max(map(len, jobs)) - min(map(len, jobs)) <= 1
    assert RunOptions().mine(items) == items
