#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-3.0-or-later
"""Train models of the zoo.

  train.py MODEL... [--texts DIR] [-o DIR] [--epochs N]
  train.py --list | --table | --entries

MODEL is one of --list, 'all', which is what the zoo has, or 'planned', which
is what it does not have yet (--list tells which). Reads train.txt, select.txt
and test.txt as austen.py writes them (--texts, default: ../austen beside this
script), trains a tokenizer (byte-level BPE; unigram for gpt_neox) and the
model on one thread, and writes

  DIR/MODEL/config.json, tokenizer.json, tokenizer_config.json,
            model.safetensors (bf16)
  DIR/logs/MODEL.csv        loss while training
  DIR/logs/MODEL.json       what was trained and how well it ended

Some MODELs are runs at a constant learning rate: of these, the checkpoints
that models.py names are written, to DIR/runs/ and DIR/logs/runs/; planned
ones too, except by 'all'.

DIR defaults to this script's directory. The seed is part of the model's row
in models.py; the same versions (requirements.txt) on the same kind of CPU
give the same weights. --table prints README.md's tables from the logs, and
--entries the models of ../study.yaml with their covariates.
"""
import argparse
import contextlib
import copy
import csv
import itertools
import json
import math
import os
import sys
import time

import numpy as np
import tokenizers
import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer, decoders, pre_tokenizers, processors
from tokenizers import models as tokenizer_models
from tokenizers import trainers
from torch.nn import functional as F

import models
import overview
from overview import TrainError

CHUNK = 512  # tokens a chunk
WINDOW = 256  # context of three steps in four, and of every evaluation
LOG_EVERY = 50  # steps
WEIGHT_DECAY = 0.1
BETAS = (0.9, 0.95)
CLIP = 1.0
WARM_UP = 0.03  # share of all steps
RUN_WARM_UP = 50  # steps, of a run at a constant learning rate
DECAY = 4  # a decay takes this part of the steps before it


def read_text(directory, name):
    path = os.path.join(directory, name)
    try:
        with open(path, encoding="utf-8", newline="") as file:
            return file.read()
    except OSError as error:
        raise TrainError(f"'{path}': {error.strerror}; make the texts with "
                         f"austen.py -o {directory}") from error


def settle_unigram(tok):
    """Order the pieces by rounded scores, then by spelling.

    Single bytes that score below every longer piece get one score: the
    trainer, which needs them for completeness only, leaves theirs to chance.
    """
    pieces = json.loads(tok.to_str())["model"]["vocab"]
    least = min(score for piece, score in pieces if len(piece) > 1)
    scores = [(piece, round(score if score >= least else least - 1, 6))
              for piece, score in pieces]
    tok.model = tokenizer_models.Unigram(
        sorted(scores, key=lambda row: (-row[1], row[0])))


def train_tokenizer(text, vocab, unigram=False):
    """A byte-level tokenizer of `vocab` tokens, none of them special."""
    tok = Tokenizer(tokenizer_models.Unigram() if unigram
                    else tokenizer_models.BPE())
    tok.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tok.decoder = decoders.ByteLevel()
    tok.post_processor = processors.ByteLevel(trim_offsets=False)
    kind = trainers.UnigramTrainer if unigram else trainers.BpeTrainer
    trainer = kind(
        vocab_size=vocab, show_progress=False,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()))
    tok.train_from_iterator(text.splitlines(keepends=True), trainer)
    if unigram:
        settle_unigram(tok)
    if tok.get_vocab_size() != vocab:
        raise TrainError(f"the text yields {tok.get_vocab_size()} tokens, "
                         f"not {vocab}; it is too short")
    return tok


def encode(tok, text):
    return torch.from_numpy(np.array(tok.encode(text).ids, dtype=np.int64))


def batches(ids, chunks, steps, rng):
    """Yield (inputs, targets) of `steps` steps.

    Every pass cuts the text at a new random phase into chunks of 512 tokens
    in a new random order. Every fourth step sees `chunks` of them whole, the
    others see them halved, since contexts of 256 are what is evaluated.
    """
    done = 0
    while done < steps:
        phase = int(rng.integers(CHUNK))
        count = (len(ids) - 1 - phase) // CHUNK
        order = rng.permutation(count)
        for at in range(0, count - chunks + 1, chunks):
            if done == steps:
                return
            rows = [phase + CHUNK * int(i)
                    for i in order[at:at + chunks]]
            x = torch.stack([ids[r:r + CHUNK] for r in rows])
            y = torch.stack([ids[r + 1:r + CHUNK + 1] for r in rows])
            length = CHUNK if done % 4 == 3 else WINDOW
            yield x.view(-1, length), y.view(-1, length)
            done += 1


