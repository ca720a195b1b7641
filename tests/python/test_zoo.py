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
RUNS = ZOO / "runs"
SIZES = {"llama": ("25k", "85k", "300k", "1m", "3m"),
         "opt": ("25k", "85k", "300k", "1m", "3m"),
         "neox": ("25k", "85k")}
MODELS = [f"{family}-{size}" for family, sizes in SIZES.items()
          for size in sizes]
VOCAB = {"llama": 1024, "opt": 2048, "neox": 512}
TYPES = {"llama": "llama", "opt": "opt", "neox": "gpt_neox"}
# Seeds, passes and states of what is kept of each size.
CROSS = [(seed, passes, state) for seed in (21, 22, 23)
         for passes in (1, 4, 16) for state in ("constant", "decayed")]
KEPT = {"llama-25k": CROSS, "llama-85k": CROSS[:5] + CROSS[6:16],
        "llama-300k": CROSS[:4]}
CHECKPOINTS = {
    f"{size}-s{seed}-p{passes:02d}{'-decayed' * (state == 'decayed')}":
    (size, seed, passes, state)
    for size, kept in KEPT.items() for seed, passes, state in kept}


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
    if config["model_type"] == "gpt_neox":
        ff = config["intermediate_size"]
        shapes = {"gpt_neox.embed_in.weight": [vocab, d],
                  "gpt_neox.final_layer_norm.weight": [d],
                  "gpt_neox.final_layer_norm.bias": [d]}
        block = {"input_layernorm": [d], "post_attention_layernorm": [d],
                 "attention.query_key_value": [3 * d, d],
                 "attention.dense": [d, d], "mlp.dense_h_to_4h": [ff, d],
                 "mlp.dense_4h_to_h": [d, ff]}
        for i in range(config["num_hidden_layers"]):
            for name, shape in block.items():
                at = f"gpt_neox.layers.{i}.{name}"
                shapes[f"{at}.weight"] = shape
                shapes[f"{at}.bias"] = shape[:1]
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


def read_log(name):
    """logs/NAME.json of a model, or of a checkpoint of a run."""
    folder = ZOO / "logs" / ("runs" if name in CHECKPOINTS else "")
    return read_json(folder / f"{name}.json")


class Zoo(unittest.TestCase):
    def test_weights_have_the_shapes_of_the_config(self):
        runs = [(name, RUNS / name, read_json(RUNS / name / "config.json"))
                for name in CHECKPOINTS]
        for name, path, config in [*configs(), *runs]:
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
        before = dict.fromkeys(SIZES, 0)
        for name, path, config in configs():
            with self.subTest(model=name):
                family = name.split("-")[0]
                self.assertEqual(config["model_type"], TYPES[family])
                ff = config.get("intermediate_size") or config["ffn_dim"]
                self.assertEqual((config["hidden_size"] % 32, ff % 32), (0, 0))
                rows, _ = header(path / "model.safetensors")
                inner = sum(math.prod(r["shape"]) for n, r in rows.items()
                            if n != "__metadata__" and "embed_" not in n
                            and "lm_head" not in n)
                self.assertGreater(inner, 2.5 * before[family])
                before[family] = inner
                log = read_log(name)
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
                log = read_log(name)
                self.assertLess(abs(log["select_nll"]
                                    - log["select_nll_float32"]), 2e-3)
                family = name.split("-")[0]
                self.assertLess(log["test_nll"], last.get(family, math.inf))
                last[family] = log["test_nll"]

    def test_loss_logs_end_where_the_summary_says(self):
        for name, _, _ in configs():
            with self.subTest(model=name):
                log = read_log(name)
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
                log = read_log(name)
                row = next(line for line in readme.splitlines()
                           if line.startswith(f"| {name} |"))
                for value in (f"{log['params']:,}",
                              f"{log['params_nonembedding']:,}",
                              f"{log['select_nll']:.3f}",
                              f"{log['test_nll']:.3f}"):
                    self.assertIn(f"| {value} |", row)

    def test_all_together_stay_small(self):
        def size(path):
            return sum(f.lstat().st_size for f in path.rglob("*")
                       if f.is_file() or f.is_symlink())
        self.assertLess(size(ZOO), 45e6)
        grown = [RUNS, ZOO / "logs/runs",
                 *(ZOO / f"neox-{s}" for s in SIZES["neox"])]
        self.assertLess(sum(map(size, grown)), 15e6)
        weights = sum(f.stat().st_size for f in ROOT.glob("**/*.safetensors")
                      if not f.relative_to(ROOT).parts[0].startswith("build"))
        self.assertLess(weights, 50e6)


