"""PaliGemma's weights give PaliGemma's numbers, in all three layouts of names."""

import dataclasses
import json
import re

import pytest
import torch
from safetensors.torch import save_file

from depthtok.errors import WeightsError
from tests.vla.paligemma_files import to_paligemma
from vla.model import mixture
from vla.model.batch import Observation
from vla.model.model import build
from vla.weights.paligemma import canonical, from_paligemma, load_paligemma, with_rows

transformers = pytest.importorskip("transformers")

LAYOUTS = {
    "memory": lambda name: name,
    "new files": lambda name: re.sub(
        r"^model\.", "", name.replace("model.language_model.", "language_model.model.")
    ),
    "hub": lambda name: re.sub(
        r"^model\.",
        "",
        name.replace("model.language_model.", "language_model.model.").replace(
            "vision_tower.", "vision_tower.vision_model."
        ),
    ),
}


@pytest.fixture(scope="module")
def theirs():
    """A small PaliGemma with random weights; norms away from neutral."""
    torch.manual_seed(0)
    config = transformers.PaliGemmaConfig(
        vision_config={
            "hidden_size": 32,
            "intermediate_size": 64,
            "num_hidden_layers": 1,
            "num_attention_heads": 2,
            "image_size": 32,
            "patch_size": 8,
            "projection_dim": 32,
            "vision_use_head": False,
        },
        text_config={
            "model_type": "gemma",
            "hidden_size": 32,
            "intermediate_size": 64,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "num_key_value_heads": 1,
            "head_dim": 16,
            "vocab_size": 300,
            "hidden_activation": "gelu_pytorch_tanh",
        },
        image_token_index=299,
        projection_dim=32,
        hidden_size=32,
    )
    model = transformers.PaliGemmaForConditionalGeneration(config).eval()
    for weight in model.parameters():
        torch.nn.init.normal_(weight, std=0.2)
    return model


@pytest.fixture
def config(micro):
    return micro(
        model__cameras=1, data__cameras=("main",), model__vocabulary=300, model__mask="prefix"
    ).model


def renamed(model, layout):
    state = {k: v for k, v in model.state_dict().items() if "lm_head" not in k}
    names = {k: k.replace("vision_tower.vision_model.", "vision_tower.") for k in state}
    return {LAYOUTS[layout](names[k]): v for k, v in state.items()}


def hidden(model, seen):
    """Gemma's last hidden state over pictures and text."""
    stream = model.prefix(seen, model.see(seen))
    return mixture.run(model.vlm, stream, model.table)[0]


@pytest.mark.parametrize("layout", list(LAYOUTS))
def test_parity_with_transformers(theirs, config, layout):
    ours = build(config, 0)
    tensors = from_paligemma(renamed(theirs, layout), config)
    missing, unexpected = ours.load_state_dict(tensors, strict=False)
    assert not unexpected
    assert not [n for n in missing if n.split(".")[0] in ("vision", "projector", "embed", "vlm")]

    torch.manual_seed(1)
    images = torch.randint(0, 256, (2, 1, 32, 32, 3), dtype=torch.uint8)
    text = torch.randint(4, 290, (2, 7))
    inputs = Observation(images, text, torch.ones_like(text, dtype=torch.bool), torch.zeros(2, 8))
    tokens = torch.cat([torch.full((2, 16), 299), text], dim=1)
    with torch.no_grad():
        expected = theirs.model(
            input_ids=tokens,
            pixel_values=images[:, 0].permute(0, 3, 1, 2).float() / 127.5 - 1,
            token_type_ids=torch.zeros_like(tokens),
            attention_mask=torch.ones_like(tokens),
        ).last_hidden_state
        ours_hidden = hidden(ours, inputs)
    assert expected.std() > 0.1
    assert (ours_hidden - expected).abs().max() < 1e-5


def test_there_and_back(theirs, config):
    ours = build(config, 0)
    ours.load_state_dict(from_paligemma(renamed(theirs, "memory"), config), strict=False)
    back = to_paligemma(ours)
    original = renamed(theirs, "hub")
    assert back.keys() == original.keys()
    assert all(torch.equal(back[name], original[name]) for name in original)