@torch.no_grad()
def nll(model, ids, limit=None):
    """Mean NLL, nats a token, of windows of 256 cut without overlap."""
    model.eval()
    count = len(ids) // WINDOW
    if limit is not None:
        count = min(count, limit)
    windows = ids[:count * WINDOW].view(count, WINDOW)
    total = 0.0
    for part in windows.split(16):
        logits = model(part)[:, :-1]
        total += F.cross_entropy(logits.flatten(0, 1).double(),
                                 part[:, 1:].flatten(),
                                 reduction="sum").item()
    model.train()
    return total / (count * (WINDOW - 1))


def learning_rate(shape, step, steps):
    """Linear warm-up, then linear decay to zero."""
    warm = max(1, int(WARM_UP * steps))
    if step < warm:
        return shape.lr * (step + 1) / warm
    return shape.lr * (steps - step) / (steps - warm)


def optimizer_of(model):
    decayed = [p for n, p in model.named_parameters()
               if p.dim() == 2 and "embed_positions" not in n]
    others = [p for n, p in model.named_parameters()
              if p.dim() < 2 or "embed_positions" in n]
    return torch.optim.AdamW(
        [{"params": decayed, "weight_decay": WEIGHT_DECAY},
         {"params": others, "weight_decay": 0.0}],
        betas=BETAS, fused=True)


