# SPDX-License-Identifier: GPL-3.0-or-later
"""Round trips of exports through pandas, xarray and R, and the examples of
analysis/examples. Run by PTQ_ANALYSIS_PYTHON (a Python with the packages of
analysis/requirements.txt) if that is set; R where it is installed."""

import os
import pathlib
import re
import shutil
import subprocess
import tempfile
import unittest

PROGRAM = os.environ["PTQSWEEP"]
ROOT = pathlib.Path(__file__).resolve().parents[2]
WRITER = pathlib.Path(os.environ["PTQ_BINARY_DIR"]) / "tests" / "test_report"
PYTHON = os.environ.get("PTQ_ANALYSIS_PYTHON") or shutil.which("python3")
PACKAGES = subprocess.run(
    [PYTHON, "-c", "import h5netcdf, h5py, pandas, xarray"],
    capture_output=True).returncode == 0
R = shutil.which("Rscript")
TABLES = ("points", "models", "layers", "windows", "spectra", "answers")

ROUND_TRIP = """
import json, sys
import numpy as np, pandas as pd, xarray as xr
sys.path.insert(0, sys.argv[2])
import ptqsweep
folder = sys.argv[1]
store = ptqsweep.read(folder + "/s.h5")
tables = {"points": store.points, "models": store.models,
          "layers": store.layers, "windows": store.windows,
          "spectra": store.spectra, "answers": store.answers}
for name, frame in tables.items():
    csv = pd.read_csv(f"{folder}/{name}.csv", keep_default_na=False,
                      na_values=[""])
    jsonl = pd.read_json(f"{folder}/{name}.jsonl", lines=True,
                         precise_float=True)
    nc = xr.open_dataset(f"{folder}/{name}.nc", engine="h5netcdf").load()
    assert len(csv) == len(jsonl) == nc.sizes["row"] == len(frame), name
    assert list(csv.columns) == list(jsonl.columns) == list(nc.data_vars)
    assert set(csv.columns) <= set(frame.columns), name
    for column in csv.columns:
        a, b, c = csv[column], jsonl[column], nc[column]
        if c.dtype.kind == "f":
            assert np.array_equal(a.astype(float), c, equal_nan=True), column
            assert np.array_equal(b.astype(float), c, equal_nan=True), column
        elif c.dtype.kind == "i":
            assert np.array_equal(a, c) and np.array_equal(b, c), column
        else:
            words = [str(v) for v in c.values]
            assert [("" if pd.isna(v) else str(v)) for v in a] == words, column
        assert c.attrs["long_name"] not in ("", column), column
        assert "units" in c.attrs or c.dtype.kind != "f", column
        if column in frame and c.dtype.kind == "f":
            mine, theirs = frame[column].astype(float), c.values
            if name == "spectra":  # sites stand in another order
                mine, theirs = np.sort(mine), np.sort(theirs)
            assert np.array_equal(mine, theirs, equal_nan=True), column
points = store.points
assert (points.model == points.model_name).all()
assert np.allclose((points.nll - points.model_nll)[points.state == "done"],
                   points.dnll[points.state == "done"])
print("whole")
"""

# As a run leaves it on its way: point 0 and the last are finished, some points
# and a model are half written, the others wait with zeros.
HALF_WRITTEN = """
import shutil, sys
import h5py, numpy as np
folder = sys.argv[1]
sys.path.insert(0, sys.argv[2])
import ptqsweep
whole = ptqsweep.read(folder + "/s.h5")
shutil.copy(folder + "/s.h5", folder + "/half.h5")
with h5py.File(folder + "/half.h5", "r+") as file:
    n = len(file["state"])
    state = file["state"][:]
    assert state[0] == state[n - 1] == 2
    state[1:n - 1] = 0
    state[1:n // 2] = 1
    file["state"][:] = state
    for name, first in (("layers", "first_layer"), ("windows", "first_window")):
        rows = file[name][:]
        edges = file["index/" + first][:]
        half = (edges[n // 4] + edges[n // 2]) // 2
        rows[half:edges[n - 1]] = 0
        file[name][:] = rows
    file["models_state"][1] = 1
    file["spectra_state"][:] = 1
    edges = file["index/first_baseline"][:]
    rows = file["baseline"][:]
    rows[edges[1] + 1:edges[2]] = 0
    file["baseline"][:] = rows
half = ptqsweep.read(folder + "/half.h5")
keys = whole.points.key.iloc[[0, n - 1]]
assert list(half.points.key[half.points.state == "done"]) == list(keys)
assert half.points.nll.notna().sum() == 2
for name in ("layers", "windows"):
    mine, theirs = getattr(half, name), getattr(whole, name)
    theirs = theirs[theirs.key.isin(keys)].reset_index(drop=True)
    assert len(theirs) > 0 and mine.equals(theirs), name
assert len(half.spectra) == 0 < len(whole.spectra)
assert list(half.models.state[:2]) == ["done", "started"]
assert np.isnan(half.models.nll[1]) and half.models.nll[0] > 0
print("whole")
"""


