# SPDX-License-Identifier: GPL-3.0-or-later
"""Every key of config.json, changed: refused, or what transformers computes.

The models are tests/golden/architectures. Of each, one key at a time that its
config has or that transformers' class knows takes other values (switches
turned, numbers larger and smaller, other activations and rope scalings, left
out); our logits of one window must be transformers', or the config refused.
What transformers itself cannot run says nothing.

Prints a table as parity.py does, a row a model: the largest difference among
the configs that both compute; what differs is listed with it. Exit status 1
when a row fails.
"""
import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import warnings
from pathlib import Path

import numpy as np

TOP = Path(__file__).resolve().parents[2]
GOLDEN = TOP / "tests/golden/architectures"
sys.path.insert(0, str(GOLDEN))

import make_architectures as golden  # noqa: E402
from table import Table  # noqa: E402

LENGTH = 24
ACTIVATIONS = ("relu", "silu", "gelu", "gelu_new", "gelu_pytorch_tanh",
               "quick_gelu", "tanh")
ROPES = ({"rope_type": "linear", "factor": 2.0},
         {"type": "dynamic", "factor": 2.0}, {"factor": 2.0})
# What may stand in any rope_scaling, read by some of the types.
IN_ROPE = ({"truncate": False}, {"truncate": True}, {"truncate": None},
           {"truncate": False, "beta_slow": 0.01},
           {"truncate": None, "beta_slow": 0.01},
           {"truncate": True, "beta_slow": 0.01},
           {"attention_factor": 1.3}, {"attention_factor": None},
           {"mscale": 0.7}, {"mscale_all_dim": 1.2},
           {"mscale": 0.7, "mscale_all_dim": 1.2}, {"mscale": 0.0},
           {"beta_fast": 4.0}, {"beta_slow": 0.3}, {"factor": 3.0},
           {"original_max_position_embeddings": 11},
           {"original_max_position_embeddings": None},
           {"rope_theta": 77.0}, {"twist": False}, {"twist": 0},
           {"low_freq_factor": 2.0}, {"high_freq_factor": 3.0})
# What transformers takes as it comes: a window of nothing has no softmax.
UNDEFINED = (("sliding_window", 0), ("sliding_window", -1))
MISSING = object()