class Trainer:
    """A model while it is trained, with its optimizer and losses so far."""

    def __init__(self, name, shape, ids, seed):
        self.name, self.shape, self.ids, self.seed = name, shape, ids, seed
        torch.manual_seed(seed)
        self.model = models.build(shape)
        self.optimizer = optimizer_of(self.model)
        self.per_pass = (len(ids) - 1) // (CHUNK * shape.chunks)
        self.losses, self.step, self.seen = [], 0, 0

    def branch(self, name):
        """A copy that goes on by itself."""
        other = copy.copy(self)
        other.name, other.losses = name, list(self.losses)
        other.model = copy.deepcopy(self.model)
        other.optimizer = optimizer_of(other.model)
        other.optimizer.load_state_dict(
            copy.deepcopy(self.optimizer.state_dict()))
        return other

    def update(self, x, y, lr):
        """One step; its loss."""
        for group in self.optimizer.param_groups:
            group["lr"] = lr
        # Matrix products in bf16; weights, norms and loss stay float32.
        with torch.autocast("cpu", torch.bfloat16):
            logits = self.model(x)
        loss = F.cross_entropy(logits.float().flatten(0, 1), y.flatten())
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), CLIP)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        return loss.item()

    def advance(self, steps, rate, writer, select):
        """Train until `steps` steps are done, with learning rate rate(step).

        The batches are those of the seed's stream, from where it stands.
        """
        stream = batches(self.ids, self.shape.chunks, steps,
                         np.random.default_rng(self.seed))
        first, start = self.seen, time.monotonic()
        for x, y in itertools.islice(stream, self.step, None):
            lr = rate(self.step)
            self.losses.append(self.update(x, y, lr))
            self.seen += x.numel()
            if not math.isfinite(self.losses[-1]):
                raise TrainError(f"{self.name}: loss {self.losses[-1]} at "
                                 f"step {self.step}")
            self.step += 1
            if self.step % LOG_EVERY != 0 and self.step != steps:
                continue
            check = self.step % (10 * LOG_EVERY) == 0 or self.step == steps
            held = f"{nll(self.model, select, 32):.4f}" if check else ""
            writer.writerow([self.step, self.seen, f"{lr:.6g}",
                             f"{mean(self.losses[-LOG_EVERY:]):.4f}", held])
            if check:
                speed = (self.seen - first) / (time.monotonic() - start)
                print(f"{self.name}: step {self.step}/{steps}, loss "
                      f"{mean(self.losses[-LOG_EVERY:]):.4f}, select {held}, "
                      f"{speed:.0f} tokens/s", flush=True)

    def tail_loss(self):
        """Mean loss of the last 2 % of the steps."""
        return mean(self.losses[-max(1, self.step // 50):])


def mean(values):
    return sum(values) / len(values)


@contextlib.contextmanager
def loss_log(path):
    """A CSV writer, flushed line by line, that has its header."""
    with open(path, "w", encoding="utf-8", newline="", buffering=1) as file:
        writer = csv.writer(file)
        writer.writerow(["step", "tokens", "lr", "train_loss", "select_nll"])
        yield writer


def write_json(path, value):
    with open(path, "w", encoding="utf-8") as file:
        json.dump(value, file, indent=2, sort_keys=True)
        file.write("\n")


def save_tokenizer(directory, tok, shared):
    """tokenizer.json: a link to `shared` where that is the same tokenizer."""
    path = os.path.join(directory, "tokenizer.json")
    if os.path.lexists(path):
        os.unlink(path)
    tok.save(path)
    if shared is None or not os.path.isfile(shared):
        return
    with open(path, "rb") as own, open(shared, "rb") as other:
        same = own.read() == other.read()
    if same:
        os.unlink(path)
        os.symlink(os.path.relpath(shared, directory), path)


def save(directory, shape, tok, model, shared=None):
    """Write the Hugging Face directory; rounds the model's weights to bf16."""
    os.makedirs(directory, exist_ok=True)
    with torch.no_grad():
        for p in model.parameters():
            p.copy_(p.to(torch.bfloat16))
    save_file({n: p.detach().to(torch.bfloat16).contiguous()
               for n, p in model.named_parameters()},
              os.path.join(directory, "model.safetensors"),
              metadata={"format": "pt"})
    save_tokenizer(directory, tok, shared)
    write_json(os.path.join(directory, "config.json"), models.config(shape))
    write_json(os.path.join(directory, "tokenizer_config.json"),
               {"tokenizer_class": "PreTrainedTokenizerFast",
                "clean_up_tokenization_spaces": False,
                "model_max_length": models.MAX_POSITIONS})


class Texts:
    """The tokenizer of a family and the texts under it."""

    def __init__(self, directory, family):
        text = read_text(directory, "train.txt")
        self.tokenizer = train_tokenizer(text, models.VOCAB[family],
                                         family == "gpt_neox")
        self.train = encode(self.tokenizer, text)
        self.select, self.test = (
            encode(self.tokenizer, read_text(directory, name))
            for name in ("select.txt", "test.txt"))


def keep(trainer, texts, output, seconds, **facts):
    """Write a trained model and what it was; rounds its weights to bf16."""
    model, name = trainer.model, trainer.name
    total, inner = models.counts(model)
    before = nll(model, texts.select)
    shared = (os.path.join(output, facts["shape"], "tokenizer.json")
              if "shape" in facts else None)
    folder = os.path.join(output, "runs") if shared else output
    save(os.path.join(folder, name), trainer.shape, texts.tokenizer, model,
         shared)
    result = {
        "model": name, "params": total, "params_nonembedding": inner,
        **vars(trainer.shape), **facts, "tokens_seen": trainer.seen,
        "train_loss": round(trainer.tail_loss(), 4),
        "select_nll_float32": round(before, 6),
        "select_nll": round(nll(model, texts.select), 6),
        "test_nll": round(nll(model, texts.test), 6),
        "seconds": round(seconds), "torch": torch.__version__,
        "tokenizers": tokenizers.__version__}
    if shared:  # passes, seed and schedule are the run's
        del result["epochs"]
    logs = os.path.join(output, "logs", "runs" if shared else "")
    write_json(os.path.join(logs, name + ".json"), result)
    print(f"{name}: select {result['select_nll']}, "
          f"test {result['test_nll']}", flush=True)


def announce(trainer, passes):
    total, inner = models.counts(trainer.model)
    print(f"{trainer.name}: {total} parameters, {inner} in blocks, "
          f"{len(trainer.ids)} tokens a pass, {passes} passes", flush=True)


def train(name, directory, output, epochs):
    """Train one model of the zoo from the texts to its directory."""
    shape = models.SHAPES[name]
    if epochs is not None:
        shape = models.Shape(**{**vars(shape), "epochs": epochs})
    texts = Texts(directory, shape.family)
    trainer = Trainer(name, shape, texts.train, shape.seed)
    announce(trainer, shape.epochs)
    steps = shape.epochs * trainer.per_pass
    logs = os.path.join(output, "logs")
    os.makedirs(logs, exist_ok=True)
    start = time.monotonic()
    with loss_log(os.path.join(logs, name + ".csv")) as writer:
        trainer.advance(steps, lambda step: learning_rate(shape, step, steps),
                        writer, texts.select)
    keep(trainer, texts, output, time.monotonic() - start)


def constant_rate(shape, step):
    """Linear warm-up, then constant."""
    return shape.lr * min(1.0, (step + 1) / RUN_WARM_UP)


def decay(trunk, name, texts, logs):
    """A branch of the run whose learning rate falls linearly to zero."""
    branch, first = trunk.branch(name), trunk.step
    more = first // DECAY
    with loss_log(os.path.join(logs, name + ".csv")) as writer:
        branch.advance(
            first + more, lambda step:
            trunk.shape.lr * (first + more - step) / more,
            writer, texts.select)
    return branch


def train_run(name, directory, output, wanted):
    """Train a run at a constant learning rate; keep the checkpoints wanted."""
    run = models.RUNS[name]
    shape = models.Shape(**{**vars(models.SHAPES[run.model]),
                            "seed": run.seed})
    texts = Texts(directory, shape.family)
    trunk = Trainer(name, shape, texts.train, run.seed)
    announce(trunk, max(passes for passes, _ in wanted))
    logs = os.path.join(output, "logs", "runs")
    os.makedirs(logs, exist_ok=True)
    start = time.monotonic()
    with loss_log(os.path.join(logs, name + ".csv")) as writer:
        for passes, state in sorted(wanted):
            trunk.advance(passes * trunk.per_pass,
                          lambda step: constant_rate(shape, step), writer,
                          texts.select)
            one = models.checkpoint(run, passes, state)
            # Neither the decay's dropout nor rounding touches the run.
            with torch.random.fork_rng(devices=[]):
                kept = (decay(trunk, one, texts, logs) if state == "decayed"
                        else trunk.branch(one))
                keep(kept, texts, output, time.monotonic() - start,
                     shape=run.model, run=name, passes=passes, lr_state=state)


def work(name):
    """{name: checkpoints, or None of a model} that a name on the command line
    stands for; empty if it is unknown."""
    whole = {n: None for n in models.SHAPES} | {
        n: run.kept + run.planned for n, run in models.RUNS.items()}
    if name == "all":
        here = {n: None for n in models.SHAPES if n not in models.PLANNED}
        return here | {n: run.kept for n, run in models.RUNS.items()
                       if run.kept}
    if name == "planned":
        return {n: whole[n] for n in whole if n in models.PLANNED
                or whole[n] is not None and models.RUNS[n].planned}
    return {name: whole[name]} if name in whole else {}


def parse(argv):
    """(options, {name: checkpoints or None} of what is to be trained)."""
    here = os.path.dirname(os.path.abspath(__file__))
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("model", nargs="*")
    parser.add_argument("--texts", metavar="DIR", default=os.path.join(
        os.path.dirname(here), "austen"))
    parser.add_argument("-o", "--output", metavar="DIR", default=here)
    parser.add_argument("--epochs", type=int, metavar="N",
                        help="passes over the text, instead of the row's")
    for name in ("--list", "--table", "--entries"):
        parser.add_argument(name, action="store_true")
    args = parser.parse_args(argv)
    jobs = {}
    for name in args.model:
        if not work(name):
            parser.error(f"no model '{name}'; there are "
                         f"{', '.join([*models.SHAPES, *models.RUNS])}")
        jobs |= work(name)
    if args.epochs is not None and args.epochs < 1:
        parser.error("--epochs must be at least 1")
    runs = [name for name in jobs if name in models.RUNS]
    if args.epochs is not None and runs:
        parser.error(f"--epochs says nothing of the run '{runs[0]}': its "
                     "checkpoints are named by their passes (models.py)")
    if not (jobs or args.list or args.table or args.entries):
        parser.error("name a model, 'all' or 'planned'")
    return args, jobs


def main(argv=None):
    args, jobs = parse(argv)
    if args.list:
        print(overview.listing())
        return 0
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    torch.utils.deterministic.fill_uninitialized_memory = False
    try:
        for name, wanted in jobs.items():
            if wanted is None:
                train(name, args.texts, args.output, args.epochs)
            else:
                train_run(name, args.texts, args.output, wanted)
        if args.table:
            print(overview.table(args.output))
        if args.entries:
            print(overview.entries(args.output))
    except (TrainError, OSError) as error:
        print(f"train.py: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