class Runs(unittest.TestCase):
    def test_what_is_there_is_what_is_named_here(self):
        self.assertEqual({p.name for p in RUNS.iterdir()}, set(CHECKPOINTS))

    def test_checkpoints_are_of_their_size_and_share_its_tokenizer(self):
        for name, (size, *_) in CHECKPOINTS.items():
            with self.subTest(model=name):
                self.assertEqual((RUNS / name / "config.json").read_bytes(),
                                 (ZOO / size / "config.json").read_bytes())
                own = RUNS / name / "tokenizer.json"
                self.assertTrue(own.is_symlink())
                self.assertEqual(own.resolve(), ZOO / size / "tokenizer.json")

    def test_no_two_checkpoints_are_alike(self):
        seen = {(RUNS / name / "model.safetensors").read_bytes()
                for name in CHECKPOINTS}
        self.assertEqual(len(seen), len(CHECKPOINTS))

    def test_tokens_are_passes_and_a_quarter_more_of_decay(self):
        for name, (size, seed, passes, state) in CHECKPOINTS.items():
            with self.subTest(model=name):
                log = read_log(name)
                self.assertEqual(
                    (log["shape"], log["seed"], log["passes"],
                     log["lr_state"]), (size, seed, passes, state))
                steps = 276 * passes  # of eight chunks of 512 tokens
                if state == "decayed":
                    steps += steps // 4
                self.assertEqual(log["tokens_seen"], steps * 8 * 512)

    def test_decay_and_more_tokens_lower_the_loss(self):
        for name, (size, seed, passes, state) in CHECKPOINTS.items():
            with self.subTest(model=name):
                log = read_log(name)
                self.assertLess(abs(log["select_nll"]
                                    - log["select_nll_float32"]), 2e-3)
                before = name.removesuffix("-decayed")
                if state == "decayed" and before in CHECKPOINTS:
                    self.assertLess(log["select_nll"],
                                    read_log(before)["select_nll"])
                fewer = name.replace("-p16", "-p01").replace("-p04", "-p01")
                if passes > 1 and fewer in CHECKPOINTS:
                    self.assertLess(log["select_nll"],
                                    read_log(fewer)["select_nll"])

    def test_loss_logs_end_where_the_summary_says(self):
        for name, (size, seed, passes, state) in CHECKPOINTS.items():
            with self.subTest(model=name):
                path = name if state == "decayed" else f"{size}-s{seed}"
                with open(ZOO / f"logs/runs/{path}.csv", encoding="utf-8",
                          newline="") as file:
                    rows = [r for r in csv.DictReader(file) if r["select_nll"]]
                ends = [int(r["tokens"]) for r in rows]
                self.assertIn(read_log(name)["tokens_seen"], ends)
                if state == "decayed":  # nought a step later
                    self.assertAlmostEqual(
                        float(rows[-1]["lr"]),
                        read_log(name)["lr"] / (276 * passes // 4), 7)

    def test_readme_has_the_figures_of_the_logs(self):
        readme = (ZOO / "README.md").read_text(encoding="utf-8").splitlines()
        for name in CHECKPOINTS:
            with self.subTest(model=name):
                log = read_log(name)
                row = next(line for line in readme
                           if line.startswith(f"| {name} |"))
                for value in (f"{log['tokens_seen'] / 1e6:.2f} M",
                              f"{log['select_nll']:.3f}",
                              f"{log['test_nll']:.3f}"):
                    self.assertIn(f"| {value} |", row)


class Sweeps(unittest.TestCase):
    def models_of(self, name):
        import yaml
        with open(ROOT / "sweeps" / name, encoding="utf-8") as file:
            return yaml.safe_load(file)["models"]

    def test_study_has_every_model_with_what_its_log_says(self):
        listed = {}
        for entry in self.models_of("study.yaml"):
            listed[entry.pop("path")] = entry
        self.assertEqual(set(listed), {f"zoo/{m}" for m in MODELS}
                         | {f"zoo/runs/{c}" for c in CHECKPOINTS})
        for path, entry in listed.items():
            with self.subTest(model=path):
                name = path.split("/")[-1]
                log = read_log(name)
                want = {"train_tokens": log["tokens_seen"],
                        "lr_state": log.get("lr_state", "decayed"),
                        "train_seed": log["seed"]}
                if name in CHECKPOINTS:
                    want["run"] = log["run"]
                if name.startswith("neox"):
                    want["holdout"] = True
                self.assertEqual(entry, want)

    def test_quick_has_the_ten_alone(self):
        found = {path.name for pattern in self.models_of("quick.yaml")
                 for path in (ROOT / "sweeps").glob(pattern)}
        self.assertEqual(found, {m for m in MODELS
                                 if not m.startswith("neox")})

    def test_paper_names_commits_and_directories_once(self):
        models = self.models_of("paper.yaml")
        self.assertEqual(len({m["path"] for m in models}), len(models))
        for m in models:
            self.assertRegex(str(m["revision"]), "^[0-9a-f]{40}$")
            self.assertEqual(m["path"].split("/")[1],
                             m["repository"].split("/")[1])


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
                log = read_log(name)
                self.assertLess(abs(nll["nll_mean"] - log["test_nll"]), 0.3)


if __name__ == "__main__":
    unittest.main()
