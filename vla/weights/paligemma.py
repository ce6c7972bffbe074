"""Converts PaliGemma's weights to this model, from a folder of safetensors files.

Three naming layouts exist, and all are supported: the Hub's original files
(`language_model.model.layers...`, `vision_tower.vision_model...`), files saved by newer
transformers (`vision_tower.encoder...`), and names in memory (`model.language_model.layers...`).
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from jaxtyping import Float
from safetensors import SafetensorError, safe_open
from torch import Tensor

from depthtok.disk.regular import require_file, require_given
from depthtok.errors import WeightsError
from vla.config import ModelConfig
from vla.model.model import QDepthVLA

PARTS = ("vision", "projector", "embed", "vlm")
EMBED = "language_model.embed_tokens.weight"
HEADS = ("language_model.lm_head.weight", "lm_head.weight")  # tied to the embedding
TOKENS = 257_152  # PaliGemma's, without <image>; its embedding has 64 rows more, or none

ENDS = {
    "vision.patches": ["vision_tower.embeddings.patch_embedding"],
    "vision.norm": ["vision_tower.post_layernorm"],
    "projector": ["multi_modal_projector.linear"],
    "embed": ["language_model.embed_tokens"],
    "vlm.norm": ["language_model.norm"],
    "action.norm": ["action_expert.norm"],  # not from PaliGemma
}
VISION_LAYER = {
    "attention_norm": ["layer_norm1"],
    "qkv": ["self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"],
    "out": ["self_attn.out_proj"],
    "mlp_norm": ["layer_norm2"],
    "up": ["mlp.fc1"],
    "down": ["mlp.fc2"],
}
GEMMA_LAYER = {
    "attention_norm": ["input_layernorm"],
    "qkv": ["self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"],
    "out": ["self_attn.o_proj"],
    "mlp_norm": ["post_attention_layernorm"],
    "gate_up": ["mlp.gate_proj", "mlp.up_proj"],
    "down": ["mlp.down_proj"],
}
LAYERS = {
    "vision": ("vision_tower.encoder.layers", VISION_LAYER),
    "vlm": ("language_model.layers", GEMMA_LAYER),
    "action": ("action_expert.layers", GEMMA_LAYER),
}


def canonical(name: str) -> str:
    """The canonical name of a tensor named in any of the three layouts."""
    name = re.sub(r"^model\.", "", name)
    name = re.sub(r"^language_model\.model\.", "language_model.", name)
    return re.sub(r"^vision_tower\.vision_model\.", "vision_tower.", name)


def sources(own: str) -> list[str]:
    """Canonical names of the PaliGemma tensors that, stacked row-wise, make up one of ours."""
    if own == "vision.positions":
        return ["vision_tower.embeddings.position_embedding.weight"]
    module, kind = own.rsplit(".", 1)
    if module in ENDS:
        return [f"{source}.{kind}" for source in ENDS[module]]
    part, _, index, inner = module.split(".", 3)
    prefix, table = LAYERS[part]
    return [f"{prefix}.{index}.{source}.{kind}" for source in table[inner]]


def from_paligemma(
    tensors: Mapping[str, Tensor], config: ModelConfig, tokens: int | None = None
) -> dict[str, Tensor]:
    """Our SigLIP, projector, embedding and Gemma from PaliGemma's tensors, in any layout. The
    embedding may be stored under the name of the output layer that it is tied to.

    `tokens` is how many tokens a prompt can have: see `with_rows`. Raises `WeightsError` for a
    tensor that is missing or has another shape.
    """
    by_name = {canonical(name): tensor for name, tensor in tensors.items()}
    for head in HEADS:
        if EMBED not in by_name and head in by_name:
            by_name[EMBED] = by_name[head]
    return gathered(by_name, config, PARTS, tokens)


def with_rows(
    embedding: Float[Tensor, "R W"], rows: int, tokens: int | None
) -> Float[Tensor, "R2 W"]:
    """An embedding with `rows` rows, where it and they have all `tokens` that a prompt can have (if
    None, PaliGemma's): what lies behind is padding, cut off or zero. Else it stays as it is."""
    if min(len(embedding), rows) < (TOKENS if tokens is None else tokens):
        return embedding
    return F.pad(embedding, (0, 0, 0, rows - len(embedding)))


def gathered(
    found: Mapping[str, Tensor],
    config: ModelConfig,
    parts: Sequence[str],
    tokens: int | None = None,
) -> dict[str, Tensor]:
    """The tensors of some parts of this model, from others by canonical name. Raises `WeightsError`
    where one is missing or of another shape."""
    with torch.device("meta"):
        expected = QDepthVLA(config).state_dict()
    converted = {}
    for target, like in expected.items():
        if target.split(".")[0] not in parts:
            continue
        missing = [name for name in sources(target) if name not in found]
        if missing:
            raise WeightsError(
                f"tensor {missing[0]} is missing among {len(found)}",
                remedy="name a folder with PaliGemma's safetensors files",
            )
        rows = [found[name].float() for name in sources(target)]
        tensor = torch.cat(rows) if len(rows) > 1 else rows[0]
        if target == "vision.patches.weight":
            tensor = tensor.flatten(1)
        if target == "embed.weight":
            tensor = with_rows(tensor, config.vocabulary, tokens)
        if target == "embed.weight" and tokens is not None and len(tensor) < tokens:
            raise WeightsError(
                f"the embedding of the weights has {len(tensor):,} rows, and their tokenizer needs "
                f"{tokens:,}: they are not of one model",
                remedy="name weights with their own tokenizer.json beside them, or give theirs: "
                "--set data.tokenizer=FOLDER",
            )
        if tensor.shape != like.shape:
            raise WeightsError(
                f"{sources(target)[0]} makes {target} {tuple(tensor.shape)}, not "
                f"{tuple(like.shape)}",
                remedy="use PaliGemma-3B-pt-224, or set the model's sizes to the checkpoint's"
                + (f": model.vocabulary = {len(tensor)}" if target == "embed.weight" else ""),
            )
        converted[target] = tensor
    return converted


def load_paligemma(
    folder: str | Path, config: ModelConfig, tokens: int | None = None
) -> dict[str, Tensor]:
    """`from_paligemma` for a folder: one file, or several listed in an index. Raises `WeightsError`
    where there is no embedding."""
    tensors = dict(_read(Path(folder)))
    if not _tied(Path(folder)) and EMBED not in map(canonical, tensors):
        raise WeightsError(
            f"{folder} has no {EMBED}, and its config.json says that the output layer is not it"
            " (tie_word_embeddings)",
            remedy="name a folder with the embedding of the text",
        )
    return from_paligemma(tensors, config, tokens)


def _tied(folder: Path) -> bool:
    """Whether the output layer is the embedding: PaliGemma's is, unless its config denies it."""
    path = folder / "config.json"
    try:
        require_file(path)
        settings = json.loads(path.read_text()) if path.is_file() else {}
        text = settings.get("text_config", {})
        return settings.get("tie_word_embeddings", text.get("tie_word_embeddings", True))
    except (ValueError, AttributeError) as error:
        raise WeightsError(f"{path} cannot be read: {error}", remedy="download it again") from error


def _read(folder: Path) -> Iterator[tuple[str, Tensor]]:
    index = folder / "model.safetensors.index.json"
    require_file(index)
    if index.is_file():
        names = sorted(set(json.loads(index.read_text())["weight_map"].values()))
    else:
        names = sorted(path.name for path in folder.glob("*.safetensors"))
    if not names:
        raise WeightsError(
            f"{folder} has no safetensors file",
            remedy="download google/paligemma-3b-pt-224 (accept its licence first) and"
            " name its folder",
        )
    for name in names:
        require_file(folder / name)
        try:
            with safe_open(folder / name, framework="pt") as file:
                for key in file.keys():  # noqa: SIM118 (a file is not a mapping)
                    yield key, file.get_tensor(key)
        except (OSError, SafetensorError, KeyError, RuntimeError, TypeError, ValueError) as error:
            require_given(folder / name, error)
            raise WeightsError(
                f"{folder / name} cannot be read: {error}", remedy="download it again"
            ) from error