def test_folders_with_one_file_or_several(theirs, config, tmp_path):
    tensors = {k: v.contiguous() for k, v in renamed(theirs, "hub").items()}
    single, shards = tmp_path / "whole", tmp_path / "shards"
    single.mkdir()
    shards.mkdir()
    save_file(tensors, single / "model.safetensors")
    names = sorted(tensors)
    weight_map = {}
    for number, part in enumerate((names[::2], names[1::2])):
        file = f"model-{number}.safetensors"
        save_file({name: tensors[name] for name in part}, shards / file)
        weight_map |= dict.fromkeys(part, file)
    (shards / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    a, b = (load_paligemma(folder, config) for folder in (single, shards))
    assert a.keys() == b.keys()
    assert all(torch.equal(a[name], b[name]) for name in a)


def test_all_layouts_have_one_canonical_name():
    for name in (
        "model.language_model.layers.0.mlp.up_proj.weight",
        "language_model.model.layers.0.mlp.up_proj.weight",
    ):
        assert canonical(name) == "language_model.layers.0.mlp.up_proj.weight"


def test_what_does_not_fit_is_refused(theirs, config, micro, tmp_path):
    tensors = renamed(theirs, "hub")
    with pytest.raises(WeightsError, match="no safetensors"):
        load_paligemma(tmp_path, config)
    with pytest.raises(WeightsError, match="not \\(260, 32\\)"):
        from_paligemma(tensors, micro().model)
    del tensors["multi_modal_projector.linear.bias"]
    with pytest.raises(WeightsError, match=r"tensor multi_modal_projector.* is missing"):
        from_paligemma(tensors, config)


@pytest.mark.parametrize("name", ["lm_head.weight", "language_model.lm_head.weight"])
def test_a_tied_embedding_may_have_the_name_of_the_output_layer(theirs, config, tmp_path, name):
    tensors = {key: tensor.contiguous() for key, tensor in renamed(theirs, "hub").items()}
    plain = from_paligemma(tensors, config)
    embedding = tensors.pop("language_model.model.embed_tokens.weight")
    save_file({**tensors, name: embedding.clone()}, tmp_path / "model.safetensors")
    weights = load_paligemma(tmp_path, config)
    assert torch.equal(weights["embed.weight"], plain["embed.weight"])
    both = {**tensors, name: embedding + 1, "language_model.model.embed_tokens.weight": embedding}
    assert torch.equal(from_paligemma(both, config)["embed.weight"], embedding)


@pytest.mark.parametrize(
    "said", [{"tie_word_embeddings": False}, {"text_config": {"tie_word_embeddings": False}}]
)
def test_an_output_layer_of_its_own_is_not_taken_for_the_embedding(theirs, config, tmp_path, said):
    tensors = {key: tensor.contiguous() for key, tensor in renamed(theirs, "hub").items()}
    (tmp_path / "config.json").write_text(json.dumps(said))
    save_file(tensors, tmp_path / "model.safetensors")
    assert len(load_paligemma(tmp_path, config)["embed.weight"]) == 300
    tensors["lm_head.weight"] = tensors.pop("language_model.model.embed_tokens.weight")
    save_file(tensors, tmp_path / "model.safetensors")
    with pytest.raises(WeightsError, match="tie_word_embeddings"):
        load_paligemma(tmp_path, config)


@pytest.mark.parametrize("rows", [299, 320])
def test_rows_behind_the_last_token_are_padding(theirs, config, micro, rows):
    """The embedding of 300 rows in models of other sizes, for a tokenizer of 299 tokens."""
    tensors = renamed(theirs, "hub")
    embedding = tensors["language_model.model.embed_tokens.weight"]
    other = dataclasses.replace(config, vocabulary=rows)
    loaded = from_paligemma(tensors, other, 299)["embed.weight"]
    assert loaded.shape == (rows, 32)
    assert torch.equal(loaded[:299], embedding[:299])
    assert (loaded[300:] == 0).all()
    with pytest.raises(WeightsError, match=r"model\.vocabulary = 300"):
        from_paligemma(tensors, other, None)  # a tokenizer that is not known
    with pytest.raises(WeightsError, match="300 rows, and their tokenizer needs 301") as raised:
        from_paligemma(tensors, other, 301)  # no vocabulary would do
    assert "model.vocabulary" not in raised.value.remedy


@pytest.mark.parametrize(("has", "wanted"), [(257_152, 257_216), (257_216, 257_152)])
def test_both_sizes_of_paligemmas_own_embedding(has, wanted):
    embedding = torch.arange(has, dtype=torch.float32)[:, None]
    resized = with_rows(embedding, wanted, None)
    assert resized.shape == (wanted, 1)
    assert torch.equal(resized[:257_152], embedding[:257_152])
