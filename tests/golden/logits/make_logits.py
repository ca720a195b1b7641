#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-3.0-or-later
"""Make the golden logits and NLL of the zoo with transformers, in float32.

  make_logits.py [MODEL...] [--text FILE] [-o DIR]
  make_logits.py --runs [--text FILE] [-o DIR]

Reads sweeps/zoo/MODEL (default: every model there), or every checkpoint in
sweeps/zoo/runs, and Persuasion as sweeps/austen.py writes it (default:
sweeps/austen/test.txt); README.md here says what is written. Runs on one
thread; versions are recorded.
"""
import argparse
import json
import os
import pathlib
import platform
import sys

import numpy as np

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parents[2]
ZOO = ROOT / "sweeps/zoo"
RUNS = ZOO / "runs"
RUN_TOKENS, RUN_STRIDE = 64, 32  # of a window; of the last position's logits
TOKENS = 24  # of the window whose logits are kept
WINDOWS, LENGTH = 4, 256  # of the NLL
SKIP = 1000  # tokens passed over: title and first heading


def windows_of(model, text):
    """uint32 [WINDOWS, LENGTH]: windows of the text under its tokenizer."""
    from tokenizers import Tokenizer
    tokenizer = Tokenizer.from_file(str(model / "tokenizer.json"))
    ids = np.array(tokenizer.encode(text).ids, dtype="<u4")
    return ids[SKIP:SKIP + WINDOWS * LENGTH].reshape(WINDOWS, LENGTH)


def mean_nll(logits, ids):
    """Mean NLL, nats: log-softmax in float64 of float32 logits [n, vocab]."""
    x = logits[:-1].astype(np.float64)
    x -= x.max(axis=1, keepdims=True)
    norm = np.log(np.exp(x).sum(axis=1))
    return float((norm - x[np.arange(len(x)), ids[1:]]).mean())


def load(model):
    """A function from uint32 [n] ids to float32 [n, vocab] logits."""
    import torch
    from transformers import AutoModelForCausalLM
    net = AutoModelForCausalLM.from_pretrained(
        model, torch_dtype=torch.float32).eval()

    def logits(ids):
        with torch.no_grad():
            return net(torch.from_numpy(ids.astype(np.int64))[None]
                       ).logits[0].numpy()
    return logits


def make_runs(text, output):
    """Write what is kept of the checkpoints of runs: little of each."""
    found = {}
    models = sorted(p.parent for p in RUNS.glob("*/config.json"))
    ids = windows_of(models[0], text)[0, :RUN_TOKENS]  # one tokenizer
    for model in models:
        logits = load(model)(ids)
        found[model.name] = {
            "nll": mean_nll(logits, ids),
            "logits": [round(float(x), 6) for x in logits[-1, ::RUN_STRIDE]]}
        print(model.name)
    with open(output / "runs.json", "w", encoding="utf-8") as file:
        json.dump({"ids": ids.tolist(), "stride": RUN_STRIDE, "models": found},
                  file, separators=(",", ":"))
        file.write("\n")


def make(model, text, output):
    """Write the golden files of one model."""
    windows = windows_of(model, text)
    logits = load(model)
    first = windows[0, :TOKENS]
    nll = [mean_nll(logits(w), w) for w in windows]
    np.save(output / f"{model.name}.ids.npy", first)
    np.save(output / f"{model.name}.logits.npy",
            logits(first).astype("<f4"))
    np.save(output / f"{model.name}.windows.npy", windows)
    with open(output / f"{model.name}.nll.json", "w",
              encoding="utf-8") as file:
        json.dump({"model": model.name, "nll": nll,
                   "nll_mean": float(np.mean(nll))}, file, indent=2)
        file.write("\n")


def versions():
    """What made the files, for versions.json."""
    import tokenizers
    import torch
    import transformers
    return {"numpy": np.__version__, "python": platform.python_version(),
            "tokenizers": tokenizers.__version__, "torch": torch.__version__,
            "transformers": transformers.__version__}


def main(argv=None):
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("model", nargs="*")
    parser.add_argument("--runs", action="store_true")
    parser.add_argument("--text", metavar="FILE", type=pathlib.Path,
                        default=ROOT / "sweeps/austen/test.txt")
    parser.add_argument("-o", "--output", metavar="DIR", type=pathlib.Path,
                        default=HERE)
    args = parser.parse_args(argv)
    if not args.text.is_file():
        print(f"make_logits.py: '{args.text}': no such file; make it with "
              "sweeps/austen.py", file=sys.stderr)
        return 1
    names = args.model or sorted(
        os.path.basename(p.parent) for p in ZOO.glob("*/config.json"))
    missing = [n for n in names if not (ZOO / n / "config.json").is_file()]
    if missing:
        print(f"make_logits.py: no model '{missing[0]}' in {ZOO}",
              file=sys.stderr)
        return 1
    import torch
    torch.set_num_threads(1)
    text = args.text.read_bytes().decode("utf-8")
    args.output.mkdir(parents=True, exist_ok=True)
    if args.runs:
        make_runs(text, args.output)
        return 0
    for name in names:
        make(ZOO / name, text, args.output)
        print(name)
    with open(args.output / "versions.json", "w", encoding="utf-8") as file:
        json.dump(versions(), file, indent=2)
        file.write("\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