def others(key, value):
    """Other values of a key, most of them plausible."""
    if isinstance(value, bool):
        return [not value, None]
    if isinstance(value, int):
        return [value + 1, max(1, value // 2), 2 * value, 0, -1]
    if isinstance(value, float):
        return [1.5 * value, 0.5 * value, 0.0]
    if isinstance(value, str):
        return [a for a in ACTIVATIONS if "act" in key and a != value] or ["x"]
    if isinstance(value, list):
        return [value[::-1], value[:-1], None]
    if isinstance(value, dict):
        return [None] + [{**value, k: v} for k in value
                         for v in others(k, value[k])] + [
            {k: v for k, v in value.items() if k != gone} for gone in value]
    return [1, 1.5, True, *(ROPES if "rope" in key else ())]


def in_rope(config):
    """Values of rope_scaling with further keys; where LLaMA's is yarn, which
    takes transformers 4.57 to compare with, of all types."""
    own = config.get("rope_scaling")
    kinds = [own] if own else []
    if config["model_type"] == "llama" and own == golden.YARN:
        pairs = golden.longrope({"head": config["head_dim"]}, 3.0)
        kinds += [golden.LLAMA3, {**pairs, "factor": 4.0}, pairs,
                  {**pairs, "type": "yarn", "factor": 4.0},
                  {**pairs, "type": "su", "factor": 4.0}, *ROPES]
    for kind in kinds:
        yield kind
        for more in IN_ROPE:
            yield {**kind, **more}
        for key in ("short_factor", "long_factor"):
            if key in kind:
                yield {**kind, key: kind[key][::-1]}
                yield {**kind, key: kind[key][1:]}


def changes(config, known):
    """(key, value, beside) of every change; MISSING: the key is left out.

    `beside` are other keys that change with it.
    """
    for rope in in_rope(config):
        yield "rope_scaling", rope, {}
        yield "rope_scaling", rope, {"original_max_position_embeddings": 13}
        yield "rope_scaling", rope, {"original_max_position_embeddings": 48}
    from transformers import PretrainedConfig
    general = set(PretrainedConfig().to_dict()) - {"tie_word_embeddings"}
    for key, value in {**known, **config}.items():
        if key in general or key == "model_type":
            continue
        for other in others(key, value):
            if (key, other) not in UNDEFINED:
                yield key, other, {}
        if key in config:
            yield key, MISSING, {}


def ours(build, model, ids, scratch):
    """Logits, or None where the config is refused."""
    np.save(f"{scratch}/ids.npy", ids[None].astype(np.uint32))
    done = subprocess.run(
        [f"{build}/tests/parity/parity_logits", str(model),
         f"{scratch}/ids.npy", f"{scratch}/logits", f"{scratch}/inputs"],
        capture_output=True, text=True, timeout=60)
    if done.returncode == 1 and done.stderr:
        return None
    done.check_returncode()
    return np.fromfile(f"{scratch}/logits", np.float32).reshape(len(ids), -1)


def theirs(model, ids):
    """Logits, or None where transformers fails."""
    import torch
    import transformers
    try:
        config = transformers.AutoConfig.from_pretrained(model)
        # Soft caps want "eager", which adds Falcon's ALiBi twice.
        attention = "sdpa" if config.model_type == "falcon" else "eager"
        net = transformers.AutoModelForCausalLM.from_pretrained(
            model, torch_dtype=torch.float32, attn_implementation=attention)
        return golden.logits(net.eval(), ids)
    except Exception:  # whatever it may be: this config runs nowhere
        return None


def compare(table, build, case):
    config = json.loads((GOLDEN / case / "config.json").read_text())
    rng = np.random.default_rng(sum(case.encode()))
    ids = rng.integers(0, config["vocab_size"], LENGTH)
    import transformers
    known = transformers.AutoConfig.from_pretrained(GOLDEN / case).to_dict()
    worst, agreed, refused = (0.0, 0.0, 0.0), 0, 0
    with tempfile.TemporaryDirectory() as scratch:
        model = Path(scratch) / "model"
        shutil.copytree(GOLDEN / case, model)
        for key, value, beside in changes(config, known):
            changed = {**config, **beside}
            changed.pop(key, None)
            if value is not MISSING:
                changed[key] = value
            (model / "config.json").write_text(json.dumps(changed))
            our = ours(build, model, ids, scratch)
            refused += our is None
            their = theirs(model, ids) if our is not None else None
            if their is None:
                continue
            bound = 1e-4 + 1e-5 * np.abs(their).max()
            off = (float(np.abs(our - their).max() / bound)
                   if our.shape == their.shape else np.inf)
            worst = max(worst, (off, our.flat[-1], their.flat[-1]))
            agreed += off <= 1
            if not off <= 1:
                told = "left out" if value is MISSING else json.dumps(value)
                told += f" beside {json.dumps(beside)}" if beside else ""
                print(f"  {case}: '{key}' {told}: off by {off:.3g} bounds")
    table.row(f"{case}: {agreed} configs, {refused} refused", *worst[1:],
              worst[0], 1.0)
    if agreed == 0 or refused == 0:
        table.not_run(f"{case} configs", "no config was compared or refused")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--build", required=True)
    parser.add_argument("--without", nargs="*", default=[],
                        help="cases that ran elsewhere")
    parser.add_argument("case", nargs="*", help="default: all")
    args = parser.parse_args()
    warnings.filterwarnings("ignore")
    import transformers
    transformers.logging.set_verbosity(transformers.logging.CRITICAL)
    table = Table()
    for case in args.case or golden.CASES:
        if golden.available(case) and case not in args.without:
            compare(table, args.build, case)
    return 1 if table.failed else 0


if __name__ == "__main__":
    sys.exit(main())
