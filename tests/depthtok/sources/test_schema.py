from dataclasses import dataclass

import numpy as np
import pytest

from depthtok.errors import CorruptRecord, SchemaError
from depthtok.orientation import Orientation
from depthtok.sources.cameras import CameraSchema, depth_scale
from depthtok.sources.schema import Schema
from depthtok.sources.table import SchemaTable
from depthtok.stores.placeholders import NotMeasured


@dataclass(frozen=True)
class Feature:
    kind: str
    dtype: str
    shape: tuple[int | None, ...]
    per_step: bool = True
    encoding: str = "none"


class Raw:
    """An episode made of a dictionary."""

    index = 7

    def __init__(self, steps: int, **data):
        self.steps = steps
        self.data = {path.replace("__", "/"): value for path, value in data.items()}

    @property
    def features(self):
        return {}

    def __len__(self) -> int:
        return self.steps

    def values(self, path: str) -> np.ndarray:
        return np.asarray(self.data[path])

    def text(self, path: str) -> list[str] | str:
        return self.data[path]

    def texts(self, path: str) -> list[tuple[str, ...]]:
        value = self.data[path]
        entries = [value] if isinstance(value, str) else value
        return [(entry,) if isinstance(entry, str) else tuple(entry) for entry in entries]


SMALL = """
datasets = ["small"]
status = "verified"
fps = 5
instruction = "steps/text"
gripper = "open1_closed0"
[[camera]]
name = "front"
key = "steps/image"
orientation = "identity"
depth_key = "steps/depth"
depth_unit = "mm"
[[action]]
from = "steps/action"
take = "0:2"
dims = ["x", "y"]
[[action]]
fill = 0
dims = ["z"]
[[action]]
from = "steps/action"
take = "-1"
ops = ["clip 0 1", "invert"]
dims = ["gripper"]
[[proprio]]
from = "steps/state"
dims = ["x", "y"]
"""
SMALL_FEATURES = {
    "steps/image": Feature("image", "uint8", (8, 8, 3)),
    "steps/depth": Feature("tensor", "uint16", (8, 8)),
    "steps/text": Feature("text", "str", ()),
    "steps/action": Feature("tensor", "float32", (3,)),
    "steps/state": Feature("tensor", "float64", (2,)),
}


@pytest.fixture
def small(tmp_path):
    def make(old: str = "", new: str = "") -> Schema:
        assert old in SMALL
        path = tmp_path / "small.toml"
        path.write_text(SMALL.replace(old, new) if old else SMALL, "utf-8")
        return Schema.load(path)

    return make


def test_json_holds_what_changes_results_and_nothing_else(small):
    schema = small()
    assert Schema.from_json(schema.to_json()) == schema
    assert (
        small('status = "verified"', 'status = "unseen"\nnotes = "n"').to_json() == schema.to_json()
    )
    assert small('take = "0:2"', 'take = "1:3"').to_json() != schema.to_json()
    assert small("fps = 5", "fps = 6") != schema


def test_action_and_state(small):
    raw = Raw(2, steps__action=[[1, 2, -1], [3, 4, 1]], steps__state=[[5, 6], [7, 8]])
    action = small().action(raw)
    assert action.dtype == np.float32
    assert action.tolist() == [[1, 2, 0, 1], [3, 4, 0, 0]]
    assert small().proprio(raw).tolist() == [[5, 6], [7, 8]]
    assert small().action(Raw(0)).shape == (0, 4)


@pytest.mark.parametrize(
    ("take", "columns"), [("6", [6]), ("-1", [7]), ("-2:", [6, 7]), ("0:2, 5", [0, 1, 5])]
)
def test_take(small, take, columns):
    dims = [f"d{i}" for i in range(len(columns))]
    text = f'from = "steps/state"\ntake = "{take}"\ndims = {dims}'
    schema = small('from = "steps/state"\ndims = ["x", "y"]', text)
    schema.check(SMALL_FEATURES | {"steps/state": Feature("tensor", "float32", (2, 4))})
    assert schema.proprio(Raw(1, steps__state=[[range(4), range(4, 8)]])).tolist() == [columns]


