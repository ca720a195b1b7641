# SPDX-License-Identifier: GPL-3.0-or-later
"""Tests of sweeps/austen.py: python3 -m unittest discover tests/python."""
import contextlib
import hashlib
import io
import os
import pathlib
import struct
import sys
import tempfile
import unittest
import unittest.mock
import zlib

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "sweeps"))
import austen  # noqa: E402

UTF8, LATIN1, ASCII = 0x00008009, 0x00004009, 0x00040009


def vector(lines, version=3, flags=UTF8, encoding="utf-8", kind=16):
    """An XDR-serialized R character vector; None is NA."""
    data = b"X\n" + struct.pack(">iii", version, 0x40200, 0x30500)
    if version == 3:
        data += struct.pack(">i", 5) + b"UTF-8"
    data += struct.pack(">ii", kind, len(lines))
    for line in lines:
        if line is None:
            data += struct.pack(">ii", 9, -1)
        else:
            raw = line.encode(encoding)
            data += struct.pack(">ii", flags, len(raw)) + raw
    return data


def record(data):
    return struct.pack(">I", len(data)) + zlib.compress(data)


class Case(unittest.TestCase):
    def setUp(self):
        temp = tempfile.TemporaryDirectory()
        self.addCleanup(temp.cleanup)
        self.dir = pathlib.Path(temp.name)
        self.out = self.dir / "out"

    def run_main(self, *args):
        """(exit code, standard error) of austen.py."""
        err = io.StringIO()
        with contextlib.redirect_stderr(err), \
                contextlib.redirect_stdout(io.StringIO()):
            try:
                code = austen.main(["-o", str(self.out), *args])
            except SystemExit as error:
                code = error.code
        return code, err.getvalue()

    def plain_texts(self):
        texts = self.dir / "texts"
        texts.mkdir()
        for key in austen.NOVELS.values():
            (texts / f"{key}.txt").write_bytes(f"{key}\r\nend".encode())
        return texts


class Database(Case):
    def titles(self):
        return [vector([title.title(), "", "caf\u00e9"])
                for title in austen.NOVELS]

    def write(self, *vectors):
        path = self.dir / "Rdata.rdb"
        path.write_bytes(b"".join(record(v) for v in vectors))
        return str(path)

    def test_novels_are_found_by_title_in_any_order(self):
        path = self.write(vector(["other"]), *reversed(self.titles()))
        novels = austen.novels_of_database(path)
        self.assertEqual(set(novels), set(austen.NOVELS.values()))
        self.assertEqual(novels["emma"], "Emma\n\ncaf\u00e9\n")

    def test_a_missing_novel_is_named(self):
        with self.assertRaisesRegex(austen.AustenError, "PERSUASION"):
            austen.novels_of_database(self.write(*self.titles()[:-1]))

    def test_strings_in_all_encodings_and_versions(self):
        for version in (2, 3):
            for flags, encoding, line in ((UTF8, "utf-8", "\u00e9\u65e5"),
                                          (LATIN1, "latin-1", "\u00e9"),
                                          (ASCII, "ascii", "plain")):
                data = vector([line, None, ""], version, flags, encoding)
                self.assertEqual(austen.character_vector(data, "x"),
                                 [line, "", ""])

    def test_truncation_anywhere_is_an_error(self):
        data = vector(["one", "two"])
        for n in range(len(data)):
            with self.assertRaises(austen.AustenError):
                austen.character_vector(data[:n], "x")
        packed = record(data)
        for n in range(1, len(packed)):
            with self.assertRaises(austen.AustenError):
                list(austen.records(packed[:n], "x"))

    def test_a_lying_length_and_other_types_are_errors(self):
        packed = bytearray(record(vector(["one"])))
        packed[3] += 1
        with self.assertRaisesRegex(austen.AustenError, "bytes"):
            list(austen.records(bytes(packed), "x"))
        for bad in (vector(["a"], kind=13), vector(["a"], kind=16 | 0x200),
                    vector(["a"], flags=13), vector(["a"], version=4),
                    b"A\n" + vector(["a"])[2:]):
            with self.assertRaises(austen.AustenError):
                austen.character_vector(bad, "x")


