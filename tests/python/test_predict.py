# SPDX-License-Identifier: GPL-3.0-or-later
"""Predictions as a reader and a program meet them."""

import json
import math
import os
import pathlib
import subprocess
import tempfile
import unittest

PROGRAM = os.environ["PTQSWEEP"]
WRITER = pathlib.Path(os.environ["PTQ_BINARY_DIR"]) / "tests" / "test_report"

CONFIG = {"model_type": "llama", "hidden_size": 64, "num_hidden_layers": 3,
          "num_attention_heads": 4, "num_key_value_heads": 2,
          "intermediate_size": 192, "vocab_size": 1000,
          "tie_word_embeddings": True, "torch_dtype": "float16"}


def predict(*args):
    return subprocess.run([PROGRAM, "predict", *map(str, args)],
                          capture_output=True, text=True)


class Predict(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.temp = tempfile.TemporaryDirectory()
        cls.dir = pathlib.Path(cls.temp.name)
        cls.store = cls.dir / "quick.h5"
        subprocess.run([WRITER], check=True,
                       env={**os.environ, "PTQ_STORE_OUT": str(cls.store)})
        (cls.dir / "new").mkdir()
        (cls.dir / "new" / "config.json").write_text(json.dumps(CONFIG))

    @classmethod
    def tearDownClass(cls):
        cls.temp.cleanup()

    def rows(self, *args):
        done = predict(self.store, *args, "--json")
        self.assertEqual(done.returncode, 0, done.stderr)
        return json.loads(done.stdout)["predictions"]

    def test_model_that_was_never_run(self):
        row, = self.rows(self.dir / "new", "--dtype", "mxint4", "--group", 32,
                         "--method", "gptq", "--nll", 4.0)
        # attention 2 (64 + 32) 64, MLP 3 * 64 * 192, three blocks; mxint: 8
        # bits a group of 32
        weights = 3 * (2 * 96 * 64 + 3 * 64 * 192)
        self.assertAlmostEqual(row["bits_per_weight"], 4.25)
        rest = (7 * 64 + 64 * 1000) * 16
        self.assertAlmostEqual(row["bits_model"], 4.25 * weights + rest)
        self.assertAlmostEqual(row["nll"], 4.0 + row["dnll"])
        self.assertLess(row["nll_low"], row["nll"])
        self.assertLess(row["nll"], row["nll_high"])
        # the store's law: ln dnll = 5.2 - .2 ln N - 1.35 bits + .15 ln g - .4
        n = weights + 7 * 64
        law = 5.2 - .2 * math.log(n) - 1.35 * 4.25 \
            + .15 * math.log(32) - .4
        self.assertLess(abs(math.log(row["dnll"]) - law), 0.3)
        self.assertIsNone(row["outside_hull"])

    def test_far_model_says_so_and_baseline_may_be_unknown(self):
        big = {**CONFIG, "hidden_size": 4096, "num_hidden_layers": 40}
        (self.dir / "big").mkdir()
        (self.dir / "big" / "config.json").write_text(json.dumps(big))
        row, = self.rows(self.dir / "big", "--dtype", "mxint4", "--group", 32)
        self.assertEqual(row["outside_hull"], "params_nonembedding")
        self.assertIsNone(row["nll"])
        self.assertGreater(row["dnll"], 0)
        text = predict(self.store, self.dir / "big", "--dtype", "mxint4").stdout
        self.assertIn("outside of the data", text)

    def test_unknown_method_is_left_to_a_law_without_methods(self):
        known, = self.rows("llama-25k", "--dtype", "mxint4", "--group", 32)
        other, = self.rows("llama-25k", "--dtype", "mxint4", "--group", 32,
                           "--method", "gptq:hessian=static")
        self.assertIsNotNone(known["measured_dnll"])
        self.assertIsNone(other["measured_dnll"])
        self.assertNotEqual(known["law"], other["law"])
        self.assertGreater(other["dnll"], 0)

    def test_covariates_of_a_directory_reach_the_law(self):
        loss = []
        for tokens in ("1e6", "16e6"):
            done = predict(f"{self.store}.tokens", self.dir / "new", "--dtype",
                           "mxint4", "--group", 32, "--law", "kumar", "--json",
                           "--covariates", f"lr_state=x,train_tokens={tokens}")
            self.assertEqual(done.returncode, 0, done.stderr)
            row, = json.loads(done.stdout)["predictions"]
            loss.append(row["dnll"])
        # the store's law has D to the power 0.4
        self.assertLess(abs(math.log(loss[1] / loss[0]) - .4 * math.log(16)),
                        0.25)
        done = predict(f"{self.store}.tokens", self.dir / "new", "--dtype",
                       "mxint4", "--group", 32, "--law", "kumar", "--json")
        row, = json.loads(done.stdout)["predictions"]
        self.assertIsNone(row["dnll"])

    def test_best_keeps_to_its_budget(self):
        every = self.rows("llama-25k", "--best", "--bits", 99)
        self.assertEqual(len(every), 1)
        best, = self.rows("llama-25k", "--best", "--bits", 4.25)
        self.assertLessEqual(best["bits_per_weight"], 4.25)
        self.assertGreater(best["dnll"], every[0]["dnll"])
        small, = self.rows("--memory", "160KB")
        self.assertLessEqual(small["bits_model"], 8 * 160 * 1024)
        done = predict(self.store, "--best", "--bits", 0.5)
        self.assertEqual(done.returncode, 1)
        self.assertIn("nothing fits; the smallest is", done.stderr)

    def test_law_without_methods_leaves_their_choice_to_one_with_them(self):
        """Kumar's law predicts best here, and the same of rtn and gptq."""
        for choice in (["--best", "--bits", 4.25], ["--pareto"]):
            done = predict(f"{self.store}.tokens", "llama-25k", *choice,
                           "--json")
            self.assertEqual(done.returncode, 0, done.stderr)
            rows = json.loads(done.stdout)["predictions"]
            self.assertEqual({r["law"] for r in rows}, {"kumar"})
            self.assertEqual({r["method"] for r in rows}, {"gptq"})

    def test_frontier_falls(self):
        rows = self.rows("--pareto")
        self.assertGreater(len(rows), 5)
        for a, b in zip(rows, rows[1:]):
            self.assertLess(a["bits_model"], b["bits_model"])
            self.assertGreater(a["nll"], b["nll"])

    def test_models_of_two_tokenizers_are_compared_by_the_byte(self):
        def made(*args):
            done = predict(f"{self.store}.tokens", *args, "--json")
            self.assertEqual(done.returncode, 0, done.stderr)
            return json.loads(done.stdout)
        found = made("--pareto")
        self.assertTrue(found["compared_by_byte"])
        rows = found["predictions"]
        self.assertGreater(len(rows), 5)
        for a, b in zip(rows, rows[1:]):
            self.assertLess(a["bits_model"], b["bits_model"])
            self.assertGreater(a["nll_byte"], b["nll_byte"])
        # by the token opt would never be there
        self.assertIn("opt", {row["model"][:3] for row in rows})
        # a model whose own NLL is unknown cannot be compared with others
        self.assertNotIn("llama-25k", {row["model"] for row in rows})
        self.assertGreater(found["n_not_compared"], 0)
        text = predict(f"{self.store}.tokens", "--best", "--bits", 5).stdout
        self.assertIn("compared by nats a byte", text)
        self.assertIn("their models' own NLL is not known", text)
        # but it has a best configuration of its own
        row, = made("llama-25k", "--best", "--bits", 5)["predictions"]
        self.assertEqual(row["model"], "llama-25k")

    def test_collapse_and_unseen_methods_are_said(self):
        rows = self.rows("llama-25k", "--pareto")
        for row in rows:
            self.assertFalse(row["collapses"])
        row, = self.rows("llama-25k", "--dtype", "int2", "--nll", 99)
        self.assertTrue(row["collapses"])
        text = predict(self.store, "llama-25k", "--dtype", "int2", "--nll",
                       99).stdout
        self.assertIn("collapses: the unigram model has", text)
        for method, want in (("rtn", None), ("awq", "method")):
            row, = self.rows("llama-25k", "--dtype", "mxint4", "--group", 32,
                             "--method", method)
            self.assertEqual(row["outside_hull"], want)
        # all that is, also what the law does not look at
        row, = self.rows("llama-25k", "--dtype", "nf4", "--group", 8,
                         "--method", "awq")
        self.assertEqual(row["outside_hull"],
                         "bits_per_weight, group, method, element")

    def test_stores_of_one_model_and_of_none(self):
        done = predict(f"{self.store}.one", "llama-25k", "--dtype", "int4")
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertIn("not tried on models it has not seen", done.stdout)
        self.assertNotIn("nan", done.stdout)
        done = predict(f"{self.store}.empty", "llama-25k", "--dtype", "int4")
        self.assertEqual(done.returncode, 1)
        self.assertIn("no finished point to learn a law from", done.stderr)

    def test_bad_input_is_usage(self):
        for args, want in (
                (["llama-25k"], "what is to be predicted"),
                (["llama-25k", "--best"], "under which budget"),
                (["llama-25k", "--dtype", "int99"], "int"),
                (["llama-25k", "--dtype", "int4", "--group", "x"], "--group"),
                (["llama-25k", "--dtype", "int4", "--pareto"], "they choose"),
                (["--dtype", "int4", "--nll", "3"], "of which model"),
                (["llama-25k", "--dtype", "int4", "--covariates", "tokens"],
                 "'tokens' is not key=value"),
                (["new", "--dtype", "int4", "--covariates",
                  "lr_state=x,train_tokens=3T"],
                 "train_tokens: '3T' is not a number"),
                (["llama-25k", "--dtype", "int4", "--nll", "-3"],
                 "--nll: -3 is not above 0"),
                (["llama-25k", "--dtype", "int4", "--covariates",
                  "k=" + 200 * "v"], "at most 191 characters")):
            done = predict(self.store, *args)
            self.assertEqual(done.returncode, 2, done.stderr)
            self.assertIn(want, done.stderr)
        for args, want in (
                (["absent", "--dtype", "int4"], "neither a model of the store"),
                (["llama-25k", "--dtype", "int4", "--law", "nonsense"],
                 "unknown law 'nonsense'"),
                (["llama-25k", "--dtype", "int4", "--law", "simple"],
                 "needs more than a config"),
                (["llama-25k", "--dtype", "int4", "--law", "kumar"],
                 "'train_tokens' is absent"),
                (["llama-25k", "--dtype", "int4", "--covariates", "a=1"],
                 "those of its own models")):
            done = predict(self.store, *args)
            self.assertEqual(done.returncode, 1, done.stderr)
            self.assertIn(want, done.stderr)


if __name__ == "__main__":
    unittest.main()
