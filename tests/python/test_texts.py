# SPDX-License-Identifier: GPL-3.0-or-later
"""Tests of sweeps/texts.py: python3 -m unittest discover tests/python."""
import contextlib
import gzip
import importlib.util
import io
import json
import pathlib
import sys
import tempfile
import unittest

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "sweeps"))
import texts  # noqa: E402

HAVE_ARROW = importlib.util.find_spec("pyarrow") is not None
DOCUMENTS = ["", " = A title = \n", "one\r\ntwo", "\u00fc\u2028x"]


class Texts(unittest.TestCase):
    def setUp(self):
        scratch = tempfile.TemporaryDirectory()
        self.addCleanup(scratch.cleanup)
        self.dir = pathlib.Path(scratch.name)

    def lines(self, name, rows):
        text = "".join(json.dumps(row) + "\n" for row in rows)
        path = self.dir / name
        if name.endswith(".gz"):
            path.write_bytes(gzip.compress(text.encode()))
        else:
            path.write_text(text, encoding="utf-8")
        return str(path)

    def run_it(self, *args):
        said = io.StringIO()
        with contextlib.redirect_stderr(said), \
                contextlib.redirect_stdout(said):
            code = texts.main([*args, "-o", str(self.dir / "out.txt")])
        return code, said.getvalue()

    def result(self):
        return (self.dir / "out.txt").read_bytes().decode("utf-8")

    def test_documents_are_joined_as_the_gptq_scripts_do(self):
        for name in ("a.jsonl", "a.json.gz"):
            path = self.lines(name, [{"text": d, "n": 1} for d in DOCUMENTS])
            self.assertEqual(self.run_it(path)[0], 0)
            self.assertEqual(self.result(), "\n\n".join(DOCUMENTS))
            self.run_it(path, "--join", "c4", "--documents", "3")
            self.assertEqual(self.result(), " ".join(DOCUMENTS[:3]))
            self.run_it(path, "--join", "|\\n")
            self.assertEqual(self.result(), "|\n".join(DOCUMENTS))

    def test_files_follow_one_another(self):
        a = self.lines("a.jsonl", [{"t": "x"}, {"t": "y"}])
        (self.dir / "b.txt").write_bytes(b"plain\r\n")
        self.assertEqual(
            self.run_it(a, str(self.dir / "b.txt"), "--column", "t"),
            (0, f"{self.dir}/out.txt: 3 documents\n"))
        self.assertEqual(self.result(), "x\n\ny\n\nplain\r\n")

    @unittest.skipUnless(HAVE_ARROW, "needs pyarrow")
    def test_parquet(self):
        import pyarrow
        import pyarrow.parquet
        path = str(self.dir / "a.parquet")
        pyarrow.parquet.write_table(pyarrow.table({"text": DOCUMENTS}), path)
        self.assertEqual(self.run_it(path)[0], 0)
        self.assertEqual(self.result(), "\n\n".join(DOCUMENTS))
        code, said = self.run_it(path, "--column", "body")
        self.assertEqual(code, 1)
        self.assertIn("no column 'body', only text", said)

    def test_bad_input_is_named_and_writes_nothing(self):
        path = self.lines("a.jsonl", [{"text": "x"}, {"body": "y"}])
        (self.dir / "cut.jsonl").write_text('{"text": "x"}\n{"te')
        (self.dir / "none.jsonl").write_text("\n")
        (self.dir / "latin.txt").write_bytes(b"\xe9t\xe9")
        for name, part in (("a.jsonl", "a.jsonl:2: no text 'text'"),
                           ("cut.jsonl", "cut.jsonl:2: not JSON"),
                           ("none.jsonl", "holds no document"),
                           ("latin.txt", "byte 0 is not UTF-8"),
                           ("gone.txt", "No such file")):
            code, said = self.run_it(str(self.dir / name))
            self.assertEqual(code, 1)
            self.assertIn(part, said)
        self.assertNotIn("out.txt", [p.name for p in self.dir.iterdir()])
        self.assertFalse(list(self.dir.glob(".texts-*")))
        self.assertTrue(path)


if __name__ == "__main__":
    unittest.main()