@pytest.mark.parametrize(
    ("bad", "place"), [(np.nan, "step 1: the data have"), (1e300, "step 1: the operations produce")]
)
def test_numbers_that_are_not_finite_are_named(small, bad, place):
    raw = Raw(2, steps__action=np.array([[1, 2, 0], [3, bad, 1]]))
    with pytest.raises(CorruptRecord, match=f"episode 7, steps/action, {place}"):
        small().action(raw)


def test_keep(small):
    schema = small("[[proprio]]", '[keep]\ndrop_first_if_zero = "steps/action"\n[[proprio]]')
    assert schema.keep(Raw(3, steps__action=[[0, 0], [1, 0], [0, 0]])) == slice(1, 3)
    assert schema.keep(Raw(3, steps__action=[[0, 1], [1, 0], [0, 0]])) == slice(0, 3)
    with pytest.raises(SchemaError, match="keep: 'steps/text' is text"):
        small("[[proprio]]", '[keep]\ndrop_first_if_zero = "steps/text"\n[[proprio]]').check(
            SMALL_FEATURES
        )
    counts = small("[[proprio]]", "[keep]\ndrop_first = 2\ndrop_last = 2\n[[proprio]]")
    assert counts.keep(Raw(5)) == slice(2, 3)
    assert counts.keep(Raw(3)) == slice(2, 2)


def test_instructions(small):
    """Of alternatives the first that is not empty comes first."""

    def first(schema, raw):
        return [texts[0] for texts in schema.instructions_of(raw)]

    assert first(small(), Raw(2, steps__text=["a", "b"])) == ["a", "b"]
    assert first(small(), Raw(2, steps__text="a")) == ["a"]
    three = small('instruction = "steps/text"', 'instruction = ["a", "b", "c"]')
    assert first(three, Raw(3, a=["", "p", " "], b=["q", "r", ""], c="s")) == ["q", "p", "s"]
    assert first(three, Raw(3, a="", b="", c="")) == [""]
    assert first(small('instruction = "steps/text"', "instruction = []"), Raw(2)) == [""]


def test_intrinsics():
    schema = Schema.load("libero_sim_depth")
    key = "episode_metadata__camera_intrinsics"
    assert schema.intrinsics(Raw(2, **{key: np.arange(9)}), "image") == tuple(range(9))
    assert Schema.load("libero").intrinsics(Raw(2), "image") is None
    moving = Raw(2, **{key: np.arange(18).reshape(2, 3, 3)})
    with pytest.raises(CorruptRecord, match="not finite, or not constant"):
        schema.intrinsics(moving, "image")


def test_optional_parts_are_left_out(small):
    features = {key: feature for key, feature in SMALL_FEATURES.items() if key != "steps/depth"}
    with pytest.raises(SchemaError, match="steps/depth"):
        small().check(features)
    fitted = small('depth_unit = "mm"', 'depth_unit = "mm"\ndepth_optional = true').fitted(features)
    assert (fitted.cameras[0].depth_key, fitted.cameras[0].depth_unit) == (None, None)


