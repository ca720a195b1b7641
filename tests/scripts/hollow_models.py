#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-3.0-or-later
"""Checkpoints with the shapes of sweeps/paper.yaml's models and no contents.

    hollow_models.py DIRECTORY

The files of weights are sparse: headers as safetensors have them, and zeros
that take no room on the disk. `ptqsweep plan` reads shapes only. Models of
other architectures are written as an OPT or a LLaMA of their sizes.
"""
import json
import os
import struct
import sys

#        name           width blocks heads  kv     ff  vocab
OPT = [("opt-125m",       768, 12, 12, 12,  3072,  50272),
       ("opt-350m",      1024, 24, 16, 16,  4096,  50272),
       ("opt-1.3b",      2048, 24, 32, 32,  8192,  50272),
       ("opt-2.7b",      2560, 32, 32, 32, 10240,  50272),
       ("opt-6.7b",      4096, 32, 32, 32, 16384,  50272),
       ("pythia-160m",    768, 12, 12, 12,  3072,  50304),
       ("pythia-410m",   1024, 24, 16, 16,  4096,  50304),
       ("pythia-1b",     2048, 16,  8,  8,  8192,  50304),
       ("pythia-2.8b",   2560, 32, 32, 32, 10240,  50304),
       ("pythia-6.9b",   4096, 32, 32, 32, 16384,  50304)]
LLAMA = [("Qwen2.5-0.5B",  896, 24, 14,  2,  4864, 151936),
         ("Qwen2.5-1.5B", 1536, 28, 12,  2,  8960, 151936),
         ("Qwen2.5-3B",   2048, 36, 16,  2, 11008, 151936),
         ("Qwen2.5-7B",   3584, 28, 28,  4, 18944, 152064),
         ("Llama-3.2-1B", 2048, 16, 32,  8,  8192, 128256),
         ("Llama-3.2-3B", 3072, 28, 24,  8,  8192, 128256),
         ("Llama-2-7b-hf", 4096, 32, 32, 32, 11008, 32000)]
POSITIONS = 4096


def linear(tensors, name, out, width, bias):
    tensors.append((name + ".weight", [out, width]))
    if bias:
        tensors.append((name + ".bias", [out]))


def opt(width, blocks, heads, ff, vocab):
    top = "model.decoder."
    tensors = [(top + "embed_tokens.weight", [vocab, width]),
               (top + "embed_positions.weight", [POSITIONS + 2, width]),
               (top + "final_layer_norm.weight", [width]),
               (top + "final_layer_norm.bias", [width])]
    for b in range(blocks):
        at = f"{top}layers.{b}."
        for norm in ("self_attn_layer_norm", "final_layer_norm"):
            tensors += [(f"{at}{norm}.{part}", [width])
                        for part in ("weight", "bias")]
        for role in "qkv":
            linear(tensors, f"{at}self_attn.{role}_proj", width, width, True)
        linear(tensors, f"{at}self_attn.out_proj", width, width, True)
        linear(tensors, f"{at}fc1", ff, width, True)
        linear(tensors, f"{at}fc2", width, ff, True)
    config = {"model_type": "opt", "architectures": ["OPTForCausalLM"],
              "activation_function": "relu", "do_layer_norm_before": True,
              "enable_bias": True, "ffn_dim": ff, "hidden_size": width,
              "layer_norm_elementwise_affine": True,
              "max_position_embeddings": POSITIONS,
              "num_attention_heads": heads, "num_hidden_layers": blocks,
              "tie_word_embeddings": True, "vocab_size": vocab,
              "word_embed_proj_dim": width}
    return tensors, config


def llama(width, blocks, heads, kv, ff, vocab):
    size = width // heads
    tensors = [("model.embed_tokens.weight", [vocab, width]),
               ("lm_head.weight", [vocab, width]), ("model.norm.weight", [width])]
    for b in range(blocks):
        at = f"model.layers.{b}."
        for norm in ("input_layernorm", "post_attention_layernorm"):
            tensors.append((f"{at}{norm}.weight", [width]))
        for role, out in (("q", heads * size), ("k", kv * size), ("v", kv * size)):
            linear(tensors, f"{at}self_attn.{role}_proj", out, width, False)
        linear(tensors, f"{at}self_attn.o_proj", width, heads * size, False)
        linear(tensors, f"{at}mlp.gate_proj", ff, width, False)
        linear(tensors, f"{at}mlp.up_proj", ff, width, False)
        linear(tensors, f"{at}mlp.down_proj", width, ff, False)
    config = {"model_type": "llama", "architectures": ["LlamaForCausalLM"],
              "hidden_act": "silu", "hidden_size": width, "head_dim": size,
              "intermediate_size": ff, "max_position_embeddings": POSITIONS,
              "num_attention_heads": heads, "num_hidden_layers": blocks,
              "num_key_value_heads": kv, "rms_norm_eps": 1e-5,
              "rope_theta": 10000.0, "tie_word_embeddings": False,
              "vocab_size": vocab}
    return tensors, config


def write(directory, tensors, config):
    os.makedirs(directory)
    header, at = {}, 0
    for name, shape in tensors:
        size = 2
        for n in shape:
            size *= n
        header[name] = {"dtype": "BF16", "shape": shape,
                        "data_offsets": [at, at + size]}
        at += size
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(os.path.join(directory, "model.safetensors"), "wb") as f:
        f.write(struct.pack("<Q", len(text)) + text)
        f.truncate(8 + len(text) + at)
    with open(os.path.join(directory, "config.json"), "w") as f:
        json.dump(config, f)


def main():
    top = sys.argv[1]
    for name, width, blocks, heads, _, ff, vocab in OPT:
        write(os.path.join(top, name), *opt(width, blocks, heads, ff, vocab))
    for name, width, blocks, heads, kv, ff, vocab in LLAMA:
        write(os.path.join(top, name), *llama(width, blocks, heads, kv, ff, vocab))


if __name__ == "__main__":
    main()
