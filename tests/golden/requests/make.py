#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-3.0-or-later
"""Make the golden answers of lm-evaluation-harness for models of the zoo.

  make.py [--text FILE]

Runs lm-eval's own command over the tasks of tests/parity/lm_eval_tasks.py,
made of Persuasion as sweeps/austen.py writes it (default:
sweeps/austen/test.txt), and keeps the files of its --log_samples:
MODEL.TASK.jsonl hold contexts, choices, log-likelihoods and what was right.
Versions are in versions.json. Needs the packages of
tests/parity/requirements-newer.txt and PyTorch.
"""
import argparse
import json
import platform
import shutil
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path

HERE = Path(__file__).resolve().parent
TOP = HERE.parents[2]
sys.path.insert(0, str(TOP / "tests/parity"))
import lm_eval_tasks  # noqa: E402

MODELS = ("llama-25k", "opt-25k")
QUESTIONS, SEED = 16, 1


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--text", default=TOP / "sweeps/austen/test.txt")
    args = parser.parse_args()
    text = Path(args.text).read_text(encoding="utf-8")
    docs = lm_eval_tasks.make_docs(text, SEED, QUESTIONS)
    with tempfile.TemporaryDirectory() as scratch:
        lm_eval_tasks.write_tasks(scratch, docs)
        for model in MODELS:
            found = lm_eval_tasks.answer(
                sys.executable, TOP / "sweeps/zoo" / model, scratch)
            for task, path in found.items():
                shutil.copy(path, HERE / f"{model}.{task}.jsonl")
    names = ("lm_eval", "transformers", "tokenizers", "torch", "datasets")
    (HERE / "versions.json").write_text(json.dumps(
        {"python": platform.python_version(),
         **{name: version(name) for name in names}}, indent=1) + "\n")


if __name__ == "__main__":
    main()
