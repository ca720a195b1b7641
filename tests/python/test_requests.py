# SPDX-License-Identifier: GPL-3.0-or-later
"""Log-likelihood requests against the answers of lm-evaluation-harness in
tests/golden/requests (made by make.py there)."""
import math
import os
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

TOP = Path(os.environ.get("PTQ_SOURCE_DIR", Path(__file__).parents[2]))
PROGRAM = os.environ.get("PTQSWEEP")
GOLDEN = TOP / "tests/golden/requests"
sys.path.insert(0, str(TOP / "tests/parity"))

import lm_eval_tasks as lm  # noqa: E402

NAMES = ("llama-25k", "opt-25k")
MODELS = [TOP / "sweeps/zoo" / name for name in NAMES]
# Of float32 sums over up to a hundred tokens, by two programs.
NATS = 1e-3


@unittest.skipUnless(PROGRAM, "PTQSWEEP names the program")
class Case(unittest.TestCase):
    def setUp(self):
        temp = tempfile.TemporaryDirectory()
        self.addCleanup(temp.cleanup)
        text = (TOP / "README.md").read_text(encoding="utf-8")
        self.ours = lm.Ours(PROGRAM, sys.executable, temp.name, text)

    def samples(self, model, task):
        return lm.read_samples(GOLDEN / f"{model}.{task}.jsonl")

    def check_share(self, row, column, values):
        """A share and its error, as lm-eval has them."""
        n, mean = len(values), sum(values) / len(values)
        self.assertEqual(row[column], mean)
        self.assertAlmostEqual(row[column + "_se"],
                               math.sqrt(mean * (1 - mean) / (n - 1)), 12)


class Golden(Case):
    """lm-eval's answers."""

    def check_task(self, task, norms):
        rows, _, answers = self.ours.ask(
            MODELS, GOLDEN / f"{NAMES[0]}.{task}.jsonl")
        for row in rows:
            samples = self.samples(row["model"], task)
            own = [a for a in answers if a["model"] == row["model"]]
            self.assertEqual(row["n_requests"], len(samples))
            self.assertEqual(row["requests"].split("/")[0],
                             f"{NAMES[0]}.{task}.jsonl")
            for theirs, column, choice in norms:
                right = [s[theirs] for s in samples]
                self.check_share(row, column, right)
                self.assertEqual(right, [
                    float(a[choice] == a["right"]) for a in own])
        return rows, answers

    def check_logp(self, task):
        samples = self.samples(NAMES[0], task)
        found = self.ours.logp(MODELS, samples, True)
        for model in NAMES:
            for ours, theirs in zip(found[model], self.samples(model, task)):
                self.assertEqual(len(ours), len(theirs["logp"]))
                for a, b in zip(ours, theirs["logp"]):
                    self.assertLess(abs(a - b), NATS)

    def test_multiple_choice(self):
        _, answers = self.check_task("cloze", (
            ("acc", "accuracy", "choice_reference"),
            ("acc_norm", "accuracy_norm", "choice_norm_reference"),
            ("acc_bytes", "accuracy_byte", "choice_byte_reference")))
        for model in NAMES:
            samples = self.samples(model, "cloze")
            own = [a for a in answers if a["model"] == model]
            for a, s in zip(own, samples):
                right = s["logp"][int(a["right"])]
                other = max(v for i, v in enumerate(s["logp"])
                            if i != a["right"])
                self.assertLess(abs(a["margin_reference"] - right + other),
                                2 * NATS)
        self.check_logp("cloze")

    def test_contexts_as_choices(self):
        self.check_task("blank", (("acc", "accuracy", "choice_reference"),))
        self.check_logp("blank")

    def test_a_single_continuation(self):
        _, answers = self.check_task(
            "last", (("acc", "accuracy", "choice_reference"),))
        self.assertTrue(all(a["margin"] is None for a in answers))
        self.check_logp("last")


class Columns(Case):
    """What follows from the answers in the store."""

    def test_points_against_the_unquantized_model(self):
        rows, points, answers = self.ours.ask(
            MODELS, GOLDEN / "llama-25k.cloze.jsonl", dtype="int2",
            more=", limit: 11")
        self.assertEqual(len(points), 2)
        for point, row in zip(points, rows):
            self.assertIn(":11/", point["requests"])
            own = [a for a in answers if a["model"] == point["model"]]
            self.assertEqual([a["request"] for a in own], list(range(11)))
            right = [a["choice"] == a["right"] for a in own]
            before = [a["choice_reference"] == a["right"] for a in own]
            self.check_share(point, "accuracy", right)
            self.check_share(point, "flips", [
                a["choice"] != a["choice_reference"] for a in own])
            self.check_share(point, "flips_norm", [
                a["choice_norm"] != a["choice_norm_reference"] for a in own])
            self.check_share(point, "accuracy_token", [
                a["choice_token"] == a["right"] for a in own])
            self.assertEqual(row["accuracy"], sum(before) / 11)
            d = [a - b for a, b in zip(right, before)]
            mean = sum(d) / 11
            se = math.sqrt(sum((x - mean) ** 2 for x in d) / 10 / 11)
            self.assertAlmostEqual(point["daccuracy"], mean, 12)
            self.assertAlmostEqual(point["daccuracy_se"], se, 12)
            self.assertAlmostEqual(
                point["daccuracy"], point["accuracy"] - row["accuracy"], 12)
        self.assertTrue(any(p["flips"] > 0 for p in points))

    def test_bits_do_not_depend_on_the_batch(self):
        path = GOLDEN / "opt-25k.blank.jsonl"
        _, _, alone = self.ours.ask(MODELS, path, dtype="int4")
        _, _, both = self.ours.ask(MODELS, path, dtype="int2, int4")
        for a in alone:
            (b,) = [b for b in both if b["key"] == a["key"]
                    and b["request"] == a["request"]]
            self.assertEqual((a["logp"], a["margin"], a["choice"]),
                             (b["logp"], b["margin"], b["choice"]))

    def test_a_sweep_without_requests(self):
        spec = self.ours.directory / "s.yaml"
        _, points, _ = self.ours.ask(MODELS, GOLDEN / "opt-25k.last.jsonl")
        keys = {p["key"] for p in points}
        text = spec.read_text()
        lines = [x for x in text.splitlines() if "requests:" not in x]
        spec.write_text("\n".join(lines) + "\n")
        store = self.ours.directory / "t.h5"
        subprocess.run([PROGRAM, "run", str(spec), "-o", str(store),
                        "--quiet"], check=True)
        for p in self.ours.table(store, "points"):
            self.assertNotIn(p["key"], keys)
            self.assertEqual(p["requests"], "")
            self.assertIsNone(p["accuracy"])
            self.assertIsNone(p["flips_se"])
        self.assertEqual(self.ours.table(store, "answers"), [])


if __name__ == "__main__":
    unittest.main()
