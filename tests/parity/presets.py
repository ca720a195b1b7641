# SPDX-License-Identifier: GPL-3.0-or-later
"""The evaluation presets against the tools they are named after, on models of
sweeps/zoo and README.md as text. lm-eval is lm-eval: its class for Hugging
Face models and its rolling log-likelihood. The loops of the GPTQ scripts, of
transformers' page on perplexity and of llama-perplexity are no libraries:
their windows and scored tokens are written out here over transformers' logits.
Prints a table as parity.py does; exit status 1 when a row fails.
"""
import argparse
import csv
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch

from table import Table

TOP = Path(__file__).resolve().parents[2]
WINDOWS, LENGTH, STRIDE = 9, 128, 48
BOUND = 1e-5  # relative
WHOLE = "lm-eval, all positions, a last window not full"
SPEC = """\
name: presets
models: [{model}]
data:
  calibration: {{text: text.txt, windows: 2, length: {length}}}
  evaluation:
    - {{text: text.txt, windows: {windows}, length: {length}}}
    - {{text: text.txt, windows: {windows}, length: {length}, preset: llama.cpp}}
    - {{text: text.txt, windows: {windows}, length: {length},
       preset: "strided:{stride}"}}
    - {{text: rolling.txt, windows: {windows}, length: {length}, preset: lm-eval}}
    - {{text: whole.txt, windows: {whole}, length: {longest}, preset: lm-eval}}
grid: {{dtype: [int8], method: [rtn], group: [row]}}
measure: {{spectra: "off"}}
"""


def nll_of(net, ids):
    """NLL of tokens 1.. of one window, float64."""
    with torch.no_grad():
        logits = net(torch.tensor(ids)[None]).logits[0, :-1].double()
    target = torch.tensor(ids[1:])
    return -torch.log_softmax(logits, -1).gather(-1, target[:, None])[:, 0]


def gptq(net, ids):
    """The evaluation loop of the GPTQ scripts (opt.py, llama.py)."""
    nlls = []
    for i in range(WINDOWS):
        window = ids[i * LENGTH:(i + 1) * LENGTH]
        nlls.append(nll_of(net, window).mean() * LENGTH)
    return float(sum(nlls) / (WINDOWS * LENGTH))


