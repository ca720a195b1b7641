# SPDX-License-Identifier: GPL-3.0-or-later
"""Questions for lm-evaluation-harness and their answers by it.

Three tasks of a text: `cloze` (multiple choice: how does a sentence go on),
`blank` (the choices are contexts, as in WinoGrande) and `last` (a single
continuation, as in LAMBADA), with what tokenizing makes difficult: contexts
that end in spaces, none at all, longer than what a model sees; choices of one
token, of other scripts, with line ends. `answer` runs lm-eval's own command
over them and returns the files of its --log_samples.
"""
import json
import os
import random
import re
import subprocess
from pathlib import Path

# The token that lm-eval puts for an empty context; the zoo's tokenizers name
# none.
PREFIX = 5
TASK = """\
task: ptq_{name}
dataset_path: json
dataset_kwargs: {{data_files: {{test: {docs}}}}}
test_split: test
output_type: {kind}
doc_to_text: "{text}"
doc_to_target: "{target}"
{choice}metric_list: [{metrics}]
metadata: {{version: 1.0}}
"""
METRIC = "{{metric: {}, aggregation: mean, higher_is_better: true}}"
NAMES = ("cloze", "blank", "last")


def sentences(text):
    """Sentences of a text in one line each."""
    found = re.split(r"(?<=[.!?])\s+", re.sub(r"\s+", " ", text))
    return [s for s in found if 40 < len(s) < 240 and len(s.split(" ")) > 8]


def split_sentence(sentence, rng):
    """(beginning, rest)"""
    words = sentence.split(" ")
    at = rng.randrange(3, len(words) - 2)
    return " ".join(words[:at]), " ".join(words[at:])


