# SPDX-License-Identifier: GPL-3.0-or-later
"""What `plan` says of memory against the most that `run` has resident: small
models of several shapes, each with another part that takes most."""
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import unittest

TOP = pathlib.Path(os.environ["PTQ_SOURCE_DIR"])
PROGRAM = os.environ["PTQSWEEP"]
TOKENIZER = TOP / "sweeps/zoo/llama-25k"
WITHIN = 0.2

SPEC = """
name: memory
models: [model]
data:
  calibration: {{text: text.txt, windows: {windows}, length: {length}}}
  selection: {{text: text.txt, windows: {windows}, length: {length}}}
  evaluation: {{text: text.txt, windows: {windows}, length: {length}}}
grid:
  dtype: [{dtypes}]
  method: [{methods}]
  group: [64]
measure: {{spectra: {spectra}}}
"""

# Options of tests/bench/random_llama.py.
WIDE = "--width 512 --inner 3072 --heads 4 --blocks 1 --vocab 1024"
VOCABULARY = "--width 512 --inner 512 --heads 4 --blocks 1 --vocab 60000"
DEEP = "--width 768 --inner 1536 --heads 12 --kv-heads 4 --blocks 1 " \
    "--vocab 1024"
EXPERTS = "--width 384 --inner 512 --heads 6 --blocks 1 --vocab 1024 " \
    "--experts 16"


def tokens_and_text(directory):
    """A text, and its tokens in the cache."""
    words = "the of and to a in was her she he his it that not be had".split()
    (directory / "text.txt").write_text(
        " ".join(words[i * i % 16] for i in range(60000)))


class Memory(unittest.TestCase):
    def setUp(self):
        if b"__asan_init" in pathlib.Path(PROGRAM).read_bytes():
            self.skipTest("AddressSanitizer has memory of its own")
        scratch = tempfile.TemporaryDirectory()
        self.addCleanup(scratch.cleanup)
        self.dir = pathlib.Path(scratch.name)

    def check(self, shape, methods, windows=4, length=256, dtypes="int4",
              spectra="off", options=()):
        subprocess.run([sys.executable, TOP / "tests/bench/random_llama.py",
                        self.dir / "model", *shape.split(), "--tokenizer",
                        TOKENIZER], check=True)
        tokens_and_text(self.dir)
        spec = self.dir / "memory.yaml"
        spec.write_text(SPEC.format(
            windows=windows, length=length, dtypes=dtypes, methods=methods,
            spectra=spectra))
        subprocess.run([sys.executable, TOP / "sweeps/prepare.py", spec],
                       check=True, capture_output=True)
        done = subprocess.run([PROGRAM, "plan", spec, "--gflops", "50",
                               "--json", *options], check=True,
                              capture_output=True)
        said = json.loads(done.stdout)["memory"]
        run = subprocess.Popen([PROGRAM, "run", spec, "-o",
                                self.dir / "memory.h5", "--quiet", *options],
                               stderr=subprocess.DEVNULL)
        _, status, usage = os.wait4(run.pid, 0)
        run.returncode = os.waitstatus_to_exitcode(status)
        self.assertEqual(run.returncode, 0)
        had = 1024 * usage.ru_maxrss
        print(f"{self.id().split('.')[-1]}: said {said >> 20} MiB, had "
              f"{had >> 20} MiB", file=sys.stderr)
        self.assertLess(abs(said / had - 1.0), WITHIN)

    def test_threads_have_their_scratch(self):
        self.check(DEEP, "gptq", windows=8, options=("--threads", "3"))

    def test_wide_mlp_rounded(self):
        self.check(WIDE, "rtn")

    def test_wide_mlp_gptq(self):
        self.check(WIDE, "gptq")

    def test_wide_mlp_gptq_ordered(self):
        self.check(WIDE, "{name: gptq, act_order: true, hessian: static}")

    def test_wide_mlp_several_points(self):
        self.check(WIDE, "rtn, gptq, {name: gptq, hessian: static}",
                   dtypes="int4, int3, mxint4")

    def test_summed_moments(self):
        self.check(DEEP, "gptq", windows=7)

    def test_summed_moments_of_awq(self):
        self.check(DEEP, "awq", windows=7)

    def test_block_loss(self):
        self.check(DEEP, "{name: autoround, iters: 2}", windows=8)

    def test_cross_moments(self):
        self.check(DEEP, "gptaq", windows=8)

    def test_large_vocabulary(self):
        self.check(VOCABULARY, "rtn")

    def test_experts(self):
        self.check(EXPERTS, "gptq", windows=8)

    def test_long_texts(self):
        self.check(DEEP, "gptq", windows=32)

    def test_long_texts_in_files(self):
        self.check(DEEP, "gptq", windows=32,
                   options=("--scratch", self.dir))

    def test_spectra(self):
        self.check(WIDE, "rtn", spectra="full")


if __name__ == "__main__":
    unittest.main(verbosity=2)
