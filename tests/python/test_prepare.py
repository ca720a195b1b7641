# SPDX-License-Identifier: GPL-3.0-or-later
"""Tests of sweeps/prepare.py: python3 -m unittest discover tests/python."""
import contextlib
import io
import json
import os
import pathlib
import shutil
import sys
import tempfile
import unittest
import unittest.mock

import numpy as np
import xxhash
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers
from tokenizers import processors

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "sweeps"))
import prepare  # noqa: E402

LLAMA = ROOT / "sweeps/zoo/llama-25k"
OPT = ROOT / "sweeps/zoo/opt-25k"
SPEC = """\
name: t
models: [a, b*]
data:
  calibration: {text: one.txt, windows: 1, length: 8, seed: 1}
  evaluation:
    - {text: one.txt, windows: 2, length: 8}
    - {text: two.txt, windows: 2, length: 8}
"""
TWO = "Caf\u00e9 \U0001f600 na\u00efve\u2014'tis  done.\n\n\tEnd \u65e5\u672c\n"


class Case(unittest.TestCase):
    def setUp(self):
        temp = tempfile.TemporaryDirectory()
        self.addCleanup(temp.cleanup)
        self.dir = pathlib.Path(temp.name)
        self.cache = self.dir / "cache"
        self.spec = self.dir / "s.yaml"
        self.spec.write_text(SPEC)
        for name, source in (("a", LLAMA), ("b1", OPT), ("b2", LLAMA)):
            (self.dir / name).mkdir()
            shutil.copy(source / "tokenizer.json", self.dir / name)
        (self.dir / "one.txt").write_text("It is a truth.\nAnd so on.\n" * 9)
        (self.dir / "two.txt").write_text(TWO, encoding="utf-8")
        env = dict(os.environ)
        env.pop("PTQSWEEP_TOKENS", None)
        patch = unittest.mock.patch.dict(os.environ, env, clear=True)
        patch.start()
        self.addCleanup(patch.stop)

    def run_main(self, *args):
        """(exit code, standard output, standard error) of prepare.py."""
        out, err = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            try:
                code = prepare.main([str(self.spec), *args])
            except SystemExit as error:
                code = error.code
        return code, out.getvalue(), err.getvalue()

    def run_cached(self, *args):
        return self.run_main("--cache", str(self.cache), *args)

    def load(self, text, model):
        """(ids, ends) of a text of this folder and a model's directory."""
        key = (xxhash.xxh3_128_hexdigest((self.dir / text).read_bytes()) + "-"
               + xxhash.xxh3_128_hexdigest(
                   (pathlib.Path(model) / "tokenizer.json").read_bytes()))
        return (np.load(self.cache / f"{key}.ids.npy"),
                np.load(self.cache / f"{key}.ends.npy"))

    def assert_fails(self, *parts, args=(), code=1):
        """prepare.py exits with `code` and its message has all `parts`."""
        got, _, err = self.run_cached(*args)
        self.assertEqual(got, code, err)
        for part in parts:
            self.assertIn(part, err)


