#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-3.0-or-later
"""Golden results of AutoRound on one block of llama-85k, by its own package.

    python make.py     (auto-round 0.16.1, PyTorch, transformers)

The first 512 tokens of tests/golden/logits/llama-85k.windows.npy, cut into
eight windows of 64, calibrate; every iteration takes all of them, so that
nothing is random, and there are few, since the first signs that last bits of
float32 turn over turn others over. On the CPU, `amp` off. Writes llama-85k.npy
[case, weights]: what the layers of block 0 have in effect, every fourth row of
q k v o gate up down, one after the other; cases.txt (dtype, group, options);
versions.json.
"""
import json
import pathlib
from importlib.metadata import version

import numpy as np
import torch
import transformers
from auto_round import AutoRound

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parents[2]
MODEL = ROOT / "sweeps/zoo/llama-85k"
BLOCK, WINDOWS, LENGTH, EVERY = 0, 8, 64, 4
ITERS, RATE = 6, 0.03
LAYERS = ["self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj",
          "self_attn.o_proj", "mlp.gate_proj", "mlp.up_proj", "mlp.down_proj"]
# dtype, bits, sym, group, whether clips are tuned
CASES = [
    ("int4:asym:keep=f16", 4, False, 32, True),
    ("int2:asym:keep=f16", 2, False, 16, True),
    ("int3:full", 3, True, 32, True),
    ("int4:full", 4, True, 32, False),
]


def tuned(ids, bits, sym, group, minmax):
    net = transformers.AutoModelForCausalLM.from_pretrained(
        MODEL, attn_implementation="eager").float()
    tokenizer = transformers.PreTrainedTokenizerFast(
        tokenizer_file=str(MODEL / "tokenizer.json"))
    data = [{"input_ids": torch.tensor(w[None]),
             "attention_mask": torch.ones(1, LENGTH, dtype=torch.long)}
            for w in ids]
    tuner = AutoRound(net, tokenizer, scheme="W4A16", bits=bits,
                      group_size=group, sym=sym, iters=ITERS, lr=RATE,
                      seqlen=LENGTH, nsamples=WINDOWS, batch_size=WINDOWS,
                      dataset=data, amp=False, device_map="cpu",
                      enable_torch_compile=False,
                      enable_minmax_tuning=minmax)
    block = tuner.quantize()[0].model.layers[BLOCK]
    return np.concatenate([
        block.get_submodule(n).weight.detach().float().numpy()[::EVERY].ravel()
        for n in LAYERS])


def main():
    torch.set_num_threads(1)
    ids = np.load(ROOT / "tests/golden/logits/llama-85k.windows.npy").ravel()
    ids = ids[:WINDOWS * LENGTH].reshape(WINDOWS, LENGTH).astype(np.int64)
    # The package takes tokens that repeat at a window's end for padding.
    assert (ids[:, -1] != ids[:, -2]).all()
    np.save(HERE / "llama-85k.npy", np.stack([
        tuned(ids, bits, sym, group, minmax)
        for _, bits, sym, group, minmax in CASES]))
    (HERE / "cases.txt").write_text("".join(
        f"{dtype} {group} batch={WINDOWS},iters={ITERS},lr={RATE}"
        f"{'' if minmax else ',minmax=false'}\n"
        for dtype, _, _, group, minmax in CASES))
    (HERE / "versions.json").write_text(json.dumps({
        name: version(name) for name in
        ("auto-round", "torch", "transformers", "numpy")}, indent=1) + "\n")


if __name__ == "__main__":
    main()
