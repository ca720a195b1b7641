# SPDX-License-Identifier: GPL-3.0-or-later
"""Our forward pass and its rivals' in turn: tokens a second, and the ratios.

Ours runs two single-threaded processes on disjoint windows, a rival two
threads. Ours and transformers compute all logits of random tokens, ours the
NLL too; llama.cpp computes the last token's logits only, which is the faster
of what it can do, and multiplies 4-bit weights.
"""
import argparse
import re
import statistics
import subprocess
import time

import numpy as np

# (compute, tokens) -> what the ratio to transformers is meant to reach.
WANTED = {("f32", 2048): 2.3, ("bf16", 2048): 1.5}


def ours(bench, model, tokens, compute):
    """Tokens a second and what the program printed."""
    flags = ["--bf16"] if compute == "bf16" else []
    out = subprocess.run([bench, *flags, model, str(tokens)], check=True,
                         capture_output=True, text=True).stdout
    return float(re.search(r"([0-9.]+) tokens/s", out).group(1)), out


class Transformers:
    """transformers on two threads, weights and arithmetic of one type."""

    def __init__(self, model, compute):
        import torch
        import transformers
        torch.set_num_threads(2)
        transformers.logging.set_verbosity_error()
        self.torch = torch
        kinds = {"f32": torch.float32, "bf16": torch.bfloat16}
        self.net = transformers.AutoModelForCausalLM.from_pretrained(
            model, torch_dtype=kinds[compute])
        self.net.eval()
        self.name = (f"transformers {transformers.__version__} "
                     f"(torch {torch.__version__}), {compute}")

    def tokens_per_s(self, tokens, windows):
        ids = self.torch.tensor(
            np.random.default_rng(1).integers(0, 49152, (windows, tokens)))
        with self.torch.no_grad():
            self.net(ids[:1])
            start = time.perf_counter()
            for i in range(windows):
                self.net(ids[i:i + 1])
        return windows * tokens / (time.perf_counter() - start)


class LlamaCpp:
    """llama-cpp-python on two threads, in a process of its own."""

    def __init__(self, python, gguf):
        self.command = [python, "-c", PROGRAM, gguf]
        self.name = "llama-cpp-python " + self.run("0", "0").strip()

    def run(self, tokens, windows):
        return subprocess.run([*self.command, tokens, windows], check=True,
                              capture_output=True, text=True).stdout

    def tokens_per_s(self, tokens, windows):
        return float(self.run(str(tokens), str(windows)))


PROGRAM = """
import sys, time
import llama_cpp
gguf, tokens, windows = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
if tokens == 0:
    print(llama_cpp.__version__, "on", gguf.rsplit("/", 1)[-1])
    sys.exit()
net = llama_cpp.Llama(gguf, n_ctx=tokens, n_batch=tokens, n_threads=2,
                      n_threads_batch=2, verbose=False)
ids = [1 + i * 7919 % 49000 for i in range(tokens)]
net.eval(ids)
start = time.perf_counter()
for _ in range(windows):
    net.reset()
    net.eval(ids)
print(windows * tokens / (time.perf_counter() - start))
"""


def spread(ratios):
    ratios = sorted(ratios)
    return (f"{ratios[0]:.2f} {statistics.median(ratios):.2f} "
            f"{ratios[-1]:.2f}")


def measure(args, rivals, llama, tokens, windows):
    """Turns of everybody at one length."""
    mine = {c: [] for c in rivals}
    theirs = {c: [] for c in rivals}
    last, out = [], {}
    for _ in range(args.turns):
        for compute, rival in rivals.items():
            speed, out[compute] = ours(args.bench, args.model, tokens, compute)
            mine[compute].append(speed)
            theirs[compute].append(rival.tokens_per_s(tokens, windows))
        if llama is not None:
            last.append(llama.tokens_per_s(tokens, windows))
    print(f"{tokens} tokens; ratios: min, median, max of {args.turns} turns")
    for compute in rivals:
        print("  " + out[compute].rstrip().replace("\n", "\n  "))
        ratios = [a / b for a, b in zip(mine[compute], theirs[compute])]
        wanted = WANTED.get((compute, tokens))
        verdict = "" if wanted is None else (
            f", wanted {wanted}: " +
            ("reached" if statistics.median(ratios) >= wanted else "MISSED"))
        print(f"  {compute}: ours {statistics.median(mine[compute]):.0f}, "
              f"transformers {statistics.median(theirs[compute]):.0f} "
              f"tokens/s, ratio {spread(ratios)}{verdict}")
        if last:
            print(f"  {compute}: llama.cpp {statistics.median(last):.0f} "
                  "tokens/s, ratio "
                  f"{spread(a / b for a, b in zip(mine[compute], last))}")
    f32, bf16 = mine["f32"], mine["bf16"]
    print(f"  bf16 to f32, ours {spread(b / a for a, b in zip(f32, bf16))}, "
          "transformers "
          f"{spread(b / a for a, b in zip(theirs['f32'], theirs['bf16']))}",
          flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bench", required=True)
    parser.add_argument("--model", required=True)
    parser.add_argument("--llama-python", help="a Python with llama_cpp")
    parser.add_argument("--gguf", help="the model for it")
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--tokens", type=int, nargs="+", default=[512, 2048])
    args = parser.parse_args()
    rivals = {c: Transformers(args.model, c) for c in ("f32", "bf16")}
    llama = None
    if args.llama_python is not None:
        llama = LlamaCpp(args.llama_python, args.gguf)
    for rival in (*rivals.values(), llama):
        if rival is not None:
            print(f"rival: {rival.name}")
    for tokens in args.tokens:
        measure(args, rivals, llama, tokens, max(1, 4096 // tokens))


if __name__ == "__main__":
    main()