class Cache(Case):
    def test_a_file_a_text_and_tokenizer_not_a_model(self):
        code, _, err = self.run_cached()
        self.assertEqual((code, err), (0, ""))
        self.assertEqual(len(list(self.cache.iterdir())), 2 * 2 * 2)

    def test_special_tokens_are_there_for_lm_eval_alone(self):
        (self.dir / "a/tokenizer_config.json").write_text(json.dumps(
            {"bos_token": "a", "eos_token": {"content": "b"}}))
        self.assertEqual(self.run_cached()[0], 0)
        self.assertEqual(list(self.cache.glob("*.special.npy")), [])
        self.spec.write_text(SPEC.replace("{text: two.txt,",
                                          "{preset: lm-eval, text: two.txt,"))
        self.assertEqual(self.run_cached()[0], 0)
        own = Tokenizer.from_file(str(LLAMA / "tokenizer.json"))
        found = sorted(np.load(path).tolist()
                       for path in self.cache.glob("*.special.npy"))
        self.assertEqual(found, [[-1, -1], [-1, -1], [own.token_to_id("a"),
                                                      own.token_to_id("b")]])

    def test_ids_are_those_of_the_whole_text(self):
        self.run_cached()
        for model in (LLAMA, OPT):
            own = Tokenizer.from_file(str(model / "tokenizer.json"))
            for text in ("one.txt", "two.txt"):
                ids, ends = self.load(text, model)
                raw = (self.dir / text).read_bytes()
                self.assertEqual(ids.tolist(), own.encode(raw.decode()).ids)
                self.assertEqual((ids.dtype, ends.dtype), ("<u4", "<u8"))
                self.assertEqual(ends[-1], len(raw))

    def test_each_token_is_the_bytes_between_two_ends(self):
        self.run_cached()
        raw = (self.dir / "two.txt").read_bytes()
        own = Tokenizer.from_file(str(LLAMA / "tokenizer.json"))
        ids, ends = self.load("two.txt", LLAMA)
        spelled = pre_tokenizers.ByteLevel(add_prefix_space=False,
                                           use_regex=False)
        at = 0
        for i, end in zip(ids.tolist(), ends.tolist()):
            self.assertEqual(len(own.id_to_token(i)), end - at)
            at = end
        joined = "".join(own.id_to_token(i) for i in ids.tolist())
        self.assertEqual(joined, spelled.pre_tokenize_str(raw.decode())[0][0])

    def test_carriage_returns_stay_in_the_text(self):
        (self.dir / "two.txt").write_bytes(b"a\r\nb\r\n")
        self.run_cached()
        self.assertEqual(self.load("two.txt", LLAMA)[1][-1], 6)

    def test_default_cache_is_beside_the_sweep_file(self):
        self.assertEqual(self.run_main()[0], 0)
        self.assertEqual(len(list((self.dir / ".tokens").iterdir())), 8)

    def test_environment_names_the_cache(self):
        os.environ["PTQSWEEP_TOKENS"] = str(self.dir / "elsewhere")
        self.assertEqual(self.run_main()[0], 0)
        self.assertEqual(len(list((self.dir / "elsewhere").iterdir())), 8)

    def test_what_is_there_is_left_alone_and_damage_is_mended(self):
        self.run_cached()
        files = sorted(self.cache.iterdir())
        before = {f: (f.stat().st_mtime_ns, f.read_bytes()) for f in files}
        damaged = files[0]
        damaged.write_bytes(before[damaged][1][:-4])
        stem = damaged.name[:65]
        code, out, _ = self.run_cached()
        self.assertEqual(code, 0)
        self.assertEqual(out.count("are there"), 3)
        for f in files:
            self.assertEqual(f.read_bytes(), before[f][1])
            if not f.name.startswith(stem):
                self.assertEqual(f.stat().st_mtime_ns, before[f][0])

    def test_quiet_says_nothing(self):
        self.assertEqual(self.run_cached("--quiet"), (0, "", ""))

    def test_set_overrides_models_and_texts(self):
        code, _, err = self.run_cached(
            "--set", "models=[a]", "--set", "data.calibration.text=two.txt",
            "--set", "data.evaluation={text: two.txt}")
        self.assertEqual((code, err), (0, ""))
        self.assertEqual(len(list(self.cache.iterdir())), 2)


class Pieces(Case):
    def test_pieces_give_the_tokens_of_the_whole(self):
        text = "One, two;\nthree\n\n  four 's  '\n it's \n" + TWO
        text = (text + "x\n" * 40) * 5
        tokenizer = prepare.TextTokenizer(None, None, str(LLAMA))
        self.assertTrue(tokenizer.in_pieces)
        whole = tokenizer.tokenizer.encode(text).ids
        for size in (1, 2, 3, 17, 1000, len(text)):
            with unittest.mock.patch.object(prepare, "PIECE", size):
                self.assertEqual("".join(prepare.pieces_of(text)), text)
                ids, ends = tokenizer.encode(text)
            self.assertEqual(ids.tolist(), whole)
            self.assertEqual(ends[-1], len(text.encode()))

    def test_a_text_is_cut_only_between_visible_and_blank(self):
        with unittest.mock.patch.object(prepare, "PIECE", 1):
            got = list(prepare.pieces_of("a b\n\n c.\nd\te \u00e9 f"))
        self.assertEqual(got, ["a", " b", "\n\n c.", "\nd\te", " \u00e9 f"])


