#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-3.0-or-later
"""Make tiny models with random weights, and their logits, with transformers.

  make_architectures.py [CASE...] [-o DIR]

Writes DIR/CASE for each case of CASES (default: all that the installed
transformers has, here); README.md says what. tests/parity draws others of
other sizes from the same table.
"""
import argparse
import json
import pathlib
import platform
import shutil
import sys

import numpy as np

HERE = pathlib.Path(__file__).resolve().parent
TOKENS = 40

# Sizes by common names; `draw` makes others. Head sizes are odd where nothing
# is rotated, and heads do not add up to the model's width where they need not.
SMALL = {"width": 20, "blocks": 2, "heads": 4, "kv": 2, "head": 6, "inner": 36,
         "vocab": 45, "positions": 64, "experts": 5, "used": 2}


def draw(rng):
    """Other sizes: larger, and of the same oddity."""
    kv = int(rng.integers(1, 4))
    heads = kv * int(rng.integers(1, 5))
    experts = int(rng.integers(2, 17))
    return {"width": heads * 2 * int(rng.integers(5, 20)),
            "blocks": int(rng.integers(2, 5)), "heads": heads, "kv": kv,
            "head": 2 * int(rng.integers(3, 40)),
            "inner": int(rng.integers(20, 300)),
            "vocab": int(rng.integers(50, 3000)), "positions": 1024,
            "experts": experts, "used": int(rng.integers(1, experts + 1))}


def llama(s, **more):
    return dict(hidden_size=s["width"], num_hidden_layers=s["blocks"],
                num_attention_heads=s["heads"], num_key_value_heads=s["kv"],
                head_dim=s["head"], intermediate_size=s["inner"],
                vocab_size=s["vocab"], max_position_embeddings=s["positions"],
                pad_token_id=0, **more)


def square(s, **more):
    """As llama, where heads make up the width."""
    options = llama(dict(s, width=s["heads"] * s["head"]), **more)
    return {k: v for k, v in options.items() if k != "head_dim"}


def gpt2(s, **more):
    return dict(n_embd=s["width"], n_layer=s["blocks"], n_head=s["heads"],
                n_inner=s["inner"], n_positions=s["positions"],
                vocab_size=s["vocab"], **more)


def bloom(s, **more):
    return dict(hidden_size=s["width"], n_layer=s["blocks"],
                n_head=s["heads"], vocab_size=s["vocab"], **more)


def neox(s, **more):
    # Halves of heads: an even number of rotated elements.
    return dict(hidden_size=s["heads"] * s["head"],
                num_hidden_layers=s["blocks"], num_attention_heads=s["heads"],
                intermediate_size=s["inner"], vocab_size=s["vocab"],
                max_position_embeddings=s["positions"], **more)


def falcon(s, **more):
    return dict(hidden_size=s["heads"] * s["head"],
                num_hidden_layers=s["blocks"], num_attention_heads=s["heads"],
                ffn_hidden_size=s["inner"], vocab_size=s["vocab"],
                max_position_embeddings=s["positions"], **more)


def opt(s, **more):
    return dict(hidden_size=s["width"], num_hidden_layers=s["blocks"],
                num_attention_heads=s["heads"], ffn_dim=s["inner"],
                vocab_size=s["vocab"], max_position_embeddings=s["positions"],
                pad_token_id=1, **more)


def phi3(s, **more):
    return dict(square(s), max_position_embeddings=4 * s["positions"],
                original_max_position_embeddings=s["positions"], **more)


def longrope(s, factor):
    """Factors of Phi 3's kind; `factor` tells long from short windows."""
    pairs = s["head"] // 2
    return {"type": "longrope",
            "short_factor": [1.0 + 0.02 * i for i in range(pairs)],
            "long_factor": [factor + 0.7 * i for i in range(pairs)]}


LLAMA3 = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0,
          "high_freq_factor": 4.0, "original_max_position_embeddings": 32}
YARN = {"rope_type": "yarn", "factor": 4.0,
        "original_max_position_embeddings": 16}

