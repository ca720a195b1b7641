# SPDX-License-Identifier: GPL-3.0-or-later
"""What the zoo has and what is planned, as train.py prints it."""
import json
import os

import models


class TrainError(Exception):
    """A failure with a message for the user."""


def read_log(output, name, *folder):
    path = os.path.join(output, "logs", *folder, name + ".json")
    try:
        with open(path, encoding="utf-8") as file:
            return json.load(file)
    except OSError as error:
        raise TrainError(f"'{path}': {error.strerror}; train it first: "
                         f"train.py {name}") from error


def checkpoints():
    """Yield (name, run, passes, lr_state) of the runs' checkpoints here."""
    for run in models.RUNS.values():
        for passes, state in run.kept:
            yield models.checkpoint(run, passes, state), run, passes, state


def table(output):
    """README.md's tables, from the logs."""
    rows = ["| model | parameters | without embeddings | width | layers "
            "| heads | kv heads | d_ff | tokens seen | train loss "
            "| Northanger Abbey | Persuasion |",
            "| --- " + "| ---: " * 11 + "|"]
    for name in models.SHAPES:
        if name in models.PLANNED:
            continue
        r = read_log(output, name)
        rows.append(
            f"| {name} | {r['params']:,} | {r['params_nonembedding']:,} "
            f"| {r['width']} | {r['layers']} | {r['heads']} "
            f"| {r['kv_heads']} | {r['d_ff']} "
            f"| {r['tokens_seen'] / 1e6:.1f} M | {r['train_loss']:.3f} "
            f"| {r['select_nll']:.3f} | {r['test_nll']:.3f} |")
    rows += ["", "| checkpoint | passes | tokens seen | train loss "
             "| Northanger Abbey | Persuasion |",
             "| --- " + "| ---: " * 5 + "|"]
    for name, _, passes, _ in checkpoints():
        r = read_log(output, name, "runs")
        rows.append(
            f"| {name} | {passes} | {r['tokens_seen'] / 1e6:.2f} M "
            f"| {r['train_loss']:.3f} | {r['select_nll']:.3f} "
            f"| {r['test_nll']:.3f} |")
    return "\n".join(rows)


def entries(output):
    """The models of ../study.yaml, from the logs."""
    rows = []
    for name, shape in models.SHAPES.items():
        if name in models.PLANNED:
            continue
        r = read_log(output, name)
        held = ", holdout: true" if shape.family == "gpt_neox" else ""
        rows.append(f"  - {{path: zoo/{name}, train_tokens: "
                    f"{r['tokens_seen']}, lr_state: decayed,\n"
                    f"     train_seed: {shape.seed}{held}}}")
    for name, run, _, state in checkpoints():
        r = read_log(output, name, "runs")
        rows.append(f"  - {{path: zoo/runs/{name}, train_tokens: "
                    f"{r['tokens_seen']},\n     lr_state: {state}, "
                    f"train_seed: {run.seed}, run: {run.name()}}}")
    return "\n".join(rows)


def listing():
    """Text of --list: every name, and what of it is planned."""
    rows = [name + "  (planned)" * (name in models.PLANNED)
            for name in models.SHAPES]
    for name, run in models.RUNS.items():
        left = ", ".join(models.checkpoint(run, *point).removeprefix(
            name + "-") for point in run.planned)
        rows.append(name + f"  (planned: {left})" * bool(left))
    return "\n".join(rows)
