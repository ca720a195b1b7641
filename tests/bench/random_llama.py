#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-3.0-or-later
"""Write a LLaMA with random weights in bfloat16, some megabytes at a time.

  random_llama.py DIR [--width 4096] [--blocks 32] [--heads 32] ...

The default is LLaMA-7B's shape: 13.5 GB on disk, in shards of about 1 GB.
--experts N makes it an OLMoE with N experts a block. --tokenizer names a model's directory
whose tokenizer.json is copied; its ids must be below --vocab.
"""
import argparse
import json
import pathlib
import shutil
import sys

import numpy as np

SHARD = 1 << 30


def tensors(a):
    """(name, shape) in file order."""
    head = a.head or a.width // a.heads
    q, kv = a.heads * head, (a.kv_heads or a.heads) * head
    yield "model.embed_tokens.weight", (a.vocab, a.width)
    for i in range(a.blocks):
        block = f"model.layers.{i}."
        yield block + "input_layernorm.weight", (a.width,)
        yield block + "self_attn.q_proj.weight", (q, a.width)
        yield block + "self_attn.k_proj.weight", (kv, a.width)
        yield block + "self_attn.v_proj.weight", (kv, a.width)
        yield block + "self_attn.o_proj.weight", (a.width, q)
        yield block + "post_attention_layernorm.weight", (a.width,)
        if a.experts:
            yield block + "self_attn.q_norm.weight", (q,)
            yield block + "self_attn.k_norm.weight", (kv,)
            yield block + "mlp.gate.weight", (a.experts, a.width)
        mlps = [f"mlp.experts.{e}." for e in range(a.experts)] or ["mlp."]
        for mlp in mlps:
            yield block + mlp + "gate_proj.weight", (a.inner, a.width)
            yield block + mlp + "up_proj.weight", (a.inner, a.width)
            yield block + mlp + "down_proj.weight", (a.width, a.inner)
    yield "model.norm.weight", (a.width,)
    yield "lm_head.weight", (a.vocab, a.width)


def shards(a):
    """Lists of (name, shape) of about SHARD bytes."""
    now, size = [], 0
    for name, shape in tensors(a):
        now.append((name, shape))
        size += 2 * int(np.prod(shape))
        if size >= SHARD:
            yield now
            now, size = [], 0
    if now:
        yield now


def bf16(x):
    """The upper halves of float32, rounded to nearest."""
    return ((x.view(np.uint32) + 0x8000) >> 16).astype("<u2")


def values(rng, name, shape):
    """Rows of random weights, some megabytes at a time."""
    if len(shape) == 1:
        yield bf16(1.0 + 0.1 * rng.standard_normal(shape, np.float32))
        return
    scale = 1.0 if "embed" in name else shape[1] ** -0.5
    step = max(1, (1 << 22) // shape[1])
    for row in range(0, shape[0], step):
        n = min(step, shape[0] - row)
        yield bf16(rng.standard_normal((n, shape[1]), np.float32) *
                   np.float32(scale))


def write_shard(path, rng, names):
    """One safetensors file."""
    header, at = {}, 0
    for name, shape in names:
        size = 2 * int(np.prod(shape))
        header[name] = {"dtype": "BF16", "shape": list(shape),
                        "data_offsets": [at, at + size]}
        at += size
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as out:
        out.write(len(text).to_bytes(8, "little") + text)
        for name, shape in names:
            for part in values(rng, name, shape):
                out.write(part.tobytes())


def main(argv=None):
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("dir", type=pathlib.Path)
    parser.add_argument("--width", type=int, default=4096)
    parser.add_argument("--blocks", type=int, default=32)
    parser.add_argument("--heads", type=int, default=32)
    parser.add_argument("--kv-heads", type=int)
    parser.add_argument("--head", type=int, help="width of a head")
    parser.add_argument("--inner", type=int, default=11008)
    parser.add_argument("--experts", type=int, default=0)
    parser.add_argument("--used", type=int, default=2, help="by a token")
    parser.add_argument("--vocab", type=int, default=32000)
    parser.add_argument("--positions", type=int, default=2048)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--tokenizer", type=pathlib.Path, metavar="DIR")
    a = parser.parse_args(argv)
    a.dir.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(a.seed)
    lists = list(shards(a))
    index = {}
    for i, names in enumerate(lists):
        file = (f"model-{i + 1:05}-of-{len(lists):05}.safetensors"
                if len(lists) > 1 else "model.safetensors")
        write_shard(a.dir / file, rng, names)
        index.update({name: file for name, _ in names})
    if len(lists) > 1:
        (a.dir / "model.safetensors.index.json").write_text(
            json.dumps({"weight_map": index}, indent=1) + "\n")
    config = {"architectures": ["LlamaForCausalLM"], "model_type": "llama",
              "hidden_act": "silu", "hidden_size": a.width,
              "intermediate_size": a.inner, "num_hidden_layers": a.blocks,
              "num_attention_heads": a.heads,
              "num_key_value_heads": a.kv_heads or a.heads,
              "max_position_embeddings": a.positions, "rms_norm_eps": 1e-5,
              "rope_theta": 10000.0, "tie_word_embeddings": False,
              "torch_dtype": "bfloat16", "vocab_size": a.vocab}
    if a.head:
        config["head_dim"] = a.head
    if a.experts:
        config.update(architectures=["OlmoeForCausalLM"], model_type="olmoe",
                      num_experts=a.experts, num_experts_per_tok=a.used)
    (a.dir / "config.json").write_text(json.dumps(config, indent=1) + "\n")
    if a.tokenizer:
        for name in ("tokenizer.json", "tokenizer_config.json"):
            shutil.copy(a.tokenizer / name, a.dir / name)
    return 0


if __name__ == "__main__":
    sys.exit(main())
