# SPDX-License-Identifier: GPL-3.0-or-later
"""Points' models as `ptqsweep materialize` writes them, in transformers: every
method on two models of the zoo, in float32 and bfloat16, and methods that fold
scales, rotate or add low ranks on the small model of every architecture. The
NLL on the evaluation text stands beside the store's; of bfloat16, whose
weights are others, beside the written model's in a sweep of its own. Prints a
table as parity.py does; exit status 1 when a row fails.
"""
import argparse
import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

from presets import nll_of
from table import Table

TOP = Path(__file__).resolve().parents[2]
WINDOWS = 4
BOUND = 1e-4  # relative
METHODS = ["rtn", "{name: rtn, scales: mse}", "hqq", "awq", "gptq", "gptaq",
           "descent", "{name: autoround, iters: 20}", "quip",
           "{name: rht, base: gptq}",
           "{name: quarot, base: gptq}",
           "{name: quarot, hadamard_inputs: true}", "{name: lqer, rank: 4}",
           "{name: eora, rank: 4, base: gptq}"]
FOLDING = ["awq", "{name: quarot, base: gptq}", "{name: lqer, rank: 4}"]
SPEC = """\
models: [{model}]
data:
  calibration: {{text: text.txt, windows: 8, length: {length}}}
  selection: {{text: text.txt, windows: 2, length: {length}}}
  evaluation: {{text: text.txt, windows: {windows}, length: {length}}}
grid: {{dtype: ["int4:asym"], method: [{methods}], group: [{group}]}}
measure: {{spectra: "off"}}
"""


class Bench:
    """Sweeps in a directory, and what transformers says of their models."""

    def __init__(self, program, prepare, directory, text):
        self.program, self.prepare, self.directory = program, prepare, directory
        self.text = text
        (directory / "text.txt").write_text(text, encoding="utf-8")

    def tell(self, *args):
        """What a command prints; its end in the error when it fails."""
        done = subprocess.run([str(a) for a in args], cwd=self.directory,
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                              text=True)
        if done.returncode != 0:
            raise RuntimeError(f"{args[0]} {args[1]}: {done.stderr[-300:]}")
        return done.stdout

    def sweep(self, name, model, methods, length, group):
        """Rows of the tables points and models."""
        spec, store = (self.directory / f"{name}.{end}"
                       for end in ("yaml", "h5"))
        store.unlink(missing_ok=True)
        spec.write_text(SPEC.format(model=model, methods=", ".join(methods),
                                    length=length, windows=WINDOWS,
                                    group=group))
        self.tell(self.prepare, TOP / "sweeps/prepare.py", "--quiet", spec)
        self.tell(self.program, "run", spec, "-o", store, "--quiet")
        return [[json.loads(line) for line in self.tell(
            self.program, "export", store, "--table", table, "--format",
            "jsonl").splitlines()] for table in ("points", "models")]

    def theirs(self, length):
        """Mean NLL of the written model, its weights in float32."""
        import transformers
        from tokenizers import Tokenizer
        made = self.directory / "made"
        # Soft caps want "eager", which adds Falcon's ALiBi twice.
        kind = json.loads((made / "config.json").read_text())["model_type"]
        net = transformers.AutoModelForCausalLM.from_pretrained(
            made, attn_implementation="sdpa" if kind == "falcon"
            else "eager").float()
        ids = Tokenizer.from_file(str(made / "tokenizer.json")).encode(
            self.text).ids[:WINDOWS * length]
        return float(np.mean([nll_of(net, window).mean() for window in
                              np.array(ids).reshape(WINDOWS, length)]))

    def compare(self, table, model, methods, length, group, dtypes):
        points, _ = self.sweep("s", model, methods, length, group)
        for point in points:
            for dtype in dtypes:
                shutil.rmtree(self.directory / "made", ignore_errors=True)
                self.tell(self.program, "materialize", "s.h5", "--point",
                          point["key"], "-o", "made", "--dtype", dtype)
                nll = point["nll"]
                if dtype == "bf16":
                    _, (row,) = self.sweep("b", "made", ["rtn"], length, group)
                    nll = row["nll"]
                theirs = self.theirs(length)
                label = (f"{point['model']} {point['method']} "
                         f"{point['options']}")[:38]
                table.row(f"{label} {dtype}", nll, theirs,
                          abs(nll / theirs - 1), BOUND)


def letters():
    """A tokenizer of 45 letters, for the models of the architectures."""
    known = list("abcdefghijklmnopqrstuvwxyz .\nABCDEFGHILMNOSTW")[:44]
    return {"version": "1.0", "truncation": None, "padding": None,
            "added_tokens": [], "normalizer": None, "pre_tokenizer": None,
            "post_processor": None, "decoder": None,
            "model": {"type": "BPE", "dropout": None, "unk_token": "<unk>",
                      "continuing_subword_prefix": None,
                      "end_of_word_suffix": None, "fuse_unk": False,
                      "byte_fallback": False, "ignore_merges": False,
                      "merges": [], "vocab": {
                          c: i for i, c in enumerate(["<unk>"] + known)}}}


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--build", required=True)
    parser.add_argument("--prepare", default=sys.executable,
                        help="Python for sweeps/prepare.py")
    args = parser.parse_args()
    import transformers
    transformers.logging.set_verbosity_error()
    table = Table()
    text = (TOP / "README.md").read_text(encoding="utf-8")
    program = Path(args.build).resolve() / "ptqsweep"
    with tempfile.TemporaryDirectory() as scratch:
        bench = Bench(program, args.prepare, Path(scratch), text)
        for name in ("llama-85k", "opt-85k"):
            bench.compare(table, TOP / "sweeps/zoo" / name, METHODS, 128, 32,
                          ("f32", "bf16"))
        for source in sorted((TOP / "tests/golden/architectures").iterdir()):
            if not (source / "config.json").exists():
                continue
            model = Path(scratch) / source.name
            shutil.copytree(source, model)
            (model / "tokenizer.json").write_text(json.dumps(letters()))
            bench.compare(table, model, FOLDING, 50, "row", ("f32",))
    return 1 if table.failed else 0


if __name__ == "__main__":
    sys.exit(main())
