# SPDX-License-Identifier: GPL-3.0-or-later
"""Tests of sweeps/gemma3.py: python3 -m unittest discover tests/python."""
import pathlib
import sys
import unittest

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "sweeps"))
import gemma3  # noqa: E402


class Names(unittest.TestCase):
    def test_names(self):
        for gguf, want in (
                ("token_embd.weight", "model.embed_tokens.weight"),
                ("blk.17.ffn_norm.weight",
                 "model.layers.17.pre_feedforward_layernorm.weight"),
                ("blk.0.attn_q_norm.weight",
                 "model.layers.0.self_attn.q_norm.weight")):
            self.assertEqual(gemma3.checkpoint_name(gguf, "f"), want)
        with self.assertRaisesRegex(gemma3.ConvertError, "'blk.0.x.weight'"):
            gemma3.checkpoint_name("blk.0.x.weight", "f")


class Merges(unittest.TestCase):
    def test_better_pieces_are_merged_first(self):
        tokens = ["<unk>", "a", "b", "c", "ab", "bc", "abc", "\n\n"]
        scores = [0, -5, -6, -7, -2, -1, -3, 0]
        types = [gemma3.CONTROL] + [gemma3.NORMAL] * 6 + [gemma3.USER]
        self.assertEqual(gemma3.merges(tokens, scores, types),
                         [["b", "c"], ["a", "b"], ["a", "bc"], ["ab", "c"]])


if __name__ == "__main__":
    unittest.main()
