# SPDX-License-Identifier: GPL-3.0-or-later
"""Our gradients and Hessian-vector products and PyTorch's in turn: tokens a
second, and the ratio.

Both run two threads in float32: ours on windows that they share out, PyTorch's
on transformers' model. Both differentiate the NLL of random tokens
by the weights of all linear layers of the blocks; products along several
directions share what they can: ours the window's own passes, PyTorch's the
graph of the gradient.
"""
import argparse
import re
import statistics
import subprocess
import time

import numpy as np

DIRECTIONS = 3


def ours(bench, model, tokens, extra):
    """{what: tokens a second} and what the program printed."""
    done = subprocess.run([bench, *extra, model, str(tokens), "1"],
                          capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise SystemExit(done.stdout + done.stderr + "bench_gradient failed")
    rates = {}
    for line in done.stdout.splitlines():
        found = re.match(r"(.*?) +\d+: +([0-9.]+) tokens/s", line)
        if found:
            rates[re.sub(r" +", " ", found[1])] = float(found[2])
    return rates, done.stdout


class Rival:
    """PyTorch, float32, two threads."""

    def __init__(self, model, attention):
        import torch
        import transformers
        torch.set_num_threads(2)
        transformers.logging.set_verbosity_error()
        self.torch = torch
        self.net = transformers.AutoModelForCausalLM.from_pretrained(
            model, torch_dtype=torch.float32, attn_implementation=attention)
        self.net.eval()
        self.params = []
        for name, p in self.net.named_parameters():
            chosen = p.dim() == 2 and ".layers." in name
            p.requires_grad_(chosen)
            if chosen:
                self.params.append(p)
        torch.manual_seed(1)
        self.directions = [[torch.randn_like(p) for p in self.params]
                           for _ in range(DIRECTIONS)]

    def loss(self, ids):
        logits = self.net(ids[None], use_cache=False).logits[0]
        return self.torch.nn.functional.cross_entropy(logits[:-1], ids[1:])

    def gradient(self, ids):
        self.torch.autograd.grad(self.loss(ids), self.params)

    def products(self, ids, count):
        grads = self.torch.autograd.grad(self.loss(ids), self.params,
                                         create_graph=True)
        for j in range(count):
            self.torch.autograd.grad(grads, self.params,
                                     grad_outputs=self.directions[j],
                                     retain_graph=j + 1 < count)

    def rate(self, tokens, per, run):
        """Tokens a second of run(ids), which does `per` things."""
        ids = self.torch.tensor(np.random.default_rng(1).integers(
            0, self.net.config.vocab_size, tokens))
        run(ids)
        start = time.perf_counter()
        run(ids)
        return per * tokens / (time.perf_counter() - start)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bench", required=True)
    parser.add_argument("--model", required=True)
    parser.add_argument("--tokens", type=int, default=512)
    parser.add_argument("--turns", type=int, default=3)
    args, extra = parser.parse_known_args()
    # PyTorch's fused attention cannot be differentiated twice.
    once, twice = Rival(args.model, "sdpa"), Rival(args.model, "eager")
    runs = {
        "gradient": (1, once.gradient, once),
        "product, at once: 1": (1, lambda ids: twice.products(ids, 1), twice),
        f"product, at once: {DIRECTIONS}":
            (DIRECTIONS, lambda ids: twice.products(ids, DIRECTIONS), twice)}
    pairs = {what: [] for what in runs}
    for _ in range(args.turns):
        mine, out = ours(args.bench, args.model, args.tokens, extra)
        for what, (per, run, rival) in runs.items():
            pairs[what].append((mine[what],
                                rival.rate(args.tokens, per, run)))
    print(out, end="")
    for what, both in pairs.items():
        ratios = sorted(a / b for a, b in both)
        print(f"  {what}: ours {statistics.median(a for a, _ in both):.0f}, "
              f"torch {once.torch.__version__} "
              f"{statistics.median(b for _, b in both):.0f} tokens/s, ratio "
              f"{ratios[0]:.2f} {statistics.median(ratios):.2f} "
              f"{ratios[-1]:.2f} (min, median, max of {args.turns} turns)",
              flush=True)


if __name__ == "__main__":
    main()
