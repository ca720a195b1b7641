#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-3.0-or-later
"""Make golden logits of products of bfloat16 with transformers.

  make_bf16.py [CASE...] [-o DIR]

Reads the tiny models of tests/golden/architectures and writes DIR/CASE.ids.npy
and DIR/CASE.logits.npy (default: all cases that the installed transformers
has, here); README.md says what.
"""
import argparse
import json
import pathlib
import platform
import sys

import numpy as np

HERE = pathlib.Path(__file__).resolve().parent
ARCHITECTURES = HERE.parent / "architectures"
sys.path[:0] = [str(HERE), str(ARCHITECTURES)]

import make_architectures as golden  # noqa: E402
import oracle  # noqa: E402

TOKENS = 10
# Noise of operands that must not change how they are rounded: eight times what
# a float32 has, of the element and of its row's root mean square.
JITTER = 2.0 ** -21
SEEDS = 24  # of the noise
UNDECIDED = 1e-5  # of logits: one that falls the other way moves them by more
TRIES = 4000  # windows of tokens
# We multiply the projections of embedding and head into them, in float32.
OTHERWISE = ("opt-350m",)


def load(case):
    """The case's model in float32."""
    import torch
    import transformers
    attention = "sdpa" if golden.CASES[case][0] == "Falcon" else "eager"
    return transformers.AutoModelForCausalLM.from_pretrained(
        ARCHITECTURES / case, torch_dtype=torch.float32,
        attn_implementation=attention).eval()


def logits(net, ids, **how):
    """float32 [tokens, vocab] of one window."""
    import torch
    with oracle.Bf16(**how):
        return net(torch.from_numpy(ids.astype(np.int64))[None],
                   use_cache=False).logits[0].numpy()


def spread(net, ids, scale):
    """The logits, and the largest difference that noise makes of them."""
    exact = logits(net, ids, sums="float64", score_scale=scale)
    worst = 0.0
    hows = [{"sums": s} for s in oracle.ORDERS]
    hows += [{"sums": "float64", "jitter": JITTER, "seed": s}
             for s in range(SEEDS)]
    for how in hows:
        off = np.abs(logits(net, ids, score_scale=scale, **how) - exact)
        worst = max(worst, float(off.max()))
        if worst > UNDECIDED:  # a rounding that fell the other way
            break
    return exact, worst


def make(case, output):
    """Write the golden files of a case; returns what is to be recorded."""
    net = load(case)
    scale = oracle.unscaled(net)
    rng = np.random.default_rng(sum(case.encode()))
    for tried in range(TRIES):
        ids = rng.integers(0, golden.SMALL["vocab"], TOKENS).astype("<u4")
        exact, worst = spread(net, ids, scale)
        if worst <= UNDECIDED:
            break
    else:
        raise RuntimeError(f"{case}: {TRIES} windows have undecided roundings")
    off = float(np.abs(golden.logits(load(case), ids) - exact).max())
    np.save(output / f"{case}.ids.npy", ids)
    np.save(output / f"{case}.logits.npy", exact.astype("<f4"))
    print(f"{case}: window {tried}, noise {worst:.1e}, float32 differs by "
          f"{off:.1e}", flush=True)
    return {"noise": worst, "float32": off}


def main(argv=None):
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("case", nargs="*", help="default: all")
    parser.add_argument("-o", "--output", metavar="DIR", type=pathlib.Path,
                        default=HERE)
    args = parser.parse_args(argv)
    import torch
    import transformers
    transformers.logging.set_verbosity_error()
    torch.set_num_threads(1)
    path = args.output / "made.json"
    made = json.loads(path.read_text()) if path.exists() else {}
    versions = {"numpy": np.__version__, "python": platform.python_version(),
                "torch": torch.__version__,
                "transformers": transformers.__version__}
    for case in args.case or [c for c in golden.CASES if golden.available(c)
                              and c not in OTHERWISE]:
        made[case] = dict(make(case, args.output), **versions)
    path.write_text(json.dumps(made, indent=1, sort_keys=True) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
