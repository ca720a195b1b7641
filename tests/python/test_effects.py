# SPDX-License-Identifier: GPL-3.0-or-later
"""Tests of sweeps/zoo/effects.py on points made from known effects. Run by
PTQ_ANALYSIS_PYTHON (a Python with the packages of analysis/requirements.txt)
if that is set."""
import os
import pathlib
import re
import shutil
import subprocess
import unittest

ROOT = pathlib.Path(__file__).resolve().parents[2]
PYTHON = os.environ.get("PTQ_ANALYSIS_PYTHON") or shutil.which("python3")
PACKAGES = subprocess.run([PYTHON, "-c", "import h5py, pandas"],
                          capture_output=True).returncode == 0

MAKE = """
import sys
sys.path.insert(0, sys.argv[1])
import numpy as np, pandas as pd
import effects
rng = np.random.default_rng(1)
rows = []
for run in range(8):
    size, seed = ("llama-25k", "llama-85k")[run % 2], 21 + run // 2
    of_run = rng.normal(0, 0.2)
    for passes in (1, 4, 16):
        for after in (False, True):
            tokens = 1e6 * passes * (1.25 if after else 1)
            name = f"{size}-s{seed}-p{passes:02d}" + "-decayed" * after
            for c in range(40):
                y = (-3 + 0.03 * c + 0.4 * np.log(tokens / 1e6) + 0.3 * after
                     + of_run + rng.normal(0, 0.02))
                rows.append(dict(
                    model=name, dtype=f"int{c}", method="rtn", options="",
                    group=32, state="done", dnll=np.exp(y), nll=3.0,
                    model_nll_unigram=6.0,
                    model_covariates=f"lr_state=x,train_tokens={tokens}"))
points = pd.DataFrame(rows)
points.loc[3, "state"] = "failed"
points.loc[4, "nll"] = 6.5
if sys.argv[2] == "text":
    print(effects.report(points))
else:
    for p, df, x in ((0.975, 4, 11.1433), (0.025, 4, 0.48442),
                     (0.975, 12, 23.3367)):
        assert abs(effects.chi2_quantile(p, df) / x - 1) < 1e-4, (p, df)
    for df, x in ((3, 3.1824), (7, 2.3646), (30, 2.0423)):
        assert abs(effects.t_quantile(df) / x - 1) < 0.01, df
"""


@unittest.skipUnless(PACKAGES, "h5py or pandas is not installed")
class Effects(unittest.TestCase):
    def run_python(self, what):
        done = subprocess.run([PYTHON, "-B", "-c", MAKE,
                               str(ROOT / "sweeps/zoo"), what],
                              capture_output=True, text=True)
        self.assertEqual(done.returncode, 0, done.stderr)
        return done.stdout

    def test_quantiles_are_near_the_tables(self):
        self.run_python("quantiles")

    def test_known_effects_come_back_within_their_intervals(self):
        text = self.run_python("text")
        # decay: 0.3, and 0.4 ln(1.25) of its tokens
        mean, low, high = map(float, re.search(
            r"\n  8 runs: (\S+) \((\S+) to (\S+)\)", text).groups())
        self.assertTrue(low < 0.3 + 0.4 * 0.22314 < high, text)
        self.assertLess(high - low, 0.05)
        for state in ("constant", "decayed"):
            mean, low, high = map(float, re.search(
                rf"{state}, 8 runs: (\S+) \((\S+) to (\S+)\)", text).groups())
            self.assertTrue(low < 0.4 < high, text)
            self.assertLess(high - low, 0.05)
        sd, low, high, df = map(float, re.search(
            r"all: (\S+) \((\S+) to (\S+)\), (\d+) degrees", text).groups())
        self.assertEqual(df, 6)
        self.assertTrue(low < 0.2 < high, text)
        self.assertNotIn("41 points", text)

    def test_usage(self):
        script = ROOT / "sweeps/zoo/effects.py"
        done = subprocess.run([PYTHON, "-B", str(script)], text=True,
                              capture_output=True)
        self.assertEqual(done.returncode, 2)
        done = subprocess.run([PYTHON, "-B", str(script), "absent.h5"],
                              text=True, capture_output=True)
        self.assertEqual(done.returncode, 1)
        self.assertIn("absent.h5", done.stderr)


if __name__ == "__main__":
    unittest.main()