class OtherTokenizers(Case):
    def save(self, tokenizer):
        self.own = self.dir / "own"
        self.own.mkdir(exist_ok=True)
        tokenizer.save(str(self.own / "tokenizer.json"))
        code, _, err = self.run_cached("--set", "models=[own]")
        self.assertEqual((code, err), (0, ""))

    def test_begin_of_text_has_no_bytes_and_is_added_once(self):
        own = Tokenizer.from_file(str(LLAMA / "tokenizer.json"))
        own.add_special_tokens(["<s>", "</s>"])
        first, last = (own.token_to_id(t) for t in ("<s>", "</s>"))
        own.post_processor = processors.TemplateProcessing(
            single="<s> $A </s>", special_tokens=[("<s>", first),
                                                  ("</s>", last)])
        (self.dir / "one.txt").write_text("go\n<s>on\n" * 20)
        with unittest.mock.patch.object(prepare, "PIECE", 10):
            self.save(own)
        ids, ends = self.load("one.txt", self.own)
        text = (self.dir / "one.txt").read_text()
        self.assertEqual(ids.tolist(), own.encode(text).ids)
        self.assertEqual((ids[0], ends[0]), (first, 0))
        self.assertEqual((ids[-1], ends[-1]), (last, len(text)))
        self.assertEqual(ends[-2], len(text))
        inner = np.flatnonzero(ids[1:] == first) + 1
        self.assertEqual(len(inner), 20)
        self.assertTrue((ends[inner] - ends[inner - 1] == 3).all())

    def test_truncation_and_padding_of_the_file_are_ignored(self):
        own = Tokenizer.from_file(str(LLAMA / "tokenizer.json"))
        plain = own.encode(TWO).ids
        own.enable_truncation(4)
        own.enable_padding(length=4096)
        self.save(own)
        self.assertEqual(self.load("two.txt", self.own)[0].tolist(), plain)

    def test_word_tokenizer_with_normalizer_ends_at_character_offsets(self):
        own = Tokenizer(models.WordLevel(
            {"[U]": 0, "caf\u00e9": 1, "end": 2}, unk_token="[U]"))
        own.normalizer = normalizers.Lowercase()
        own.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
        self.save(own)
        ids, ends = self.load("two.txt", self.own)
        raw = TWO.encode()
        expect, at = [], 0
        for word in TWO.split():
            at = raw.index(word.encode(), at) + len(word.encode())
            expect.append(at)
        self.assertEqual(ends.tolist(), expect)
        self.assertEqual(ids.tolist(), [1, 0, 0, 0, 2, 0])


class BadInput(Case):
    def test_missing_sweep_file(self):
        self.spec.unlink()
        self.assert_fails("s.yaml", "No such file")

    def test_no_yaml(self):
        self.spec.write_text("name: t\nmodels: [a\n")
        self.assert_fails("s.yaml:3: not YAML")

    def test_not_a_mapping(self):
        self.spec.write_text("- a\n")
        self.assert_fails("s.yaml:1: not a sweep file")

    def test_missing_text_names_file_and_line(self):
        (self.dir / "two.txt").unlink()
        self.assert_fails("s.yaml:7:", "two.txt", "No such file", "austen.py")

    def test_text_that_is_not_utf8(self):
        (self.dir / "two.txt").write_bytes(b"caf\xe9 ")
        self.assert_fails("two.txt", "byte 3 is not UTF-8", "iconv")

    def test_empty_text(self):
        (self.dir / "two.txt").write_bytes(b"")
        self.assert_fails("two.txt", "empty")

    def test_model_without_tokenizer(self):
        (self.dir / "a/tokenizer.json").unlink()
        self.assert_fails("s.yaml:2:", "a/tokenizer.json", "save_pretrained")

    def test_tokenizer_that_is_none(self):
        for content in ("{", "{}", json.dumps({"model": 3})):
            (self.dir / "a/tokenizer.json").write_text(content)
            self.assert_fails("s.yaml:2:", "a/tokenizer.json",
                              "not a tokenizer")

    def test_glob_without_match(self):
        self.assert_fails("s.yaml (--set)", "no directory matches 'z*'",
                          args=("--set", "models=[z*]"))

    def test_unknown_section_with_suggestion(self):
        self.spec.write_text(SPEC.replace("evaluation", "evalution"))
        self.assert_fails("s.yaml:5:", "data.evalution",
                          "did you mean 'evaluation'")

    def test_wrong_shapes(self):
        for old, new, part in (
                ("[a, b*]", "[[a]]", "a model must be a path"),
                ("[a, b*]", "[{dir: a}]", "a model has no 'path:'"),
                ("[a, b*]", "[]", "names no model"),
                ("models: [a, b*]", "", "has no 'models:'"),
                ("text: one.txt, windows: 1", "windows: 1", "has no 'text:'"),
                ("{text: two.txt, windows: 2, length: 8}", "two.txt",
                 "must have the form {text: ...}")):
            self.spec.write_text(SPEC.replace(old, new))
            self.assert_fails("s.yaml:", part)

    def test_bad_overrides(self):
        for text, part in (("models", "expected key=value"),
                           ("=x", "expected key=value"),
                           ("models=[a", "not YAML"),
                           ("models=", "no value"),
                           ("models.x=1", "'models' holds no keys")):
            self.assert_fails(f"--set '{text}'", part, args=("--set", text))

    def test_cache_that_cannot_be_made(self):
        self.cache.write_text("a file")
        self.assert_fails("cache", "--cache")

    def test_full_disk_leaves_no_half_file(self):
        def full(*_, **__):
            raise OSError(28, "No space left on device")
        with unittest.mock.patch.object(np, "save", full):
            self.assert_fails("No space left", "--cache")
        self.assertEqual(list(self.cache.iterdir()), [])

    def test_usage(self):
        self.assert_fails("unrecognized arguments", args=("--no",), code=2)


if __name__ == "__main__":
    unittest.main()
