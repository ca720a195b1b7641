# SPDX-License-Identifier: GPL-3.0-or-later
"""Tests of the models in sweeps/zoo: python3 -m unittest discover
tests/python. Only what is committed is read; no torch."""
import csv
import json
import math
import pathlib
import unittest

import numpy as np
from tokenizers import Tokenizer

ROOT = pathlib.Path(__file__).resolve().parents[2]
ZOO = ROOT / "sweeps/zoo"
GOLDEN = ROOT / "tests/golden/logits"
SIZES = ("25k", "85k", "300k", "1m", "3m")
MODELS = [f"{family}-{size}" for family in ("llama", "opt") for size in SIZES]
VOCAB = {"llama": 1024, "opt": 2048}


def read_json(path):
    return json.loads(path.read_text(encoding="utf-8"))


def header(path):
    """(header of a safetensors file, its data)."""
    raw = path.read_bytes()
    size = int.from_bytes(raw[:8], "little")
    return json.loads(raw[8:8 + size]), raw[8 + size:]


def expected_shapes(config):
    """{tensor: shape} of a checkpoint, written down independently."""
    d, vocab = config["hidden_size"], config["vocab_size"]
    if config["model_type"] == "llama":
        kv = d // config["num_attention_heads"] * config["num_key_value_heads"]
        ff = config["intermediate_size"]
        shapes = {"model.embed_tokens.weight": [vocab, d],
                  "lm_head.weight": [vocab, d], "model.norm.weight": [d]}
        block = {"input_layernorm": [d], "post_attention_layernorm": [d],
                 "self_attn.q_proj": [d, d], "self_attn.k_proj": [kv, d],
                 "self_attn.v_proj": [kv, d], "self_attn.o_proj": [d, d],
                 "mlp.gate_proj": [ff, d], "mlp.up_proj": [ff, d],
                 "mlp.down_proj": [d, ff]}
        for i in range(config["num_hidden_layers"]):
            for name, shape in block.items():
                shapes[f"model.layers.{i}.{name}.weight"] = shape
        return shapes
    ff, at = config["ffn_dim"], "model.decoder."
    shapes = {at + "embed_tokens.weight": [vocab, d],
              at + "embed_positions.weight":
                  [config["max_position_embeddings"] + 2, d],
              at + "final_layer_norm.weight": [d],
              at + "final_layer_norm.bias": [d]}
    block = {f"self_attn.{p}_proj": [d, d] for p in ("q", "k", "v", "out")}
    block |= {"self_attn_layer_norm": [d], "final_layer_norm": [d],
              "fc1": [ff, d], "fc2": [d, ff]}
    for i in range(config["num_hidden_layers"]):
        for name, shape in block.items():
            shapes[f"{at}layers.{i}.{name}.weight"] = shape
            shapes[f"{at}layers.{i}.{name}.bias"] = shape[:1]
    return shapes


def configs():
    """Yield (name, directory, config) of every model, smallest first."""
    for name in MODELS:
        yield name, ZOO / name, read_json(ZOO / name / "config.json")


