"""The tokenizer of a training: from the weights, from the run that goes on, or asked for."""

import pytest

from depthtok.errors import ConfigError, StaleStore, WeightsError
from depthtok.testing import make_tokenizer
from tests.vla.fakes import FakeCodebook, toy
from vla.data.tokenizer import load
from vla.named_configs import load as preset
from vla.named_configs import presets
from vla.training import checkpoint
from vla.training.train import train
from vla.weights.pretrained import reader, resolved, tokenizer_of

pytest.importorskip("tokenizers")

PALIGEMMA = {"model.vocabulary": 257_216}


@pytest.fixture
def weights(tmp_path):
    """A folder of weights with their tokenizer; nothing reads the weights themselves here."""
    return make_tokenizer(tmp_path / "paligemma", ["open", "lid"])


@pytest.fixture
def bare(tmp_path):
    """Weights that bring no tokenizer: a folder, and a file."""
    (tmp_path / "bare").mkdir()
    (tmp_path / "bridge_beta.pt").write_bytes(b"x")
    return [str(tmp_path / "bare"), str(tmp_path / "bridge_beta.pt")]


def named(config):
    return config.data.tokenizer


@pytest.mark.parametrize("vocabulary", [260, 257_216])
def test_it_comes_from_the_weights(weights, vocabulary):
    config = resolved(preset("tiny", {"model.vocabulary": vocabulary}), str(weights))
    assert named(config) == str(weights / "tokenizer.json")
    assert reader(config).content == (weights / "tokenizer.json").read_bytes()


def test_the_same_one_may_be_named_and_no_other(weights, tmp_path):
    other = make_tokenizer(tmp_path / "other", ["close", "lid"])
    copy = make_tokenizer(tmp_path / "copy", ["open", "lid"])
    config = preset("tiny", {"data.tokenizer": str(copy), **PALIGEMMA})
    assert resolved(config, str(weights)) == config
    for wrong in ("bytes", str(other)):
        config = preset("tiny", {"data.tokenizer": wrong, **PALIGEMMA})
        with pytest.raises(ConfigError, match=r"was trained with the tokenizer .*paligemma"):
            resolved(config, str(weights))


def test_weights_without_one_need_it_named(bare, weights):
    for name in bare:
        for wrong in ("auto", "bytes"):
            config = preset("qdepth", {"data.tokenizer": wrong})
            with pytest.raises(ConfigError, match=r"brings no tokenizer\.json(.|\n)*FOLDER"):
                resolved(config, name)
        config = preset("qdepth", {"data.tokenizer": str(weights)})
        assert resolved(config, name) == config
        assert named(resolved(preset("tiny"), name)) == "bytes"


@pytest.mark.parametrize("name", presets())
def test_without_weights_only_the_vocabulary_of_bytes_means_bytes(name):
    config = preset(name)
    assert named(config) == "auto"
    if config.model.vocabulary == 260:
        assert named(resolved(config, None)) == "bytes"
        return
    assert config.model.max_text > 21  # what LIBERO's longest needs with PaliGemma's tokenizer
    with pytest.raises(ConfigError, match=r"data.tokenizer=FOLDER"):
        resolved(config, None)
    explicit = config.updated({"data.tokenizer": "bytes"})
    assert resolved(explicit, None) == explicit


def test_weights_that_are_not_there(tmp_path):
    with pytest.raises(WeightsError, match="there are no weights at"):
        resolved(preset("tiny"), str(tmp_path / "nothing"))


def test_from_the_hub(weights, monkeypatch):
    hub = pytest.importorskip("huggingface_hub")
    asked = []

    def download(name, allow_patterns):
        asked.append((name, allow_patterns))
        return str(weights)

    monkeypatch.setattr(hub, "snapshot_download", download)
    config = resolved(preset("qdepth"), "google/paligemma-3b-pt-224")
    assert named(config) == "google/paligemma-3b-pt-224"
    assert reader(config).encode("open lid") == [5, 6]
    assert asked == [("google/paligemma-3b-pt-224", ["tokenizer.json"])] * 2
    (weights / "tokenizer.json").unlink()
    with pytest.raises(ConfigError, match="brings no tokenizer"):
        resolved(preset("qdepth"), "google/paligemma-3b-pt-224")


def begun(tmp_path, micro, tokenizer, name="run"):
    """A run of one step, trained with a tokenizer."""
    config = micro(train__steps=1, data__tokenizer=tokenizer)
    data = toy(config)
    data.tokenizer = load(tokenizer)
    train(config, data, tmp_path / name, codebook=FakeCodebook(codes=16, dim=12))
    return config, tmp_path / name


def test_from_a_run_of_ours(tmp_path, micro, weights):
    _, run = begun(tmp_path, micro, str(weights))
    (weights / "tokenizer.json").unlink()  # the run has its own
    tokenizer = tokenizer_of(str(run))
    assert tokenizer.encode("open lid") == [5, 6]
    assert named(resolved(micro(), str(run))) == tokenizer.name
    with pytest.raises(ConfigError, match="was trained with the tokenizer"):
        resolved(micro(data__tokenizer="bytes"), str(run))
    make_tokenizer(weights, ["lid", "open"])  # its settings name this file, which is another now
    (checkpoint.find(run) / "tokenizer.json").unlink()
    with pytest.raises(WeightsError, match=r"tokenizer\.json is missing"):
        tokenizer_of(str(run))
    _, second = begun(tmp_path, micro, "bytes", "second")
    assert named(resolved(micro(model__vocabulary=300), str(second))) == "bytes"


def test_a_run_goes_on_with_the_one_it_was_begun_with(tmp_path, micro, weights):
    config, run = begun(tmp_path, micro, str(weights))
    assert resolved(micro(train__steps=1), "no/such weights", run) == config
    assert reader(config, run).encode("open lid") == [5, 6]
    make_tokenizer(weights, ["close", "lid"])  # another file in the same place
    with pytest.raises(StaleStore, match=r"is not the tokenizer that .*run was begun with"):
        reader(config, run)
    (weights / "tokenizer.json").unlink()
    weights.rmdir()
    assert reader(config, run).encode("open lid") == [5, 6]


def test_what_is_recorded_has_a_name(tmp_path, micro):
    _, run = begun(tmp_path, micro, "bytes")
    config = micro(train__steps=1)
    assert named(config) == "auto"
    result = train(config, toy(config), run, codebook=FakeCodebook(codes=16, dim=12))
    assert result.finished  # the same settings
    assert '"tokenizer": "bytes"' in (run / "config.json").read_text()