class Main(Case):
    def test_plain_texts_are_joined_in_order_with_a_warning(self):
        code, err = self.run_main("--texts", str(self.plain_texts()))
        self.assertEqual(code, 0)
        self.assertIn("warning", err)
        self.assertEqual(
            (self.out / "train.txt").read_bytes(),
            b"sensesensibility\nend\nprideprejudice\nend\n"
            b"mansfieldpark\nend\nemma\nend\n")
        self.assertEqual((self.out / "select.txt").read_bytes(),
                         b"northangerabbey\nend\n")
        self.assertEqual((self.out / "test.txt").read_bytes(),
                         b"persuasion\nend\n")
        self.assertEqual(len(list(self.out.iterdir())), 3)

    def test_missing_and_bad_plain_texts(self):
        texts = self.plain_texts()
        for content, part in ((b"\xff", "not UTF-8"), (b" \n", "empty")):
            (texts / "emma.txt").write_bytes(content)
            code, err = self.run_main("--texts", str(texts))
            self.assertEqual(code, 1)
            self.assertIn("emma.txt", err)
            self.assertIn(part, err)
        (texts / "emma.txt").unlink()
        code, err = self.run_main("--texts", str(texts))
        self.assertEqual(code, 1)
        self.assertIn("--texts needs sensesensibility.txt", err)

    def test_changed_package_is_refused_unless_accepted(self):
        novels = {key: "x\n" for key in austen.NOVELS.values()}
        with unittest.mock.patch.object(austen, "novels_of_package",
                                        lambda deb: novels):
            code, err = self.run_main()
            self.assertEqual(code, 1)
            self.assertIn("--unverified", err)
            self.assertFalse(self.out.exists())
            self.assertEqual(self.run_main("--unverified")[0], 0)
        self.assertTrue((self.out / "test.txt").exists())

    def test_sound_texts_are_not_fetched_again(self):
        texts = austen.compose({k: k for k in austen.NOVELS.values()})
        known = {name: (keys, hashlib.sha256(texts[name]).hexdigest())
                 for name, (keys, _) in austen.OUTPUTS.items()}
        austen.write(str(self.out), texts)

        def fetch(_):
            raise austen.AustenError("fetched")
        with unittest.mock.patch.object(austen, "OUTPUTS", known), \
                unittest.mock.patch.object(austen, "novels_of_package",
                                           fetch):
            self.assertEqual(self.run_main(), (0, ""))
            (self.out / "test.txt").write_text("damaged")
            self.assertIn("fetched", self.run_main()[1])

    def test_without_apt_the_message_says_what_to_do(self):
        with unittest.mock.patch.dict(os.environ, {"PATH": str(self.dir)}):
            code, err = self.run_main()
        self.assertEqual(code, 1)
        self.assertIn("'apt-get' is not installed", err)
        self.assertIn("--texts", err)

    def test_a_package_that_is_none(self):
        self.assertIn("no such file", self.run_main("--deb", "none.deb")[1])
        bad = self.dir / "bad.deb"
        bad.write_bytes(b"not a package")
        code, err = self.run_main("--deb", str(bad))
        self.assertEqual(code, 1)
        self.assertIn("dpkg-deb", err)

    def test_output_that_cannot_be_written(self):
        self.out.write_text("a file")
        code, err = self.run_main("--texts", str(self.plain_texts()))
        self.assertEqual(code, 1)
        self.assertIn("-o", err)

    def test_usage(self):
        self.assertEqual(self.run_main("--deb", "a", "--texts", "b")[0], 2)


if __name__ == "__main__":
    unittest.main()