class Zoo(unittest.TestCase):
    def test_weights_have_the_shapes_of_the_config(self):
        for name, path, config in configs():
            with self.subTest(model=name):
                rows, data = header(path / "model.safetensors")
                self.assertEqual(rows.pop("__metadata__"), {"format": "pt"})
                self.assertEqual({n: r["shape"] for n, r in rows.items()},
                                 expected_shapes(config))
                self.assertEqual({r["dtype"] for r in rows.values()}, {"BF16"})
                self.assertEqual(len(data), sum(
                    2 * math.prod(r["shape"]) for r in rows.values()))
                bits = np.frombuffer(data, "<u2").astype(np.uint32) << 16
                self.assertTrue(np.isfinite(bits.view(np.float32)).all())

    def test_widths_are_multiples_of_32_and_sizes_grow(self):
        before = {"llama": 0, "opt": 0}
        for name, path, config in configs():
            with self.subTest(model=name):
                family = name.split("-")[0]
                self.assertEqual(config["model_type"], family)
                ff = config.get("intermediate_size") or config["ffn_dim"]
                self.assertEqual((config["hidden_size"] % 32, ff % 32), (0, 0))
                rows, _ = header(path / "model.safetensors")
                inner = sum(math.prod(r["shape"]) for n, r in rows.items()
                            if n != "__metadata__" and "embed" not in n
                            and "lm_head" not in n)
                self.assertGreater(inner, 2.5 * before[family])
                before[family] = inner
                log = read_json(ZOO / "logs" / f"{name}.json")
                self.assertEqual(log["params_nonembedding"], inner)

    def test_tokenizers_are_one_a_family_and_of_the_vocabulary(self):
        seen = {}
        for name, path, config in configs():
            with self.subTest(model=name):
                family = name.split("-")[0]
                raw = (path / "tokenizer.json").read_bytes()
                self.assertEqual(seen.setdefault(family, raw), raw)
                own = Tokenizer.from_file(str(path / "tokenizer.json"))
                self.assertEqual(own.get_vocab_size(), VOCAB[family])
                self.assertEqual(config["vocab_size"], VOCAB[family])
                text = "It is a truth;\n\n  \u00e9\u65e5 \U0001f600."
                self.assertEqual(own.decode(own.encode(text).ids), text)

    def test_bf16_cost_nothing_and_larger_is_better(self):
        last = {}
        for name, _, _ in configs():
            with self.subTest(model=name):
                log = read_json(ZOO / "logs" / f"{name}.json")
                self.assertLess(abs(log["select_nll"]
                                    - log["select_nll_float32"]), 2e-3)
                family = name.split("-")[0]
                self.assertLess(log["test_nll"], last.get(family, math.inf))
                last[family] = log["test_nll"]

    def test_loss_logs_end_where_the_summary_says(self):
        for name, _, _ in configs():
            with self.subTest(model=name):
                log = read_json(ZOO / "logs" / f"{name}.json")
                with open(ZOO / "logs" / f"{name}.csv", encoding="utf-8",
                          newline="") as file:
                    rows = list(csv.DictReader(file))
                self.assertEqual(int(rows[-1]["tokens"]), log["tokens_seen"])
                self.assertGreater(float(rows[0]["train_loss"]),
                                   float(rows[-1]["train_loss"]) + 1)

    def test_readme_has_the_figures_of_the_logs(self):
        readme = (ZOO / "README.md").read_text(encoding="utf-8")
        for name, _, _ in configs():
            with self.subTest(model=name):
                log = read_json(ZOO / "logs" / f"{name}.json")
                row = next(line for line in readme.splitlines()
                           if line.startswith(f"| {name} |"))
                for value in (f"{log['params']:,}",
                              f"{log['params_nonembedding']:,}",
                              f"{log['select_nll']:.3f}",
                              f"{log['test_nll']:.3f}"):
                    self.assertIn(f"| {value} |", row)

    def test_all_together_stay_small(self):
        size = sum(f.stat().st_size for f in ZOO.rglob("*") if f.is_file())
        self.assertLess(size, 30e6)


class Golden(unittest.TestCase):
    def test_golden_files_of_every_model_agree_among_themselves(self):
        for name in MODELS:
            with self.subTest(model=name):
                vocab = VOCAB[name.split("-")[0]]
                logits = np.load(GOLDEN / f"{name}.logits.npy")
                ids = np.load(GOLDEN / f"{name}.ids.npy")
                windows = np.load(GOLDEN / f"{name}.windows.npy")
                nll = read_json(GOLDEN / f"{name}.nll.json")
                self.assertEqual((logits.shape, logits.dtype),
                                 ((24, vocab), "<f4"))
                self.assertEqual((windows.shape, windows.dtype),
                                 ((4, 256), "<u4"))
                self.assertEqual(ids.tolist(), windows[0, :24].tolist())
                self.assertLess(windows.max(), vocab)
                self.assertAlmostEqual(nll["nll_mean"], np.mean(nll["nll"]))
                log = read_json(ZOO / "logs" / f"{name}.json")
                self.assertLess(abs(nll["nll_mean"] - log["test_nll"]), 0.2)


if __name__ == "__main__":
    unittest.main()