def test_orientation_is_an_enum(small):
    assert small().cameras[0].orientation is Orientation.IDENTITY


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"steps/image": None, "steps/imagee": Feature("image", "uint8", (8, 8, 3))}, "imagee'"),
        ({"steps/image": Feature("image", "uint8", (8, 8, 1))}, "not an image"),
        ({"steps/depth": Feature("tensor", "uint16", (4, 4, 1))}, "the image's size"),
        ({"steps/depth": Feature("text", "str", ())}, "one number per pixel"),
        ({"steps/text": Feature("tensor", "float32", (3,))}, "not text"),
        ({"steps/action": Feature("tensor", "float32", (1,))}, "does not fit 1 columns"),
        ({"steps/action": Feature("image", "uint8", (8, 8, 3))}, "not numbers"),
        ({"steps/action": Feature("tensor", "float32", (3,), False)}, "fixed number of values"),
        (
            {"steps/state": Feature("tensor", "float32", (3,))},
            "there are 3 columns, but dims names 2",
        ),
        ({"steps/state": None}, "proprio from 'steps/state'"),
    ],
)
def test_features_that_do_not_fit(small, change, says):
    features = {k: f for k, f in (SMALL_FEATURES | change).items() if f is not None}
    with pytest.raises(SchemaError, match=says) as error:
        small().check(features, "my_data")
    assert "schema 'small', data set 'my_data'" in error.value.problem
    assert error.value.remedy


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("fps = 5", "fsp = 5", "'fps' is missing"),
        ("fps = 5", "fps = 5\nlicense = ''", "Did you mean 'licence'"),
        ("fps = 5", "fps = 0", "frames per second"),
        ("fps = 5", "fps = '5'", "not a number"),
        ('status = "verified"', 'status = "verifed"', "Did you mean 'verified'"),
        ('"identity"', '"rotated180"', "Did you mean 'rotate180'"),
        ('"open1_closed0"', '"none"', "gripper = 'none'"),
        ('depth_unit = "mm"', "", "must be given together"),
        ('depth_unit = "mm"', 'depth_unti = "mm"', "Did you mean 'depth_unit'"),
        ('dims = ["z"]', 'dims = ["x"]', "action 'x' is defined twice"),
        ('dims = ["z"]', "dims = []", "dims is empty"),
        ('dims = ["z"]', "dims = [1]", "write texts"),
        ('take = "0:2"', 'take = "0-2"', "cannot be parsed"),
        ('take = "0:2"', 'take = "2:2"', "selects no column"),
        ("fill = 0", 'fill = 0\nfrom = "steps/action"', "unknown field 'from'"),
        ("[[camera]]", "[camera]", "not a list"),
        ('"invert"]', '"inverted"]', "Did you mean 'invert'"),
        ("[[proprio]]", "[keep]\ndrop_last = -1\n[[proprio]]", "negative count"),
        ("fps = 5", "fps = ", "is not TOML"),
    ],
)
def test_files_that_are_not_schemas(small, old, new, says):
    with pytest.raises(SchemaError, match=r"(?s)small\.toml.*" + says.replace("(", r"\(")):
        small(old, new)


def test_a_file_that_is_no_text_is_refused(tmp_path):
    path = tmp_path / "small.toml"
    path.write_bytes(b'source = "\xff"')
    with pytest.raises(SchemaError, match=r"small\.toml cannot be read") as caught:
        Schema.load(path)
    assert "UTF-8" in caught.value.remedy


@pytest.mark.parametrize(
    ("unit", "scale"),
    [
        ("m", 1.0),
        ("cm", 0.01),
        ("mm", 0.001),
        ("m/1000", 0.001),
        ("m/1024", 1 / 1024),
        ("m/10000", 1e-4),
        ("m/5000", 2e-4),
        ("m/256.5", 1 / 256.5),
        ("unknown", None),
    ],
)
def test_depth_has_any_scale(small, unit, scale):
    (camera,) = small('depth_unit = "mm"', f'depth_unit = "{unit}"').cameras
    assert depth_scale(camera.depth_unit, "here") == scale


@pytest.mark.parametrize(
    "unit", ["0.0001 m", "0.1mm", "M", "m/0", "m/-5", "m/", "m/1e4", "m/x", ""]
)
def test_a_unit_that_is_none_is_refused_with_the_way_to_write_it(small, unit):
    with pytest.raises(SchemaError) as error:
        small('depth_unit = "mm"', f'depth_unit = "{unit}"')
    assert "m/10000 where one is 0.1 mm" in error.value.remedy


