# SPDX-License-Identifier: GPL-3.0-or-later
"""sweeps/request_tokens.py, and what prepare.py makes of it. That the tokens
are lm-eval's is for test_requests.py: its log-likelihoods tell."""
import contextlib
import io
import json
import shutil
import sys
import tempfile
import unittest
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer, models, pre_tokenizers, processors

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "sweeps"))
import prepare  # noqa: E402
import request_tokens as rt  # noqa: E402

LLAMA = ROOT / "sweeps/zoo/llama-25k"
SPEC = """\
models: [a, b, c]
data:
  calibration: {text: one.txt, windows: 1, length: 8}
  evaluation: {text: one.txt, windows: 1, length: 8}
  requests: {file: asked.jsonl%s}
"""


def words(bos):
    """A tokenizer of words that begins texts with <s> where asked."""
    vocab = {w: i for i, w in enumerate(
        ["<s>", "</s>", "?", "the", "cat", "sat", "ab", "a", "b"])}
    own = Tokenizer(models.WordLevel(vocab, unk_token="?"))
    own.pre_tokenizer = pre_tokenizers.Whitespace()
    own.add_special_tokens(["<s>", "</s>"])
    if bos:
        own.post_processor = processors.TemplateProcessing(
            single="<s> $A", special_tokens=[("<s>", 0)])
    return own


def spelled(tokenizer, pair):
    return [[tokenizer.id_to_token(i) for i in part] for part in pair]


class Tokens(unittest.TestCase):
    def pairs(self, *pairs, bos=True, settings=None, **how):
        own = words(bos)
        encoder = rt.Encoder(
            own, {"bos_token": "<s>"} if settings is None else settings,
            **how)
        return [spelled(own, pair) for pair in encoder.pairs(list(pairs))]

    def test_the_choice_is_what_the_context_has_not(self):
        self.assertEqual(self.pairs(("the cat", " sat")),
                         [[["<s>", "the", "cat"], ["sat"]]])

    def test_white_space_behind_a_context_goes_to_the_choice(self):
        own = Tokenizer.from_file(str(LLAMA / "tokenizer.json"))
        encoder = rt.Encoder(own, {})
        for space in (" ", "   ", "\n", " \n "):
            context, choice = encoder.pairs([("It is" + space, "a truth")])[0]
            self.assertEqual(own.decode(context), "It is")
            self.assertEqual(own.decode(choice), space + "a truth")

    def test_context_and_choice_are_tokenized_together(self):
        """ab is one token of the whole, a and b two alone: lm-eval then gives
        the context's own tokens and what the whole has beyond their number."""
        self.assertEqual(self.pairs(("the a", "b sat"), bos=False),
                         [[["the", "a"], ["sat"]]])

    def test_a_text_that_begins_with_the_token_gets_no_second(self):
        self.assertEqual(self.pairs(("<s> the", " cat")),
                         [[["<s>", "the"], ["cat"]]])

    def test_bos_overrides_the_tokenizer(self):
        self.assertEqual(self.pairs(("the", " cat"), bos=True),
                         [[["<s>", "the"], ["cat"]]])
        own = words(True)
        bare = rt.Encoder(own, {"bos_token": "<s>"}, bos=False)
        self.assertEqual(spelled(own, bare.pairs([("the", " cat")])[0]),
                         [["the"], ["cat"]])

    def test_an_empty_context_is_the_first_token(self):
        self.assertEqual(self.pairs(("", "the cat")),
                         [[["<s>"], ["the", "cat"]]])
        self.assertEqual(self.pairs(("", "<s> the")), [[["<s>"], ["the"]]])
        self.assertEqual(  # AddedToken as transformers saves it
            self.pairs(("", "cat"), settings={
                "eos_token": {"content": "</s>", "lstrip": False}}),
            [[["</s>"], ["cat"]]])
        self.assertEqual(self.pairs(("", "the cat"), prefix=4),
                         [[["cat"], ["the", "cat"]]])
        with self.assertRaisesRegex(rt.RequestError, "data.requests.prefix"):
            self.pairs(("", "cat"), settings={})

    def test_lengths_leave_the_delimiter_out(self):
        requests = [rt.Request(1, [("the", " \u00e9a"), ("the", "cat"),
                                   ("the", " ")], 1)]
        for delimiter, want in ((" ", [(2, 3), (3, 3), (1, 1)]),
                                ("", [(3, 4), (3, 3), (1, 1)])):
            own = Tokenizer.from_file(str(LLAMA / "tokenizer.json"))
            ids, table = rt.tokenize("f", requests, rt.Encoder(own, {}),
                                     delimiter)
            self.assertEqual([tuple(r[3:5]) for r in table.tolist()], want)
            self.assertEqual(table[:, 5].tolist(), [0, 1, 0])
            self.assertEqual(len(ids), table[:, 1:3].sum())

    def test_what_has_no_token_of_its_own_is_refused(self):
        requests = [rt.Request(9, [("the cat", " ")], 0)]
        with self.assertRaisesRegex(rt.RequestError,
                                    "f:9: a choice makes no token"):
            rt.tokenize("f", requests, rt.Encoder(words(False), {}), "")
        requests = [rt.Request(9, [("  ", "the")], 0)]
        with self.assertRaisesRegex(rt.RequestError,
                                    "f:9: a context makes no token"):
            rt.tokenize("f", requests, rt.Encoder(words(False), {}), "")


