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


def most_resident(command):
    """Bytes that a command had in memory at most."""
    run = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    _, status, usage = os.wait4(run.pid, 0)
    run.returncode = os.waitstatus_to_exitcode(status)
    if run.returncode != 0:
        raise subprocess.CalledProcessError(run.returncode, command)
    return 1024 * usage.ru_maxrss


def most_of_a_team(command, ranks):
    """The same of the ranks that work, rank 0 handing out."""
    root = ["--allow-run-as-root"] if os.getuid() == 0 else []
    done = subprocess.run(
        [os.environ.get("MPIRUN", "mpirun"), *root, "--oversubscribe",
         "--bind-to", "none", "-n", str(ranks + 1), sys.executable, __file__,
         "--measure", *command], check=True, capture_output=True, text=True)
    said = [line.split() for line in done.stdout.splitlines()
            if line.startswith("resident ")]
    assert len(said) == ranks + 1, done.stdout
    return max(int(bytes) for _, rank, bytes in said if rank != "0")


class Memory(unittest.TestCase):
    def setUp(self):
        if b"__asan_init" in pathlib.Path(PROGRAM).read_bytes():
            self.skipTest("AddressSanitizer has memory of its own")
        scratch = tempfile.TemporaryDirectory()
        self.addCleanup(scratch.cleanup)
        self.dir = pathlib.Path(scratch.name)

    def check(self, shape, methods, windows=4, length=256, dtypes="int4",
              spectra="off", options=(), ranks=1):
        if not (self.dir / "model").exists():
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
        if ranks > 1:
            options = ("--ranks-per-point", str(ranks), *options)
        done = subprocess.run([PROGRAM, "plan", spec, "--gflops", "50",
                               "--json", "--ranks", str(ranks), *options],
                              check=True, capture_output=True)
        said = json.loads(done.stdout)["memory"]
        command = [PROGRAM, "run", spec, "-o", self.dir / "memory.h5",
                   "--quiet", *options]
        had = most_resident(command) if ranks == 1 else \
            most_of_a_team(command, ranks)
        self.had = had
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

    def test_teams_share_windows(self):
        self.check(DEEP, "gptq", windows=64)
        alone = self.had
        (self.dir / "memory.h5").unlink()
        self.check(DEEP, "gptq", windows=64, ranks=2)
        self.assertLess(self.had, 0.72 * alone)

    def test_teams_share_moments(self):
        self.check(WIDE, "gptq", ranks=2)

    def test_spectra(self):
        self.check(WIDE, "rtn", spectra="full")


if __name__ == "__main__" and sys.argv[1:2] == ["--measure"]:
    had = most_resident(sys.argv[2:])
    print("resident", os.environ["OMPI_COMM_WORLD_RANK"], had, flush=True)
elif __name__ == "__main__":
    unittest.main(verbosity=2)