def llama_cpp(net, ids, bos):
    """llama-perplexity: n_ctx / 2 <= j < n_ctx - 1 predicts token j + 1."""
    total = []
    for i in range(WINDOWS):
        window = list(ids[i * LENGTH:(i + 1) * LENGTH])
        if bos is not None:
            window[0] = bos
        total.append(nll_of(net, window)[LENGTH // 2:])
    return float(torch.cat(total).mean())


def strided(net, ids):
    """The loop of transformers' page on perplexity of fixed-length models."""
    ids = ids[:(WINDOWS - 1) * STRIDE + LENGTH]
    total, previous_end = [], 0
    for begin in range(0, len(ids), STRIDE):
        end = min(begin + LENGTH, len(ids))
        scored = end - previous_end
        nll = nll_of(net, ids[begin:end])
        total.append(nll[-scored:])
        previous_end = end
        if end == len(ids):
            break
    return float(torch.cat(total).mean())


def cut_for_rolling(own, text):
    """A beginning of the text that its windows take up whole."""
    want = WINDOWS * (LENGTH - 1)
    about = own.encode(text).offsets[want][1]
    for end in range(about + 200, about - 200, -1):
        if len(own.encode(text[:end]).ids) == want:
            return text[:end]
    raise RuntimeError("no part of the text has as many tokens")


def cut_anywhere(own, text, positions):
    """(text, windows): a part whose last window is not full."""
    part = text[:own.encode(text).offsets[4 * positions + positions // 3][1]]
    n = len(own.encode(part, add_special_tokens=False).ids)
    if n % positions == 0:
        raise RuntimeError("the text's last window is full")
    return part, -(-n // positions)


def lm_eval(model, text, n_tokens, max_length=None):
    """Mean NLL a token of a document by HFLM.loglikelihood_rolling."""
    from lm_eval.api.instance import Instance
    from lm_eval.models.huggingface import HFLM
    lm = HFLM(pretrained=str(model), dtype="float32", device="cpu",
              batch_size=1, max_length=max_length)
    instance = Instance(request_type="loglikelihood_rolling", doc={},
                        arguments=(text,), idx=0)
    os.environ["TQDM_DISABLE"] = "1"
    (logp,) = lm.loglikelihood_rolling([instance], disable_tqdm=True)
    return -logp / n_tokens


def ours(build, scratch, model, whole, positions):
    """{preset: NLL} of the unquantized model in a sweep."""
    spec = f"{scratch}/s.yaml"
    Path(spec).write_text(SPEC.format(
        model=model, windows=WINDOWS, length=LENGTH, stride=STRIDE,
        whole=whole, longest=positions + 1))
    subprocess.run([sys.executable, str(TOP / "sweeps/prepare.py"), "--quiet",
                    spec], check=True)
    subprocess.run([f"{build}/ptqsweep", "run", spec, "-o", f"{scratch}/s.h5",
                    "--quiet"], check=True, capture_output=True)
    subprocess.run([f"{build}/ptqsweep", "export", f"{scratch}/s.h5",
                    "--table", "models", "-o", f"{scratch}/m.csv"], check=True)
    with open(f"{scratch}/m.csv", newline="") as lines:
        rows = list(csv.DictReader(lines))
    return {WHOLE if row["evaluation"].startswith("whole.txt") else
            row["evaluation"].partition("/")[2] or "gptq": float(row["nll"])
            for row in rows}


def name_special(model, target, with_bos):
    """A copy of a model whose token 5 begins texts, or is there to end them
    only."""
    import shutil
    shutil.copytree(model, target)
    path = target / "tokenizer.json"
    tokenizer = json.loads(path.read_text())
    token = {i: t for t, i in tokenizer["model"]["vocab"].items()}[5]
    config = target / "tokenizer_config.json"
    config.write_text(json.dumps({
        **json.loads(config.read_text()),
        "bos_token" if with_bos else "eos_token": token}))
    if not with_bos:
        return
    tokenizer["post_processor"] = {
        "type": "TemplateProcessing",
        "single": [{"SpecialToken": {"id": token, "type_id": 0}},
                   {"Sequence": {"id": "A", "type_id": 0}}],
        "pair": [{"Sequence": {"id": "A", "type_id": 0}},
                 {"Sequence": {"id": "B", "type_id": 1}}],
        "special_tokens": {token: {"id": token, "ids": [5],
                                   "tokens": [token]}}}
    path.write_text(json.dumps(tokenizer))


def compare(table, build, name, with_bos):
    import transformers
    from tokenizers import Tokenizer
    with tempfile.TemporaryDirectory() as scratch:
        model = Path(scratch) / "model"
        name_special(TOP / "sweeps/zoo" / name, model, with_bos)
        text = (TOP / "README.md").read_text(encoding="utf-8")
        own = Tokenizer.from_file(str(model / "tokenizer.json"))
        ids = own.encode(text).ids
        rolling = cut_for_rolling(own, text)
        (Path(scratch) / "text.txt").write_text(text, encoding="utf-8")
        (Path(scratch) / "rolling.txt").write_text(rolling, encoding="utf-8")
        positions = json.loads(
            (model / "config.json").read_text())["max_position_embeddings"]
        part, whole = cut_anywhere(own, text, positions)
        (Path(scratch) / "whole.txt").write_text(part, encoding="utf-8")
        found = ours(build, scratch, model, whole, positions)
        net = transformers.AutoModelForCausalLM.from_pretrained(model).float()
        want = {"gptq": gptq(net, ids),
                "llama.cpp": llama_cpp(net, ids, ids[0] if with_bos else None),
                f"strided:{STRIDE}": strided(net, ids),
                "lm-eval": lm_eval(model, rolling, WINDOWS * (LENGTH - 1),
                                   LENGTH - 1),
                WHOLE: lm_eval(model, part, len(own.encode(part).ids))}
    for preset, theirs in want.items():
        label = f"{name}{' with bos' if with_bos else ''}, {preset}"
        table.row(label, found[preset], theirs,
                  abs(found[preset] / theirs - 1), BOUND)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--build", required=True)
    args = parser.parse_args()
    import transformers
    transformers.logging.set_verbosity_error()
    table = Table()
    compare(table, args.build, "llama-300k", False)
    compare(table, args.build, "opt-300k", True)
    return 1 if table.failed else 0


if __name__ == "__main__":
    sys.exit(main())