def logged(pairs, target, **more):
    """A line as lm-eval's --log_samples writes it."""
    return {"doc_id": 0, "target": target, "arguments": {
        f"gen_args_{i}": {"arg_0": c, "arg_1": t}
        for i, (c, t) in enumerate(pairs)}, **more}


class Lines(unittest.TestCase):
    def read(self, *lines):
        raw = "".join(json.dumps(line) + "\n" for line in lines).encode()
        return rt.read_requests("f", raw)

    def test_plain_lines(self):
        one, two, three = self.read(
            {"context": "c", "choices": [" a", " b"], "answer": 1, "id": 7},
            {"contexts": ["x", "y"], "choices": [" a", " a"], "answer": 0},
            {"context": "c", "choices": [" a"]})
        self.assertEqual((one.pairs, one.answer),
                         ([("c", " a"), ("c", " b")], 1))
        self.assertEqual(two.pairs, [("x", " a"), ("y", " a")])
        self.assertEqual((three.pairs, three.answer), ([("c", " a")], 0))

    def test_logged_lines(self):
        many = [("c", f" {i}") for i in range(12)]
        by_number, by_text, single, mutual, blank = self.read(
            logged(many, "11"), logged([("c", " yes"), ("c", " no")], "no"),
            logged([("c", " end")], "end"),
            logged([("c", " a"), ("c", " b"), ("", " a"), ("", " b")], "1",
                   metrics=["acc", "acc_mutual_info"]),
            logged([("x", " end"), ("y", " end")], "end", acc=0.0,
                   filtered_resps=[["-3.5", "False"], ["-2", "False"]]))
        self.assertEqual(by_number.pairs, many)  # gen_args_10 behind _9
        self.assertEqual(by_number.answer, 11)
        self.assertEqual(by_text.answer, 1)
        self.assertEqual((single.pairs, single.answer), ([("c", " end")], 0))
        self.assertEqual((len(mutual.pairs), mutual.answer), (2, 1))
        self.assertEqual(blank.answer, 0)  # the second was taken, wrongly

    def test_bad_lines_are_named(self):
        good = {"context": "c", "choices": [" a", " b"], "answer": 1}
        for bad, what in (
                ([1], "not a JSON object"),
                ({**good, "answer": 2}, "answer 2 is not one of 2 choices"),
                ({**good, "answer": -1}, "answer -1 is not one of"),
                ({**good, "answer": "1"}, "'answer' must be the number"),
                ({**good, "answer": True}, "'answer' must be the number"),
                ({"context": "c", "choices": [" a", " b"]},
                 "'answer' must be the number"),
                ({**good, "choices": []}, "'choices' must be a list"),
                ({**good, "choices": [" a", 3]}, "'choices' must be a list"),
                ({**good, "choices": [" a", ""]}, "a choice is empty"),
                ({"choices": [" a"], "answer": 0}, "'context' must be a text"),
                ({**good, "contexts": ["x"]}, "one for each choice"),
                (logged([("c", {"until": []})], "x"), "generates text"),
                ({"arguments": [["c", "t"]]}, "not those of lm-eval's"),
                (logged([("c", " a"), ("c", " b")], "z"),
                 "the target 'z' is no number of a choice"),
                (logged([("c", " a"), ("c", " b")], "5"), "answer 5 is not")):
            with self.assertRaises(rt.RequestError) as raised:
                self.read(good, bad)
            self.assertIn("f:2: ", str(raised.exception))
            self.assertIn(what, str(raised.exception))
        with self.assertRaisesRegex(rt.RequestError, "f:2: not JSON"):
            rt.read_requests("f", json.dumps(good).encode() + b"\n{\n")
        with self.assertRaisesRegex(rt.RequestError, "'f': byte 3 is not"):
            rt.read_requests("f", b"{} \xff")
        with self.assertRaisesRegex(rt.RequestError, "'f': no requests"):
            rt.read_requests("f", b" \n\t\r\n")