# case: (config class, options of sizes); transformers 4.49 lacks some.
CASES = {
    "bloom": ("Bloom", lambda s: bloom(s)),
    "bloom-odd-heads": ("Bloom", lambda s: bloom(
        dict(s, heads=3, width=3 * 7), tie_word_embeddings=False)),
    "falcon-7b": ("Falcon", lambda s: falcon(s)),
    "falcon-40b": ("Falcon", lambda s: falcon(
        s, new_decoder_architecture=True, num_kv_heads=s["kv"], bias=True)),
    "falcon-11b": ("Falcon", lambda s: falcon(
        s, new_decoder_architecture=True, num_kv_heads=s["kv"],
        num_ln_in_parallel_attn=1, tie_word_embeddings=False)),
    "falcon-rw": ("Falcon", lambda s: falcon(
        s, alibi=True, multi_query=False, parallel_attn=False, bias=True)),
    "gemma": ("Gemma", lambda s: llama(
        s, hidden_activation="gelu_pytorch_tanh")),
    "gemma2": ("Gemma2", lambda s: llama(
        s, query_pre_attn_scalar=10, sliding_window=9,
        attn_logit_softcapping=2.0, final_logit_softcapping=1.5)),
    "gemma3": ("Gemma3Text", lambda s: llama(
        dict(s, blocks=4), query_pre_attn_scalar=5, sliding_window=7,
        rope_local_base_freq=50.0, rope_theta=3000.0,
        rope_scaling={"rope_type": "linear", "factor": 8.0},
        layer_types=["sliding_attention", "sliding_attention",
                     "full_attention", "sliding_attention"])),
    "gpt2": ("GPT2", lambda s: gpt2(s)),
    "gpt2-untied": ("GPT2", lambda s: gpt2(
        dict(s, heads=3, width=3 * 7), tie_word_embeddings=False)),
    "llama": ("Llama", lambda s: llama(s)),
    "llama-biases": ("Llama", lambda s: llama(
        s, attention_bias=True, mlp_bias=True, tie_word_embeddings=True)),
    "llama-dynamic": ("Llama", lambda s: llama(
        s, rope_scaling={"rope_type": "dynamic", "factor": 2.0})),
    "llama-linear": ("Llama", lambda s: llama(
        s, rope_scaling={"type": "linear", "factor": 3.0})),
    "llama-llama3": ("Llama", lambda s: llama(
        s, rope_theta=500.0, rope_scaling=LLAMA3)),
    "llama-yarn": ("Llama", lambda s: llama(s, rope_scaling=YARN)),
    "mixtral": ("Mixtral", lambda s: llama(
        s, sliding_window=11, num_local_experts=s["experts"],
        num_experts_per_tok=s["used"])),
    "mistral": ("Mistral", lambda s: llama(s, sliding_window=11)),
    "mistral-full": ("Mistral", lambda s: llama(s, sliding_window=None)),
    "neox": ("GPTNeoX", lambda s: neox(dict(s, head=8), rotary_pct=0.25)),
    "neox-sequential": ("GPTNeoX", lambda s: neox(
        dict(s, head=8), rotary_pct=0.5, use_parallel_residual=False,
        attention_bias=False, rotary_emb_base=700, hidden_act="gelu_fast",
        tie_word_embeddings=True)),
    "olmo": ("Olmo", lambda s: square(s, clip_qkv=0.6)),
    "olmo2": ("Olmo2", lambda s: square(s)),
    "olmoe": ("Olmoe", lambda s: square(
        s, num_experts=s["experts"], num_experts_per_tok=s["used"])),
    "olmoe-clip": ("Olmoe", lambda s: square(
        s, num_experts=s["experts"], num_experts_per_tok=s["used"],
        norm_topk_prob=True, clip_qkv=0.6, attention_bias=True)),
    "opt": ("OPT", lambda s: opt(s)),
    "opt-350m": ("OPT", lambda s: opt(
        s, do_layer_norm_before=False, word_embed_proj_dim=s["width"] // 2)),
    "opt-gelu": ("OPT", lambda s: opt(
        s, activation_function="gelu", enable_bias=False,
        layer_norm_elementwise_affine=False)),
    "phi": ("Phi", lambda s: square(dict(s, head=8))),
    "phi-norms": ("Phi", lambda s: square(
        dict(s, head=8), qk_layernorm=True,
        partial_rotary_factor=0.25, hidden_act="gelu",
        tie_word_embeddings=True)),
    "phi3": ("Phi3", lambda s: phi3(s, sliding_window=13)),
    "phi3-long": ("Phi3", lambda s: phi3(
        dict(s, positions=s["positions"] // 4),
        rope_scaling=longrope(s, 3.0))),
    "phi3-short": ("Phi3", lambda s: phi3(s, rope_scaling=longrope(s, 3.0))),
    "phi4": ("Phi3", lambda s: phi3(
        dict(s, head=8), partial_rotary_factor=0.75,
        tie_word_embeddings=True)),
    "qwen2": ("Qwen2", lambda s: square(s, tie_word_embeddings=True)),
    "qwen2-windows": ("Qwen2", lambda s: square(
        s, use_sliding_window=True, sliding_window=6, max_window_layers=1)),
    "qwen3": ("Qwen3", lambda s: llama(s, attention_bias=True)),
    "qwen3-moe": ("Qwen3Moe", lambda s: llama(
        s, moe_intermediate_size=s["inner"] // 2, num_experts=s["experts"],
        num_experts_per_tok=s["used"], norm_topk_prob=True,
        tie_word_embeddings=True)),
    "qwen3-moe-windows": ("Qwen3Moe", lambda s: llama(
        s, moe_intermediate_size=s["inner"] // 2, num_experts=s["experts"],
        num_experts_per_tok=s["used"], use_sliding_window=True,
        sliding_window=9)),
    "smollm3": ("SmolLM3", lambda s: square(dict(s, blocks=4))),
    "smollm3-list": ("SmolLM3", lambda s: square(
        dict(s, blocks=2), no_rope_layers=[0, 1])),
}
# 4.49 gives these other numbers: windows that ignore max_window_layers, yarn
# without original_max_position_embeddings.
NEWER = ("qwen2-windows", "llama-yarn")
# And later ones cannot start it.
OLDER = ("opt-gelu",)


def available(case):
    """Has the installed transformers this architecture, as we compute it?"""
    import transformers
    version = tuple(int(v) for v in transformers.__version__.split(".")[:2])
    if case in NEWER and version < (4, 57):
        return False
    if case in OLDER and version >= (4, 57):
        return False
    return hasattr(transformers, CASES[case][0] + "Config")


def build(case, sizes, seed):
    """The model of a case with random weights that bfloat16 holds exactly."""
    import torch
    import transformers
    name, options = CASES[case]
    config = getattr(transformers, name + "Config")(**options(sizes))
    # Soft caps want "eager", which adds Falcon's ALiBi twice.
    attention = "sdpa" if name == "Falcon" else "eager"
    net = transformers.AutoModelForCausalLM.from_config(
        config, attn_implementation=attention).float().eval()
    torch.manual_seed(seed)
    gain = 0.0 if name.startswith("Gemma") else 1.0
    with torch.no_grad():
        for key, p in net.named_parameters():
            if p.dim() > 1:
                fan = p.shape[0] if "c_" in key else p.shape[-1]
                scale = 1.0 if "emb" in key or "wte" in key else fan ** -0.5
                value = torch.randn(p.shape) * 1.3 * scale
            elif key.endswith("bias"):
                value = torch.randn(p.shape) * 0.3
            else:
                value = gain + torch.randn(p.shape) * 0.3
            p.copy_(value.bfloat16().float())
    return net


def save(net, directory):
    """config.json and model.safetensors, in bfloat16."""
    import copy
    directory = pathlib.Path(directory)
    shutil.rmtree(directory, ignore_errors=True)
    copy.deepcopy(net).bfloat16().save_pretrained(
        directory, safe_serialization=True)
    (directory / "generation_config.json").unlink(missing_ok=True)


def logits(net, ids):
    """float32 [tokens, vocab] of one window."""
    import torch
    with torch.no_grad():
        return net(torch.from_numpy(ids.astype(np.int64))[None],
                   use_cache=False).logits[0].numpy()


def make(case, output):
    """Write one golden directory."""
    seed = sum(case.encode())
    net = build(case, SMALL, seed)
    ids = np.random.default_rng(seed).integers(
        0, SMALL["vocab"], TOKENS).astype("<u4")
    save(net, output / case)
    np.save(output / case / "ids.npy", ids)
    np.save(output / case / "logits.npy", logits(net, ids).astype("<f4"))


def versions():
    """What made the files."""
    import torch
    import transformers
    return {"numpy": np.__version__, "python": platform.python_version(),
            "torch": torch.__version__,
            "transformers": transformers.__version__}


def main(argv=None):
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("case", nargs="*", help="default: all")
    parser.add_argument("-o", "--output", metavar="DIR", type=pathlib.Path,
                        default=HERE)
    args = parser.parse_args(argv)
    import torch
    torch.set_num_threads(1)
    path = args.output / "versions.json"
    made = json.loads(path.read_text()) if path.exists() else {}
    for case in args.case or [c for c in CASES if available(c)]:
        make(case, args.output)
        made[case] = versions()
        print(case)
    path.write_text(json.dumps(made, indent=1, sort_keys=True) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