class Analysis(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.temp = tempfile.TemporaryDirectory()
        cls.dir = pathlib.Path(cls.temp.name)
        subprocess.run([WRITER], check=True, env={
            **os.environ, "PTQ_STORE_OUT": str(cls.dir / "s.h5")})
        for table in TABLES:
            for form, end in (("csv", "csv"), ("jsonl", "jsonl"),
                              ("netcdf", "nc")):
                subprocess.run(
                    [PROGRAM, "export", cls.dir / "s.h5", "--table", table,
                     "--format", form, "-o", cls.dir / f"{table}.{end}"],
                    check=True)

    @classmethod
    def tearDownClass(cls):
        cls.temp.cleanup()

    def run_whole(self, *args):
        done = subprocess.run([str(a) for a in args], capture_output=True,
                              text=True, cwd=self.dir)
        self.assertEqual(done.returncode, 0, done.stderr[-2000:])
        return done.stdout

    def test_netcdf_is_hdf5_with_its_signature(self):
        for table in TABLES:
            data = (self.dir / f"{table}.nc").read_bytes()
            self.assertEqual(data[:8], b"\x89HDF\r\n\x1a\n")
            self.assertIn(b"DIMENSION_SCALE", data)

    def test_netcdf_wants_a_file(self):
        done = subprocess.run([PROGRAM, "export", self.dir / "s.h5", "--table",
                               "points", "--format", "netcdf"],
                              capture_output=True, text=True)
        self.assertEqual(done.returncode, 2)
        self.assertIn("netcdf needs a file", done.stderr)
        done = subprocess.run([PROGRAM, "export", self.dir / "s.h5", "--table",
                               "points", "--format", "netcdf", "-o",
                               self.dir / "none" / "x.nc"],
                              capture_output=True, text=True)
        self.assertEqual(done.returncode, 1)
        self.assertIn("x.nc", done.stderr)

    def test_export_leaves_a_device_a_device(self):
        pipe = self.dir / "pipe"
        os.mkfifo(pipe)
        with subprocess.Popen(["cat", pipe], stdout=subprocess.PIPE) as cat:
            subprocess.run([PROGRAM, "export", self.dir / "s.h5", "--table",
                            "models", "-o", pipe], check=True, timeout=60)
            read = cat.stdout.read()
        self.assertTrue(pipe.is_fifo())
        self.assertEqual(read, (self.dir / "models.csv").read_bytes())

    @unittest.skipUnless(PACKAGES, "needs analysis/requirements.txt")
    def test_round_trips_through_pandas_and_xarray(self):
        self.assertEqual(self.run_whole(
            PYTHON, "-c", ROUND_TRIP, self.dir, ROOT / "analysis"), "whole\n")

    @unittest.skipUnless(PACKAGES, "needs analysis/requirements.txt")
    def test_what_is_half_written_is_no_result(self):
        self.assertEqual(self.run_whole(
            PYTHON, "-c", HALF_WRITTEN, self.dir, ROOT / "analysis"), "whole\n")

    @unittest.skipUnless(PACKAGES, "needs analysis/requirements.txt")
    def test_python_examples_run(self):
        text = self.run_whole(PYTHON, ROOT / "analysis/examples/with_xarray.py",
                              self.dir / "points.nc")
        self.assertIn("int3", text)
        text = self.run_whole(PYTHON, ROOT / "analysis/examples/with_pandas.py",
                              self.dir / "s.h5")
        self.assertIn("lose more than two standard errors", text)

    def test_installed_library_serves_another_program(self):
        """Headers, archives and pkg-config of an installation, and the C
        example built and run against them."""
        build = os.environ["PTQ_BINARY_DIR"]
        cache = pathlib.Path(build, "CMakeCache.txt").read_text()
        if re.search(r"^PTQ_SANITIZE:BOOL=ON", cache, re.MULTILINE):
            self.skipTest("archives of a sanitized build want its flags")
        prefix = self.dir / "prefix"
        self.run_whole("cmake", "--install", build, "--prefix", prefix)
        pc, = prefix.rglob("ptqsweep.pc")
        env = {**os.environ, "PKG_CONFIG_PATH": str(pc.parent)}
        flags = subprocess.run(
            ["pkg-config", "--cflags", "--libs", "ptqsweep"], env=env,
            capture_output=True, text=True, check=True).stdout.split()
        self.run_whole("cc", "-std=c11", "-Wall", "-Werror",
                       ROOT / "analysis/examples/with_c.c", *flags, "-o",
                       self.dir / "with_c")
        text = self.run_whole(self.dir / "with_c", self.dir / "s.h5")
        self.assertIn("bits_per_weight", text)
        self.assertIn("first point: dnll ", text)
        self.every_header_compiles_alone(prefix, env)

    def every_header_compiles_alone(self, prefix, env):
        flags = subprocess.run(
            ["pkg-config", "--cflags", "ptqsweep"], env=env,
            capture_output=True, text=True, check=True).stdout.split()
        include, = prefix.rglob("include/ptq")
        headers = sorted(include.rglob("*.h"))
        self.assertGreater(len(headers), 30)
        for header in headers:
            source = self.dir / "header.c"
            source.write_text(f'#include "{header.relative_to(include.parent)}"'
                              "\nint main(void) { return 0; }\n")
            with self.subTest(header=header.name):
                self.run_whole("cc", "-std=c11", "-fsyntax-only", source,
                               *flags)

    @unittest.skipUnless(R, "Rscript not installed")
    def test_r_example_runs(self):
        text = self.run_whole(R, ROOT / "analysis/examples/with_r.R",
                              self.dir / "points.csv", self.dir / "models.csv",
                              self.dir / "points.nc")
        self.assertIn("bits_per_weight", text)


if __name__ == "__main__":
    unittest.main()
