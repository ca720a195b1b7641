# SPDX-License-Identifier: GPL-3.0-or-later
"""Tests of sweeps/zoo/train.py and models.py, where torch is installed
(sweeps/zoo/requirements.txt): python3 -m unittest discover tests/python."""
import contextlib
import importlib.util
import io
import itertools
import json
import pathlib
import random
import sys
import tempfile
import unittest
import unittest.mock

import numpy as np

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "sweeps/zoo"))
HAVE_TORCH = all(importlib.util.find_spec(name)
                 for name in ("torch", "transformers", "safetensors"))
if HAVE_TORCH:
    import torch
    import models
    import train


@unittest.skipUnless(HAVE_TORCH, "torch or transformers is not installed")
class Train(unittest.TestCase):
    def setUp(self):
        temp = tempfile.TemporaryDirectory()
        self.addCleanup(temp.cleanup)
        self.dir = pathlib.Path(temp.name)

    def write_texts(self):
        words = ["".join(random.Random(i).choices("abcdefghij", k=i % 7 + 2))
                 for i in range(900)]
        for number, name in enumerate(("train", "select", "test")):
            rng = random.Random(number)
            text = " ".join(rng.choice(words) for _ in range(9000)) + "\n"
            (self.dir / f"{name}.txt").write_text(text)

    def run_main(self, *args):
        """(exit code, standard output, standard error) of train.py."""
        out, err = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            try:
                code = train.main([*args, "--texts", str(self.dir),
                                   "-o", str(self.dir / "out")])
            except SystemExit as error:
                code = error.code
        return code, out.getvalue(), err.getvalue()

    def test_modules_compute_what_transformers_computes(self):
        from transformers import AutoModelForCausalLM
        tokenizer = unittest.mock.Mock()
        for name in ("llama-25k", "llama-1m", "opt-25k", "opt-1m",
                     "neox-25k", "neox-300k"):
            with self.subTest(model=name):
                shape = models.SHAPES[name]
                torch.manual_seed(1)
                own = models.build(shape).eval()
                for p in own.parameters():  # no norm at one, no bias at zero
                    p.data += 0.05 * torch.randn_like(p)
                train.save(self.dir / name, shape, tokenizer, own)
                other = AutoModelForCausalLM.from_pretrained(
                    self.dir / name, torch_dtype=torch.float32).eval()
                ids = torch.randint(0, models.VOCAB[shape.family], (2, 300))
                with torch.no_grad():
                    a, b = own(ids), other(ids).logits
                self.assertLess((a - b).abs().max() / b.abs().max(), 2e-6)

    def test_counts_leave_out_embeddings_positions_and_head(self):
        total, inner = models.counts(models.build(models.SHAPES["opt-25k"]))
        self.assertEqual(total - inner, (2048 + 514) * 32)
        total, inner = models.counts(models.build(models.SHAPES["llama-25k"]))
        self.assertEqual(total - inner, 2 * 1024 * 32)
        total, inner = models.counts(models.build(models.SHAPES["neox-25k"]))
        self.assertEqual(total - inner, 512 * 32)

    def test_batches_are_chunks_of_the_text_each_once_a_pass(self):
        ids = torch.arange(40 * 512 + 300)
        seen = []
        steps = list(train.batches(ids, 8, 6, np.random.default_rng(0)))
        for number, (x, y) in enumerate(steps):
            self.assertEqual(tuple(x.shape),
                             (8, 512) if number % 4 == 3 else (16, 256))
            self.assertTrue((y == x + 1).all())
            seen += x.flatten().tolist() if number < 4 else []
        self.assertEqual(len(set(seen)), 4 * 8 * 512)
        self.assertEqual(len(steps), 6)

    def test_learning_rate_rises_then_falls_to_zero(self):
        shape = models.SHAPES["opt-25k"]
        rates = [train.learning_rate(shape, i, 1000) for i in range(1001)]
        self.assertAlmostEqual(max(rates), shape.lr)
        self.assertEqual(rates.index(max(rates)), 29)
        self.assertEqual(rates[1000], 0)
        self.assertTrue(all(a > b for a, b in zip(rates[30:], rates[31:])))

    def test_two_runs_write_the_same_model_and_log(self):
        self.write_texts()
        weights = []
        for _ in range(2):
            code, _, err = self.run_main("llama-25k", "--epochs", "1")
            self.assertEqual((code, err), (0, ""))
            path = self.dir / "out/llama-25k/model.safetensors"
            weights.append(path.read_bytes())
        self.assertEqual(weights[0], weights[1])
        log = json.loads((self.dir / "out/logs/llama-25k.json").read_text())
        self.assertEqual((log["epochs"], log["seed"]), (1, 1))
        self.assertLess(log["train_loss"], 6.9)
        self.assertEqual(log["tokens_seen"], 4 * 8 * 512)

    def train_run(self, kept):
        """Weights of the checkpoints of a short run with dropout."""
        shape = models.Shape(**{**vars(models.SHAPES["llama-25k"]),
                                "dropout": 0.1})
        run = models.Run("llama-25k", 5, kept)
        with (unittest.mock.patch.dict(models.SHAPES, {"llama-25k": shape}),
              unittest.mock.patch.dict(models.RUNS, {run.name(): run})):
            code, _, err = self.run_main(run.name())
        self.assertEqual((code, err), (0, ""))
        return {p.parent.name: p.read_bytes() for p in
                (self.dir / "out/runs").glob("*/model.safetensors")}

    def test_a_run_is_the_same_whatever_is_kept_of_it(self):
        self.write_texts()
        few = self.train_run(((8, "constant"),))
        self.assertFalse((self.dir / "out/runs/llama-25k-s5-p08/"
                          "tokenizer.json").is_symlink())
        self.run_main("llama-25k", "--epochs", "1")
        all_ = self.train_run(((4, "decayed"), (8, "constant"),
                               (8, "decayed")))
        self.assertEqual(few["llama-25k-s5-p08"], all_["llama-25k-s5-p08"])
        self.assertEqual(sorted(all_), ["llama-25k-s5-p04-decayed",
                                        "llama-25k-s5-p08",
                                        "llama-25k-s5-p08-decayed"])
        self.assertEqual(len(set(all_.values())), 3)
        link = self.dir / "out/runs/llama-25k-s5-p08/tokenizer.json"
        self.assertEqual(str(link.readlink()),
                         "../../llama-25k/tokenizer.json")
        logs = self.dir / "out/logs/runs"
        log = json.loads((logs / "llama-25k-s5-p08-decayed.json").read_text())
        self.assertEqual((log["passes"], log["lr_state"], log["seed"]),
                         (8, "decayed", 5))
        self.assertEqual(log["tokens_seen"], (32 + 8) * 8 * 512)
        rates = [float(line.split(",")[2]) for line in (
            logs / "llama-25k-s5-p08-decayed.csv").read_text().splitlines()[1:]]
        self.assertLess(rates[-1], 1.2e-2 / 7)

    def test_rate_of_a_run_rises_and_stays(self):
        shape = models.SHAPES["llama-25k"]
        rates = [train.constant_rate(shape, step) for step in range(300)]
        self.assertAlmostEqual(rates[0], shape.lr / 50)
        self.assertEqual(set(rates[49:]), {shape.lr})

    def test_unigram_tokenizers_are_the_same_every_time(self):
        self.write_texts()
        text = (self.dir / "train.txt").read_text()
        first, second = (train.train_tokenizer(text, 300, True).to_str()
                         for _ in range(2))
        self.assertEqual(first, second)
        tok = train.train_tokenizer(text, 300, True)
        odd = "It is a truth;\n\n  \u00e9\u65e5 \U0001f600."
        self.assertEqual(tok.decode(tok.encode(odd).ids), odd)

    def test_the_zoo_has_what_is_not_planned(self):
        zoo = pathlib.Path(train.__file__).parent
        here = {p.parent.relative_to(zoo).as_posix()
                for p in zoo.glob("**/model.safetensors")}
        runs = models.RUNS.values()
        self.assertEqual(here, set(models.SHAPES) - set(models.PLANNED) | {
            f"runs/{models.checkpoint(run, *point)}"
            for run in runs for point in run.kept})
        for run in runs:
            self.assertFalse(set(run.kept) & set(run.planned))
            self.assertLessEqual(set(run.kept) | set(run.planned),
                                 set(itertools.product((1, 4, 16),
                                                       models.STATES)))

    def test_all_is_what_is_there_and_planned_the_rest(self):
        here, rest = train.work("all"), train.work("planned")
        self.assertEqual(set(here) | set(rest),
                         {*models.SHAPES, *models.RUNS})
        self.assertIsNone(here["neox-25k"])
        self.assertNotIn("neox-85k", here)
        self.assertNotIn("llama-25k", rest)
        self.assertNotIn("llama-25k-s21", rest)
        run = models.RUNS["llama-85k-s21"]
        self.assertEqual(here[run.name()], run.kept)
        self.assertEqual(set(rest[run.name()]), {*run.kept, *run.planned})
        self.assertEqual(train.work(run.name()),
                         {run.name(): rest[run.name()]})
        self.assertIn("neox-85k  (planned)\n", self.run_main("--list")[1])
        self.assertIn("llama-85k-s21  (planned: p16-decayed)\n",
                      self.run_main("--list")[1])

    def test_bad_input(self):
        code, _, err = self.run_main("llama-25k")
        self.assertEqual(code, 1)
        self.assertIn("train.txt", err)
        self.assertIn("austen.py", err)
        (self.dir / "train.txt").write_text("too short\n")
        self.assertIn("too short", self.run_main("llama-25k")[2])
        self.assertEqual(self.run_main("bogus")[0], 2)
        self.assertEqual(self.run_main()[0], 2)
        self.assertEqual(self.run_main("all", "--epochs", "0")[0], 2)
        code, _, err = self.run_main("llama-25k-s21", "--epochs", "1")
        self.assertEqual(code, 2)
        self.assertIn("says nothing of the run 'llama-25k-s21'", err)
        self.assertIn("train it first", self.run_main("--entries")[2])
        self.assertIn("train it first", self.run_main("--table")[2])


if __name__ == "__main__":
    unittest.main()
