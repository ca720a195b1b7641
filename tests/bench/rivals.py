# SPDX-License-Identifier: GPL-3.0-or-later
"""Our forward pass and transformers' in turn: tokens a second, and the ratio.

Ours runs two single-threaded processes on disjoint windows, transformers two
threads in float32. Both compute all logits of random tokens, ours the NLL too.
"""
import argparse
import re
import statistics
import subprocess
import time

import numpy as np


def ours(bench, model, tokens):
    """Tokens a second and what the program printed."""
    out = subprocess.run([bench, model, str(tokens)], check=True,
                         capture_output=True, text=True).stdout
    return float(re.search(r"([0-9.]+) tokens/s", out).group(1)), out


class Rival:
    """transformers, float32, two threads."""

    def __init__(self, model):
        import torch
        import transformers
        torch.set_num_threads(2)
        transformers.logging.set_verbosity_error()
        self.torch = torch
        self.net = transformers.AutoModelForCausalLM.from_pretrained(
            model, torch_dtype=torch.float32)
        self.net.eval()
        self.name = (f"transformers {transformers.__version__}, "
                     f"torch {torch.__version__}")

    def tokens_per_s(self, tokens, windows):
        ids = self.torch.tensor(
            np.random.default_rng(1).integers(0, 49152, (windows, tokens)))
        with self.torch.no_grad():
            self.net(ids[:1])
            start = time.perf_counter()
            for i in range(windows):
                self.net(ids[i:i + 1])
        return windows * tokens / (time.perf_counter() - start)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bench", required=True)
    parser.add_argument("--model", required=True)
    parser.add_argument("--turns", type=int, default=3)
    args = parser.parse_args()
    rival = Rival(args.model)
    print(f"rival: {rival.name}")
    for tokens, windows in ((512, 6), (2048, 2)):
        pairs = []
        for _ in range(args.turns):
            mine, out = ours(args.bench, args.model, tokens)
            pairs.append((mine, rival.tokens_per_s(tokens, windows)))
        print(out, end="")
        ratios = sorted(a / b for a, b in pairs)
        print(f"  {tokens} tokens: ours {statistics.median(a for a, _ in pairs):.0f}, "
              f"transformers {statistics.median(b for _, b in pairs):.0f} tokens/s, "
              f"ratio {ratios[0]:.2f} {statistics.median(ratios):.2f} {ratios[-1]:.2f} "
              f"(min, median, max of {args.turns} turns)", flush=True)


if __name__ == "__main__":
    main()
