"""Paths of modules in diffusion models, from the flat names of kohya and the older names of diffusers.

kohya replaces the dots of a path by underscores. To undo that, names that contain underscores are listed here. A name
that is not listed is split at its underscores; its numbers and their order remain right.
"""

from __future__ import annotations

import re

_COMPOUND = """
down_blocks up_blocks mid_block transformer_blocks single_transformer_blocks input_blocks output_blocks middle_block
to_q to_k to_v to_out to_add_out add_q_proj add_k_proj add_v_proj proj_in proj_out proj_mlp time_emb_proj
conv_shortcut conv_in conv_out time_embedding time_embed time_proj add_embedding label_emb emb_layers in_layers
out_layers skip_connection linear_1 linear_2 text_model self_attn q_proj k_proj v_proj out_proj text_projection
token_embedding position_embedding double_blocks single_blocks img_attn txt_attn img_mlp txt_mlp img_mod txt_mod
img_in txt_in time_in vector_in guidance_in final_layer norm_out context_embedder x_embedder time_text_embed
timestep_embedder text_embedder guidance_embedder joint_blocks x_block context_block ff_context cross_attn
attention_norm layer_norm SelfAttention DenseReluDense adaLN_modulation gate_proj up_proj down_proj o_proj
"""
_WORDS = {tuple(word.split("_")) for word in _COMPOUND.split()}
_LONGEST = max(map(len, _WORDS))
_OWNERS = {"lora_unet_": "unet", "lora_te_": "text_encoder", "lora_te1_": "text_encoder", "lora_te2_": "text_encoder_2",
           "lora_te3_": "text_encoder_3", "lora_transformer_": "transformer", "lora_prior_unet_": "prior"}  # fmt: skip
OWNERS = frozenset({*_OWNERS.values(), "transformer_2", "diffusion_model"})
"""The models of a diffusion pipeline: the first names of module paths."""


def module_path(name: str) -> str:
    """Return a module's dotted path from its name in any tool's file.

    Example:
        >>> module_path("lora_unet_down_blocks_0_attentions_1_transformer_blocks_0_attn1_to_q")
        'unet.down_blocks.0.attentions.1.transformer_blocks.0.attn1.to_q'
        >>> module_path("lora_te1_text_model_encoder_layers_7_self_attn_q_proj")
        'text_encoder.text_model.encoder.layers.7.self_attn.q_proj'
        >>> module_path("unet.mid_block.attentions.0.transformer_blocks.0.attn2.processor.to_out")
        'unet.mid_block.attentions.0.transformer_blocks.0.attn2.to_out.0'
        >>> module_path("lora_unet_unet_mid_block_attentions_0_transformer_blocks_0_attn2_processor_to_out")
        'unet.mid_block.attentions.0.transformer_blocks.0.attn2.to_out.0'
    """
    for prefix, owner in _OWNERS.items():
        if name.startswith(prefix):
            flat = name.removeprefix(prefix).removeprefix(f"{owner}_")  # some writers repeat the model's name
            return _current(f"{owner}.{_dotted(flat)}")
    return _current(name.removeprefix("base_model.model."))


def _current(path: str) -> str:
    """A path with the names that diffusers uses today."""
    path = path.replace(".processor.", ".")
    if ".attn" in path and path.endswith(".to_out"):
        path += ".0"  # older names lack the index of the projection in its list
    return re.sub(r"(?<=self_attn\.)to_([qkv])$", r"\1_proj", re.sub(r"(?<=self_attn\.)to_out$", "out_proj", path))


def _dotted(flat: str) -> str:
    words = flat.split("_")
    names, place = [], 0
    while place < len(words):
        length = next((n for n in range(_LONGEST, 1, -1) if tuple(words[place : place + n]) in _WORDS), 1)
        names.append("_".join(words[place : place + length]))
        place += length
    return ".".join(names)
