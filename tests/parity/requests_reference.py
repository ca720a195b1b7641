# SPDX-License-Identifier: GPL-3.0-or-later
"""Log-likelihood requests against lm-evaluation-harness, which runs here: new
questions each day, on models of the zoo and on a quantized point written by
`ptqsweep materialize`. Log-likelihoods of every choice, and accuracies, which
must be equal. Prints a table as parity.py does; exit status 1 when a row
fails.
"""
import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

import lm_eval_tasks as lm
from table import Table

TOP = Path(__file__).resolve().parents[2]
MODELS = [TOP / "sweeps/zoo/llama-300k", TOP / "sweeps/zoo/opt-85k"]
BOUND = 1e-3  # nats
COLUMNS = {"acc": "accuracy", "acc_norm": "accuracy_norm",
           "acc_bytes": "accuracy_byte"}


def compare(table, label, task, samples, row, logp):
    """`row` has the accuracies, `logp` every choice's log-likelihood."""
    off = max(abs(a - b) for own, s in zip(logp, samples)
              for a, b in zip(own, s["logp"]))
    longest = max(-min(s["logp"]) for s in samples)
    table.row(f"{label}, {task}: log-likelihoods", longest, longest, off, BOUND)
    for theirs, ours in COLUMNS.items():
        if theirs not in samples[0]:
            continue
        mean = sum(s[theirs] for s in samples) / len(samples)
        table.row(f"{label}, {task}: {theirs}", row[ours], mean,
                  abs(row[ours] - mean), 0.0)


def unquantized(table, ours, python, scratch):
    """Models of the zoo; {model: {task: samples file}}."""
    found = {model: lm.answer(python, model, scratch) for model in MODELS}
    first = found[MODELS[0]]
    for task in lm.NAMES:
        rows, _, _ = ours.ask(MODELS, first[task])
        logp = ours.logp(MODELS, lm.read_samples(first[task]), True)
        for model, row in zip(MODELS, rows):
            compare(table, model.name, task,
                    lm.read_samples(found[model][task]), row,
                    logp[model.name])
    return found


def quantized(table, ours, python, scratch, asked):
    """A point in the store, and its model as materialize writes it."""
    model, how = MODELS[0], {"dtype": "int3", "method": "gptq"}
    made = Path(scratch) / "made"
    _, (point,), _ = ours.ask([model], asked[model]["cloze"], **how)
    subprocess.run([ours.program, "materialize",
                    str(ours.directory / "s.h5"), "--point", point["key"],
                    "-o", str(made)], check=True, capture_output=True)
    found = lm.answer(python, made, scratch)
    for task in lm.NAMES:
        samples = lm.read_samples(found[task])
        _, (point,), _ = ours.ask([model], found[task], **how)
        logp = ours.logp([model], samples, False, **how)[model.name]
        compare(table, f"{model.name} int3 gptq", task, samples, point, logp)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--build", required=True)
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--prepare", default=sys.executable,
                        help="Python for sweeps/prepare.py")
    args = parser.parse_args()
    table = Table()
    text = (TOP / "README.md").read_text(encoding="utf-8")
    text += (TOP / "LICENSE").read_text(encoding="utf-8")
    with tempfile.TemporaryDirectory() as scratch:
        lm.write_tasks(scratch, lm.make_docs(text, args.seed, 24))
        own = Path(scratch) / "ours"
        own.mkdir()
        ours = lm.Ours(Path(args.build) / "ptqsweep", args.prepare, own, text)
        asked = unquantized(table, ours, sys.executable, scratch)
        quantized(table, ours, sys.executable, scratch, asked)
    return 1 if table.failed else 0


if __name__ == "__main__":
    sys.exit(main())
