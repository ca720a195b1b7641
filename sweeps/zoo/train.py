#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-3.0-or-later
"""Train models of the zoo.

  train.py MODEL... [--texts DIR] [-o DIR] [--epochs N]
  train.py --list | --table

MODEL is one of --list, or 'all'. Reads train.txt, select.txt and test.txt as
austen.py writes them (--texts, default: ../austen beside this script), trains
a byte-level BPE tokenizer and the model on one thread, and writes

  DIR/MODEL/config.json, tokenizer.json, tokenizer_config.json,
            model.safetensors (bf16)
  DIR/logs/MODEL.csv        loss while training
  DIR/logs/MODEL.json       what was trained and how well it ended

DIR defaults to this script's directory. The seed is part of the model's row
in models.py; the same versions (requirements.txt) on the same kind of CPU
give the same weights. --table prints README.md's table from the logs.
"""
import argparse
import csv
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

CHUNK = 512  # tokens a chunk
WINDOW = 256  # context of three steps in four, and of every evaluation
LOG_EVERY = 50  # steps
WEIGHT_DECAY = 0.1
BETAS = (0.9, 0.95)
CLIP = 1.0
WARM_UP = 0.03  # share of all steps


class TrainError(Exception):
    """A failure with a message for the user."""


def read_text(directory, name):
    path = os.path.join(directory, name)
    try:
        with open(path, encoding="utf-8", newline="") as file:
            return file.read()
    except OSError as error:
        raise TrainError(f"'{path}': {error.strerror}; make the texts with "
                         f"austen.py -o {directory}") from error


def train_tokenizer(text, vocab):
    """A byte-level BPE tokenizer of `vocab` tokens, none of them special."""
    tok = Tokenizer(tokenizer_models.BPE())
    tok.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tok.decoder = decoders.ByteLevel()
    tok.post_processor = processors.ByteLevel(trim_offsets=False)
    trainer = trainers.BpeTrainer(
        vocab_size=vocab, show_progress=False,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()))
    tok.train_from_iterator(text.splitlines(keepends=True), trainer)
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