class Prepared(unittest.TestCase):
    def setUp(self):
        temp = tempfile.TemporaryDirectory()
        self.addCleanup(temp.cleanup)
        self.dir = Path(temp.name)
        for name in "abc":
            shutil.copytree(LLAMA, self.dir / name, ignore=shutil
                            .ignore_patterns("*.safetensors"))
        (self.dir / "one.txt").write_text("It is a truth. " * 9)
        (self.dir / "asked.jsonl").write_text(json.dumps(
            {"context": "It is", "choices": [" a truth", " so"],
             "answer": 0}) + "\n\n")

    def run_main(self, more="", *args):
        spec = self.dir / "s.yaml"
        spec.write_text(SPEC % more)
        out, err = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            code = prepare.main([str(spec), *args])
        return code, out.getvalue(), err.getvalue()

    def tables(self):
        return sorted((self.dir / ".tokens").glob("*.choices.npy"))

    def test_models_with_the_same_tokenizer_share(self):
        code, out, err = self.run_main()
        self.assertEqual((code, err), (0, ""))
        self.assertIn("2 choices of 1 requests", out)
        (path,) = self.tables()
        self.assertEqual(np.load(path).dtype, np.int64)
        self.assertEqual(np.load(path).shape, (2, 6))
        self.assertIn("2 choices under", self.run_main()[1])

    def test_other_settings_and_options_are_other_tokens(self):
        self.run_main()
        (self.dir / "b/special_tokens_map.json").write_text("{}")
        config = self.dir / "c/tokenizer_config.json"
        config.write_text(json.dumps({**json.loads(config.read_text()),
                                      "eos_token": "a"}))
        self.run_main()
        self.assertEqual(len(self.tables()), 3)
        for i, more in enumerate((", bos: false", ", prefix: 3",
                                  ", delimiter: ''")):
            self.run_main(more)
            self.assertEqual(len(self.tables()), 3 * (i + 2))
        self.run_main(", limit: 1, length: 30")  # the program's business
        self.assertEqual(len(self.tables()), 12)

    def test_damage_is_mended(self):
        self.run_main()
        (path,) = self.tables()
        before = path.read_bytes()
        path.write_bytes(before[:-8])
        self.assertEqual(self.run_main()[0], 0)
        self.assertEqual(path.read_bytes(), before)
        np.save(path, np.zeros((2, 5), np.int64))
        self.run_main()
        self.assertEqual(path.read_bytes(), before)

    def test_bad_input_is_named(self):
        for more, what in ((", bos: 1", "s.yaml:5: data.requests.bos must be "
                            "true or false"),
                           (", prefix: true", "must be a token's number"),
                           (", delimiter: 3", "must be a text"),
                           (", bos: [true]", "must be a single value")):
            code, _, err = self.run_main(more)
            self.assertEqual(code, 1)
            self.assertIn(what, err)
        code, _, err = self.run_main("", "--set",
                                     "data.requests.file=absent.jsonl")
        self.assertEqual(code, 1)
        self.assertIn("absent.jsonl': No such file", err)
        (self.dir / "b/tokenizer_config.json").write_text("[1]")
        code, _, err = self.run_main()
        self.assertEqual(code, 1)
        self.assertIn("b/tokenizer_config.json': not a JSON object", err)

    def test_files_that_disagree_on_the_first_token_are_refused(self):
        (self.dir / "b/tokenizer_config.json").write_text(json.dumps(
            {"tokenizer_class": "LlamaTokenizer", "add_bos_token": True}))
        code, _, err = self.run_main()
        self.assertEqual(code, 1)
        self.assertIn("says add_bos_token True, tokenizer.json adds none", err)
        self.assertEqual(self.run_main(", bos: false")[0], 0)


if __name__ == "__main__":
    unittest.main()