def test_what_is_no_measurement_is_said_in_the_schema(small):
    stated = 'depth_unit = "mm"\ndepth_invalid = [65535, 9.5]\ndepth_max = 10'
    (camera,) = small('depth_unit = "mm"', stated).cameras
    assert camera.not_measured == NotMeasured((65535, 9.5), 10.0)
    table = camera.to_json()
    assert (table["depth_invalid"], table["depth_max"]) == ([65535, 9.5], 10.0)
    assert CameraSchema.parse(SchemaTable(table, "again")) == camera
    (camera,) = small().cameras
    assert camera.not_measured == NotMeasured()
    assert not {"depth_invalid", "depth_max"} & camera.to_json().keys()


@pytest.mark.parametrize(
    ("stated", "says"),
    [
        ('depth_invalid = ["65535"]', "are not stored numbers"),
        ("depth_invalid = [true]", "are not stored numbers"),
        ("depth_invalid = 65535", "is not a list"),
        ("depth_max = 0", "depth_max = 0 is no depth"),
        ("depth_max = -2.0", "depth_max = -2 is no depth"),
        ("depth_max = inf", "depth_max = inf is no depth"),
        ("depth_max = nan", "depth_max = nan is no depth"),
        ('depth_max = "10"', "is not a number"),
    ],
)
def test_what_is_no_measurement_must_make_sense(small, stated, says):
    with pytest.raises(SchemaError, match=says):
        small('depth_unit = "mm"', f'depth_unit = "mm"\n{stated}')


def test_there_is_no_invalid_depth_without_depth(small):
    text = 'depth_key = "steps/depth"\ndepth_unit = "mm"\n'
    with pytest.raises(SchemaError, match="without depth_key"):
        small(text, "depth_max = 3.0\n")
    features = {key: feature for key, feature in SMALL_FEATURES.items() if key != "steps/depth"}
    stated = text + "depth_optional = true\ndepth_max = 3.0\ndepth_invalid = [1]\n"
    assert small(text, stated).fitted(features).cameras[0].not_measured == NotMeasured()


FLAGGED = SMALL.replace(
    'key = "steps/image"\n', 'key = "steps/image"\npresent_key = "has_front"\nchannels = "bgr"\n'
)


def test_a_camera_states_its_flag_and_the_order_of_its_colours(tmp_path):
    (tmp_path / "flagged.toml").write_text(FLAGGED)
    schema = Schema.load(tmp_path / "flagged.toml")
    camera = schema.cameras[0]
    assert (camera.present_key, camera.channels) == ("has_front", "bgr")
    assert Schema.from_json(schema.to_json()).cameras == schema.cameras
    (tmp_path / "small.toml").write_text(SMALL)
    table = Schema.load(tmp_path / "small.toml").to_json()["camera"][0]
    assert not {"present_key", "channels"} & table.keys()  # as former versions described it


@pytest.mark.parametrize(
    ("flag", "problem"),
    [
        (None, "no feature 'has_front'"),
        (Feature("scalar", "float32", (), per_step=False), "is scalar of float32"),
        (Feature("tensor", "bool", (4,), per_step=False), r"\(4,\)"),
    ],
)
def test_a_flag_is_one_truth_value(tmp_path, flag, problem):
    (tmp_path / "flagged.toml").write_text(FLAGGED)
    camera = Schema.load(tmp_path / "flagged.toml").cameras[0]
    features = {
        "steps/image": Feature("image", "uint8", (8, 8, 3)),
        "steps/depth": Feature("tensor", "uint16", (8, 8)),
    }
    if flag is not None:
        features["has_front"] = flag
    with pytest.raises(SchemaError, match=problem):
        camera.fitted(features, "here")
    features["has_front"] = Feature("scalar", "bool", (), per_step=False)
    assert camera.fitted(features, "here") == camera


def test_colours_have_no_other_order(tmp_path):
    (tmp_path / "odd.toml").write_text(FLAGGED.replace('"bgr"', '"yuv"'))
    with pytest.raises(SchemaError, match="rgb"):
        Schema.load(tmp_path / "odd.toml")