def fit(name, shape, model, ids, select, log):
    """Train `model`; returns (tokens seen, mean loss of the last 2 %)."""
    per_pass = (len(ids) - 1) // (CHUNK * shape.chunks)
    steps = shape.epochs * per_pass
    optimizer = optimizer_of(model)
    rng = np.random.default_rng(shape.seed)
    writer = csv.writer(log)
    writer.writerow(["step", "tokens", "lr", "train_loss", "select_nll"])
    losses, seen, start = [], 0, time.monotonic()
    for step, (x, y) in enumerate(batches(ids, shape.chunks, steps, rng)):
        lr = learning_rate(shape, step, steps)
        for group in optimizer.param_groups:
            group["lr"] = lr
        # Matrix products in bf16; weights, norms and loss stay float32.
        with torch.autocast("cpu", torch.bfloat16):
            logits = model(x)
        loss = F.cross_entropy(logits.float().flatten(0, 1), y.flatten())
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), CLIP)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        losses.append(loss.item())
        seen += x.numel()
        if not math.isfinite(losses[-1]):
            raise TrainError(f"{name}: loss {losses[-1]} at step {step}")
        if (step + 1) % LOG_EVERY == 0 or step + 1 == steps:
            check = ((step + 1) % (10 * LOG_EVERY) == 0 or step + 1 == steps)
            mean = sum(losses[-LOG_EVERY:]) / len(losses[-LOG_EVERY:])
            held = f"{nll(model, select, 32):.4f}" if check else ""
            writer.writerow([step + 1, seen, f"{lr:.6g}", f"{mean:.4f}", held])
            log.flush()
            if check:
                rate = seen / (time.monotonic() - start)
                print(f"{name}: step {step + 1}/{steps}, loss {mean:.4f}, "
                      f"select {held}, {rate:.0f} tokens/s", flush=True)
    tail = losses[-max(1, steps // 50):]
    return seen, sum(tail) / len(tail)


def write_json(path, value):
    with open(path, "w", encoding="utf-8") as file:
        json.dump(value, file, indent=2, sort_keys=True)
        file.write("\n")


def save(directory, shape, tok, model):
    """Write the Hugging Face directory; rounds the model's weights to bf16."""
    os.makedirs(directory, exist_ok=True)
    with torch.no_grad():
        for p in model.parameters():
            p.copy_(p.to(torch.bfloat16))
    save_file({n: p.detach().to(torch.bfloat16).contiguous()
               for n, p in model.named_parameters()},
              os.path.join(directory, "model.safetensors"),
              metadata={"format": "pt"})
    tok.save(os.path.join(directory, "tokenizer.json"))
    write_json(os.path.join(directory, "config.json"), models.config(shape))
    write_json(os.path.join(directory, "tokenizer_config.json"),
               {"tokenizer_class": "PreTrainedTokenizerFast",
                "clean_up_tokenization_spaces": False,
                "model_max_length": models.MAX_POSITIONS})


def train(name, texts, output, epochs):
    """Train one model of the zoo from the texts to its directory."""
    shape = models.SHAPES[name]
    if epochs is not None:
        shape = models.Shape(**{**vars(shape), "epochs": epochs})
    text = read_text(texts, "train.txt")
    tok = train_tokenizer(text, models.VOCAB[shape.family])
    ids = encode(tok, text)
    held = {part: encode(tok, read_text(texts, part + ".txt"))
            for part in ("select", "test")}
    torch.manual_seed(shape.seed)
    model = models.build(shape)
    total, inner = models.counts(model)
    print(f"{name}: {total} parameters, {inner} in blocks, {len(ids)} tokens "
          f"a pass, {shape.epochs} passes", flush=True)
    logs = os.path.join(output, "logs")
    os.makedirs(logs, exist_ok=True)
    start = time.monotonic()
    with open(os.path.join(logs, name + ".csv"), "w", encoding="utf-8",
              newline="") as log:
        seen, loss = fit(name, shape, model, ids, held["select"], log)
    seconds = time.monotonic() - start
    before = nll(model, held["select"])
    save(os.path.join(output, name), shape, tok, model)
    result = {
        "model": name, "params": total, "params_nonembedding": inner,
        **vars(shape), "tokens_seen": seen, "train_loss": round(loss, 4),
        "select_nll_float32": round(before, 6),
        "select_nll": round(nll(model, held["select"]), 6),
        "test_nll": round(nll(model, held["test"]), 6),
        "seconds": round(seconds), "torch": torch.__version__,
        "tokenizers": tokenizers.__version__}
    write_json(os.path.join(logs, name + ".json"), result)
    print(f"{name}: select {result['select_nll']}, "
          f"test {result['test_nll']}", flush=True)


def table(output):
    """README.md's table, from the logs."""
    rows = ["| model | parameters | without embeddings | width | layers "
            "| heads | kv heads | d_ff | tokens seen | train loss "
            "| Northanger Abbey | Persuasion |",
            "| --- " + "| ---: " * 11 + "|"]
    for name in models.SHAPES:
        path = os.path.join(output, "logs", name + ".json")
        try:
            with open(path, encoding="utf-8") as file:
                r = json.load(file)
        except OSError as error:
            raise TrainError(f"'{path}': {error.strerror}; train it "
                             f"first: train.py {name}") from error
        rows.append(
            f"| {name} | {r['params']:,} | {r['params_nonembedding']:,} "
            f"| {r['width']} | {r['layers']} | {r['heads']} "
            f"| {r['kv_heads']} | {r['d_ff']} "
            f"| {r['tokens_seen'] / 1e6:.1f} M | {r['train_loss']:.3f} "
            f"| {r['select_nll']:.3f} | {r['test_nll']:.3f} |")
    return "\n".join(rows)


def main(argv=None):
    here = os.path.dirname(os.path.abspath(__file__))
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("model", nargs="*")
    parser.add_argument("--texts", metavar="DIR", default=os.path.join(
        os.path.dirname(here), "austen"))
    parser.add_argument("-o", "--output", metavar="DIR", default=here)
    parser.add_argument("--epochs", type=int, metavar="N",
                        help="passes over the text, instead of the row's")
    parser.add_argument("--list", action="store_true")
    parser.add_argument("--table", action="store_true")
    args = parser.parse_args(argv)
    names = list(models.SHAPES) if args.model == ["all"] else args.model
    unknown = [name for name in names if name not in models.SHAPES]
    if unknown:
        parser.error(f"no model '{unknown[0]}'; there are "
                     f"{', '.join(models.SHAPES)}")
    if args.epochs is not None and args.epochs < 1:
        parser.error("--epochs must be at least 1")
    if args.list:
        print("\n".join(models.SHAPES))
        return 0
    if not names and not args.table:
        parser.error("name a model, or 'all'")
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    torch.utils.deterministic.fill_uninitialized_memory = False
    try:
        for name in names:
            train(name, args.texts, args.output, args.epochs)
        if args.table:
            print(table(args.output))
    except (TrainError, OSError) as error:
        print(f"train.py: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
