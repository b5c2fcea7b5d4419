"""Weights as the package `transformers` keeps them (model.safetensors on the Hugging Face Hub), by the authors' names.

Both networks are the same there but for their layout: queries, keys and values are three maps, whose rows are sorted by
head; of LightGlue's cross-attention, queries and keys are one map written twice.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from lightmatch.errors import WeightsError

_DETECTOR = "keypoint_detector."  # SuperPoint's weights are in the same file
_LIGHTGLUE = {
    r"positional_encoder\.projector\.": "posenc.Wr.",
    r"input_projection\.": "input_proj.",
    r"transformer_layers\.(\d+)\.self_attention\.o_proj\.": r"transformers.\1.self_attn.out_proj.",
    r"transformer_layers\.(\d+)\.cross_attention\.v_proj\.": r"transformers.\1.cross_attn.to_v.",
    r"transformer_layers\.(\d+)\.cross_attention\.o_proj\.": r"transformers.\1.cross_attn.to_out.",
    r"transformer_layers\.(\d+)\.(self|cross)_mlp\.fc1\.": r"transformers.\1.\2_attn.ffn.0.",
    r"transformer_layers\.(\d+)\.(self|cross)_mlp\.layer_norm\.": r"transformers.\1.\2_attn.ffn.1.",
    r"transformer_layers\.(\d+)\.(self|cross)_mlp\.fc2\.": r"transformers.\1.\2_attn.ffn.3.",
    r"match_assignment_layers\.(\d+)\.final_projection\.": r"log_assignment.\1.final_proj.",
    r"match_assignment_layers\.(\d+)\.matchability\.": r"log_assignment.\1.matchability.",
    r"token_confidence\.(\d+)\.token\.": r"token_confidence.\1.token.0.",
}
_SUPERGLUE = {
    r"final_projection\.final_proj\.": "final_proj.",
    r"gnn\.layers\.(\d+)\.mlp\.0\.linear\.": r"gnn.layers.\1.mlp.0.",
    r"gnn\.layers\.(\d+)\.mlp\.0\.batch_norm\.": r"gnn.layers.\1.mlp.1.",
    r"gnn\.layers\.(\d+)\.mlp\.1\.": r"gnn.layers.\1.mlp.3.",
}
_PARTS = ("query", "key", "value")


def lightglue_from_transformers(tensors: Mapping[str, Tensor], path: str | Path) -> dict[str, Tensor] | None:
    """By the names of the authors' second generation; None where the file is not of transformers.

    Raises WeightsError where queries and keys of the cross-attention differ, which LightGlue's do not.
    """
    if not any(name.startswith("transformer_layers.") for name in tensors):
        return None
    own = {name: tensor for name, tensor in tensors.items() if not name.startswith(_DETECTOR)}
    half_head_dim = own["positional_encoder.projector.weight"].shape[0]
    renamed = {}
    for name, tensor in own.items():
        attention = re.fullmatch(
            r"transformer_layers\.(\d+)\.(self|cross)_attention\.([qkv])_proj\.(weight|bias)", name
        )
        if attention is None or (attention[2] == "cross" and attention[3] == "v"):
            renamed[_renamed(name, _LIGHTGLUE)] = tensor
            continue
        layer, which, part, kind = attention.groups()
        prefix = name[: name.index("_attention")] + "_attention."
        if part != "q":
            continue
        if which == "cross":
            if not torch.equal(tensor, own[f"{prefix}k_proj.{kind}"]):
                raise WeightsError(
                    f"{path}: expected equal queries and keys in LightGlue's cross-attention, got others"
                )
            renamed[f"transformers.{layer}.cross_attn.to_qk.{kind}"] = tensor
        else:
            # Head by head, each of its dimensions three times in a row: query, key, value.
            parts = [own[f"{prefix}{each}_proj.{kind}"] for each in "qkv"]
            by_head = [each.unflatten(0, (-1, 2 * half_head_dim)) for each in parts]
            renamed[f"transformers.{layer}.self_attn.Wqkv.{kind}"] = torch.stack(by_head, 2).flatten(0, 2)
    return renamed


def superglue_from_transformers(tensors: Mapping[str, Tensor], head_dim: int) -> dict[str, Tensor] | None:
    """By the authors' names; None where the file is not of transformers."""
    if "final_projection.final_proj.weight" not in tensors:
        return None
    renamed = {}
    for name, tensor in tensors.items():
        if name.startswith(_DETECTOR):
            continue
        if encoder := re.fullmatch(r"keypoint_encoder\.encoder\.(\d+)\.(?:(linear|batch_norm)\.)?(.+)", name):
            place = 3 * int(encoder[1]) + (encoder[2] == "batch_norm")
            renamed[f"kenc.encoder.{place}.{encoder[3]}"] = tensor
        elif part := re.fullmatch(r"gnn\.layers\.(\d+)\.attention\.self\.(query|key|value)\.(.+)", name):
            # The authors sort rows by dimension, then by head.
            rows = tensor.unflatten(0, (-1, head_dim)).transpose(0, 1).flatten(0, 1)
            renamed[f"gnn.layers.{part[1]}.attn.proj.{_PARTS.index(part[2])}.{part[3]}"] = rows
        elif merge := re.fullmatch(r"gnn\.layers\.(\d+)\.attention\.output\.dense\.(weight|bias)", name):
            weight = merge[2] == "weight"
            columns = tensor.unflatten(1, (-1, head_dim)).transpose(1, 2).flatten(1) if weight else tensor
            renamed[f"gnn.layers.{merge[1]}.attn.merge.{merge[2]}"] = columns
        else:
            renamed[_renamed(name, _SUPERGLUE)] = tensor
    return renamed


def _renamed(name: str, rules: Mapping[str, str]) -> str:
    """Names that no rule knows stay, for the loader to refuse."""
    for before, after in rules.items():
        if re.match(before, name):
            return re.sub(f"^{before}", after, name)
    return name
