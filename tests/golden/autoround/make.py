#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-3.0-or-later
"""Golden results of AutoRound on the first block of a zoo model.

    python make.py     (auto-round and what it imports, PyTorch, transformers)

The package quantizes the model in float32 on the CPU, `amp` off. The
calibration text is the first eight of the windows of 64 tokens that
tests/golden/logits/llama-25k.windows.npy makes when its windows are cut in
four; a batch is all of them, so that nothing is random. Writes weights.npy
[case, weights]: what the layers of block 0 have in effect, q k v o gate up
down, one after the other; cases.txt (dtype here, group, iterations);
versions.json.
"""
import copy
import json
import pathlib

import auto_round
import numpy as np
import torch
import transformers

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parents[2]
WINDOWS, LENGTH, GROUP, ITERS = 8, 64, 16, 40
# dtype here, the package's bits and sym
CASES = [("int4:asym:keep=f16", 4, False), ("int2:asym:keep=f16", 2, False),
         ("int4:full", 4, True), ("int2:full", 2, True)]
LAYERS = ["self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj",
          "self_attn.o_proj", "mlp.gate_proj", "mlp.up_proj", "mlp.down_proj"]


def main():
    model = ROOT / "sweeps/zoo/llama-25k"
    net = transformers.AutoModelForCausalLM.from_pretrained(
        model, attn_implementation="eager").float()
    tokenizer = transformers.PreTrainedTokenizerFast(
        tokenizer_file=str(model / "tokenizer.json"))
    ids = np.load(ROOT / "tests/golden/logits/llama-25k.windows.npy")
    windows = ids.reshape(-1, LENGTH)[:WINDOWS].astype(np.int64)
    found = []
    for _, bits, sym in CASES:
        data = [{"input_ids": torch.tensor(w[None]),
                 "attention_mask": torch.ones(1, LENGTH, dtype=torch.long)}
                for w in windows]
        tuner = auto_round.AutoRound(
            copy.deepcopy(net), tokenizer, scheme="W4A16", bits=bits,
            group_size=GROUP, sym=sym, iters=ITERS, seqlen=LENGTH,
            nsamples=WINDOWS, batch_size=WINDOWS, dataset=data, amp=False,
            seed=0, device_map="cpu", enable_torch_compile=False)
        made = tuner.quantize()[0].float()
        block = made.model.layers[0]
        found.append(np.concatenate([
            block.get_submodule(name).weight.detach().numpy().ravel()
            for name in LAYERS]))
    np.save(HERE / "weights.npy", np.array(found, dtype=np.float32))
    (HERE / "cases.txt").write_text("".join(
        f"{dtype} {GROUP} {ITERS}\n" for dtype, _, _ in CASES))
    (HERE / "versions.json").write_text(json.dumps({
        "auto-round": auto_round.__version__, "torch": torch.__version__,
        "transformers": transformers.__version__,
        "numpy": np.__version__}, indent=1) + "\n")


if __name__ == "__main__":
    main()
