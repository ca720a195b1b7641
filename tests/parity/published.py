# SPDX-License-Identifier: GPL-3.0-or-later
"""A published model on a text: our NLL and transformers', on the same weights
in float32. Prints a table as parity.py does; exit status 1 when a row fails.
"""
import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

from table import Table

WINDOWS, LENGTH = 2, 768  # longer than the sliding window
BOUND = 1e-4  # relative


def windows_of(model, text):
    """uint32 [WINDOWS, LENGTH], the text's first windows, as they come."""
    from tokenizers import Tokenizer
    tokenizer = Tokenizer.from_file(str(Path(model) / "tokenizer.json"))
    start = Path(text).read_text(encoding="utf-8")[:WINDOWS * LENGTH * 8]
    ids = np.array(tokenizer.encode(start).ids, np.uint32)
    return ids[:WINDOWS * LENGTH].reshape(WINDOWS, LENGTH)


def our_nll(build, model, ids):
    with tempfile.TemporaryDirectory() as scratch:
        np.save(f"{scratch}/ids.npy", ids)
        done = subprocess.run(
            [f"{build}/tests/parity/parity_logits", str(model),
             f"{scratch}/ids.npy", "/dev/null"],
            check=True, capture_output=True, text=True)
    return np.array([float(line) for line in done.stdout.split()])


def their_nll(model, ids):
    import torch
    import transformers
    transformers.logging.set_verbosity_error()
    net = transformers.AutoModelForCausalLM.from_pretrained(
        model, dtype=torch.float32, attn_implementation="eager").eval()
    sums = []
    with torch.no_grad():
        for window in torch.from_numpy(ids.astype(np.int64)):
            logits = net(window[None], use_cache=False).logits[0, :-1]
            top = torch.logsumexp(logits, -1).double()
            target = logits.gather(-1, window[1:, None])[:, 0].double()
            sums.append(float((top - target).sum()))
    return np.array(sums)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--build", required=True)
    parser.add_argument("--model", required=True)
    parser.add_argument("--text", help="WikiText-2's test text")
    args = parser.parse_args()
    table = Table()
    what = f"{Path(args.model).name} on WikiText-2, NLL (relative)"
    if args.text is None:
        table.not_run(what, "give --wikitext DIR (test.txt, valid.txt)")
        return 1
    ids = windows_of(args.model, args.text)
    ours, theirs = our_nll(args.build, args.model, ids), their_nll(
        args.model, ids)
    count = WINDOWS * (LENGTH - 1)
    table.row(what, ours.sum() / count, theirs.sum() / count,
              float(np.max(np.abs(ours / theirs - 1))), BOUND)
    return 1 if table.failed else 0


if __name__ == "__main__":
    sys.exit(main())
