# SPDX-License-Identifier: GPL-3.0-or-later
"""Points' models as `ptqsweep materialize` writes them, in transformers: the
NLL on the evaluation text beside the store's. Prints a table as parity.py
does; exit status 1 when a row fails.
"""
import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

from presets import nll_of
from table import Table

TOP = Path(__file__).resolve().parents[2]
WINDOWS, LENGTH = 8, 128
BOUND = 1e-4  # relative
SPEC = f"""\
name: materialized
models: [{TOP}/sweeps/zoo/llama-300k, {TOP}/sweeps/zoo/opt-300k]
data:
  calibration: {{text: text.txt, windows: 8, length: {LENGTH}, seed: 1}}
  evaluation: {{text: text.txt, windows: {WINDOWS}, length: {LENGTH}}}
grid:
  dtype: ["int3:asym", mxint4]
  method: [rtn, gptq]
  group: [32]
measure: {{spectra: "off"}}
"""


def their_nll(directory, ids, dtype):
    """Mean NLL of the written model in float32."""
    import transformers
    net = transformers.AutoModelForCausalLM.from_pretrained(directory)
    assert str(net.dtype).endswith(dtype), net.dtype
    net = net.float()
    return float(np.mean([nll_of(net, window).mean()
                          for window in ids.reshape(WINDOWS, LENGTH)]))


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--build", required=True)
    args = parser.parse_args()
    from tokenizers import Tokenizer
    import transformers
    transformers.logging.set_verbosity_error()
    table, program = Table(), f"{args.build}/ptqsweep"
    with tempfile.TemporaryDirectory() as scratch:
        text = (TOP / "README.md").read_text(encoding="utf-8")
        (Path(scratch) / "text.txt").write_text(text, encoding="utf-8")
        spec, store = f"{scratch}/s.yaml", f"{scratch}/s.h5"
        Path(spec).write_text(SPEC)
        subprocess.run([sys.executable, str(TOP / "sweeps/prepare.py"),
                        "--quiet", spec], check=True)
        subprocess.run([program, "run", spec, "-o", store, "--quiet"],
                       check=True, capture_output=True)
        subprocess.run([program, "export", store, "--table", "points",
                        "--format", "jsonl", "-o", f"{scratch}/p.jsonl"],
                       check=True)
        for line in open(f"{scratch}/p.jsonl", encoding="utf-8"):
            point = json.loads(line)
            made = f"{scratch}/{point['key']}"
            subprocess.run([program, "materialize", store, "--point",
                            point["key"], "-o", made], check=True,
                           capture_output=True)
            ids = np.array(Tokenizer.from_file(
                f"{made}/tokenizer.json").encode(text).ids[:WINDOWS * LENGTH])
            theirs = their_nll(made, ids, "float32")
            label = f"{point['model']} {point['dtype']} {point['method']}"
            table.row(f"materialized {label}", point["nll"], theirs,
                      abs(point["nll"] / theirs - 1), BOUND)
    return 1 if table.failed else 0


if __name__ == "__main__":
    sys.exit(main())