def make_docs(text, seed, n):
    """{task: [doc]} with n questions for `cloze`, half as many elsewhere."""
    rng = random.Random(seed)
    pool = sentences(text)
    docs = {name: [] for name in NAMES}
    for i in range(n):
        context, right = split_sentence(rng.choice(pool), rng)
        choices = [split_sentence(rng.choice(pool), rng)[1] for _ in range(3)]
        kind = i % 8
        if kind == 1:
            context += " " * rng.randrange(1, 4)
        elif kind == 2:
            context = ""
        elif kind == 3:  # a few examples in front
            context = "\n\n".join([rng.choice(pool) for _ in range(3)]
                                  + [context])
        elif kind == 4 and i < 16:  # longer than the model sees
            context = " ".join([rng.choice(pool) for _ in range(20)]
                               + [context])
        elif kind == 5:
            right, choices = "A", ["B", "C", "D"]
        elif kind == 6:
            choices[0] = "\u00e0 la na\u00efvet\u00e9 \u65e5\u672c\u8a9e"
            choices[1] = right + " Or so."
        elif kind == 7:
            choices[0] = "one.\n\n  Another line"
        answer = rng.randrange(4)
        choices.insert(answer, right)
        docs["cloze"].append({"context": context, "choices": choices,
                              "answer": answer})
    for i in range(n // 2):
        context, end = split_sentence(rng.choice(pool), rng)
        other = context.rsplit(" ", 1)[0] + " nothing"
        answer = rng.randrange(2)
        docs["blank"].append({
            "contexts": [other, context] if answer else [context, other],
            "answer": answer, "end": end})
        words = rng.choice(pool).split(" ")
        docs["last"].append({"context": " ".join(words[:-1]),
                             "end": words[-1]})
    return docs


def write_tasks(directory, docs):
    """Task files and their documents in a directory."""
    def metrics(*names):
        return ", ".join(METRIC.format(name) for name in names)
    parts = {
        "cloze": ("multiple_choice", "{{context}}", "{{answer}}",
                  'doc_to_choice: "{{choices}}"\n',
                  metrics("acc", "acc_norm", "acc_bytes")),
        "blank": ("multiple_choice", "{{answer}}", "{{end}}",
                  'doc_to_choice: "{{contexts}}"\n', metrics("acc")),
        "last": ("loglikelihood", "{{context}}", "{{end}}", "",
                 metrics("acc")),
    }
    for name, (kind, text, target, choice, metric) in parts.items():
        path = Path(directory) / f"{name}.jsonl"
        with open(path, "w", encoding="utf-8") as file:
            for doc in docs[name]:
                file.write(json.dumps(doc) + "\n")
        (Path(directory) / f"{name}.yaml").write_text(TASK.format(
            name=name, docs=path, kind=kind, text=text, target=target,
            choice=choice, metrics=metric))


def answer(python, model, directory):
    """{task: path of the samples} of lm-eval's command for a model."""
    output = Path(directory) / f"out-{Path(model).name}"
    env = dict(os.environ, HF_HUB_OFFLINE="1", HF_DATASETS_OFFLINE="1",
               HF_HOME=str(Path(directory) / "hf"), TQDM_DISABLE="1")
    done = subprocess.run(
        [python, "-m", "lm_eval", "--model", "hf", "--model_args",
         f"pretrained={model},dtype=float32,prefix_token_id={PREFIX},"
         # With its cache, two requests of the same tokens that are split at
         # other places get log-probabilities of the wrong positions (0.4.13).
         "logits_cache=False",
         "--include_path", str(directory), "--tasks",
         ",".join(f"ptq_{name}" for name in NAMES), "--device", "cpu",
         "--batch_size", "8", "--log_samples", "--output_path", str(output)],
        env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if done.returncode != 0:
        raise RuntimeError(f"lm-eval failed:\n{done.stdout[-4000:]}")
    found = {}
    for name in NAMES:
        (found[name],) = output.glob(f"*/samples_ptq_{name}_*.jsonl")
    return found


def read_samples(path):
    """[{pairs, logp, greedy, acc, acc_norm, acc_bytes}] of a samples file."""
    found = []
    with open(path, encoding="utf-8") as lines:
        for line in lines:
            data = json.loads(line)
            keys = sorted(data["arguments"],
                          key=lambda key: int(key.rsplit("_", 1)[1]))
            pairs = [(data["arguments"][k]["arg_0"],
                      data["arguments"][k]["arg_1"]) for k in keys]
            replies = data["filtered_resps"]
            if len(pairs) == 1:
                replies = [replies] if isinstance(replies[0], str) else replies
            found.append({
                "pairs": pairs,
                "logp": [float(r[0]) for r in replies],
                "greedy": [str(r[1]) == "True" for r in replies],
                **{k: data[k] for k in ("acc", "acc_norm", "acc_bytes")
                   if k in data}})
    return found


SPEC = """\
name: requests
models: [{models}]
data:
  calibration: {{text: text.txt, windows: 8, length: 128, seed: 1}}
  evaluation: {{text: text.txt, windows: 4, length: 128}}
  requests: {{file: {file}, prefix: {prefix}{more}}}
grid: {{dtype: [{dtype}], method: [{method}], group: [32]}}
measure: {{spectra: "off"}}
"""


class Ours:
    """ptqsweep's answers to files of requests, in a directory of its own."""

    def __init__(self, program, python, directory, text):
        self.program, self.python = str(program), str(python)
        self.directory = Path(directory)
        (self.directory / "text.txt").write_text(text, encoding="utf-8")

    def ask(self, models, path, dtype="int8", method="rtn", more=""):
        """(models, points, answers): rows of the export."""
        spec, store = self.directory / "s.yaml", self.directory / "s.h5"
        spec.write_text(SPEC.format(
            models=", ".join(map(str, models)), file=path, prefix=PREFIX,
            more=more, dtype=dtype, method=method))
        store.unlink(missing_ok=True)
        top = Path(__file__).resolve().parents[2]
        for command in ([self.python, str(top / "sweeps/prepare.py"),
                         "--quiet", str(spec)],
                        [self.program, "run", str(spec), "-o", str(store),
                         "--quiet"]):
            done = subprocess.run(command, stdout=subprocess.PIPE,
                                  stderr=subprocess.STDOUT, text=True)
            if done.returncode != 0:
                raise RuntimeError(f"{command}: {done.stdout}")
        return [self.table(store, name)
                for name in ("models", "points", "answers")]

    def table(self, store, name):
        done = subprocess.run(
            [self.program, "export", str(store), "--table", name, "--format",
             "jsonl"], check=True, stdout=subprocess.PIPE, text=True)
        return [json.loads(line) for line in done.stdout.splitlines()]

    def logp(self, models, samples, reference, **how):
        """{model: [[log-likelihood of each choice] of each question]}.

        The store has the right choice's, so every choice is the right one
        once. `reference`: the unquantized model's.
        """
        most = max(len(s["pairs"]) for s in samples)
        found = {Path(m).name: [[] for _ in samples] for m in models}
        path = self.directory / "rotated.jsonl"
        with open(path, "w", encoding="utf-8") as file:
            for turn in range(most):
                for s in samples:
                    contexts, choices = zip(*s["pairs"])
                    file.write(json.dumps({
                        "contexts": contexts, "choices": choices,
                        "answer": min(turn, len(choices) - 1)}) + "\n")
        for row in self.ask(models, path, **how)[2]:
            turn, at = divmod(row["request"], len(samples))
            if turn < len(samples[at]["pairs"]):
                found[row["model"]][at].append(
                    row["logp_reference" if reference else "logp"])
        return found
