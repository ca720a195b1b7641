# SPDX-License-Identifier: GPL-3.0-or-later
"""sweeps/convert.py on files written as torch.save writes them."""
import io
import json
import os
import pickle
import shutil
import subprocess
import sys
import tempfile
import types
import unittest
import zipfile
from collections import OrderedDict
from pathlib import Path

import numpy as np

TOP = Path(os.environ.get("PTQ_SOURCE_DIR", Path(__file__).parents[2]))
PROGRAM = os.environ.get("PTQSWEEP")
sys.path.insert(0, str(TOP / "sweeps"))

import convert  # noqa: E402


class FakeStorage:
    """Pickled by reference, as torch's storages are."""

    def __init__(self, kind, key):
        self.kind, self.key = kind, key


class FakeTensor:
    """Pickled as torch pickles a tensor."""

    def __init__(self, storage, offset, shape, strides):
        self.state = (storage, offset, shape, strides)

    def __reduce__(self):
        rebuild = sys.modules["torch._utils"]._rebuild_tensor_v2
        return rebuild, (*self.state, False, OrderedDict())


def fake_torch():
    """Modules whose names the pickle refers to."""
    torch, utils = types.ModuleType("torch"), types.ModuleType("torch._utils")

    def _rebuild_tensor_v2(*_args):
        raise AssertionError("only its name is pickled")

    _rebuild_tensor_v2.__module__ = "torch._utils"
    _rebuild_tensor_v2.__qualname__ = "_rebuild_tensor_v2"
    utils._rebuild_tensor_v2 = _rebuild_tensor_v2
    torch._utils = utils
    for name in convert.STORAGES:
        setattr(torch, name, type(name, (), {"__module__": "torch"}))
    return {"torch": torch, "torch._utils": utils}


class Pickler(pickle.Pickler):
    def persistent_id(self, obj):
        if isinstance(obj, FakeStorage):
            kind = getattr(sys.modules["torch"], obj.kind)
            return ("storage", kind, obj.key, "cpu", 0)
        return None


def save(path, state, storages):
    """torch.save: data.pkl, and each storage a file."""
    modules = fake_torch()
    sys.modules.update(modules)
    try:
        text = io.BytesIO()
        Pickler(text, protocol=2).dump(state)
    finally:
        for name in modules:
            del sys.modules[name]
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", text.getvalue())
        for key, raw in storages.items():
            archive.writestr(f"archive/data/{key}", raw)


def read_safetensors(path):
    raw = Path(path).read_bytes()
    length = int.from_bytes(raw[:8], "little")
    header = json.loads(raw[8:8 + length])
    header.pop("__metadata__")
    data = raw[8 + length:]
    return {name: (t["dtype"], t["shape"],
                   data[slice(*t["data_offsets"])])
            for name, t in header.items()}


class Convert(unittest.TestCase):
    def setUp(self):
        self.dir = Path(tempfile.mkdtemp())
        self.addCleanup(shutil.rmtree, self.dir)

    def run_it(self):
        done = subprocess.run(
            [sys.executable, str(TOP / "sweeps/convert.py"), str(self.dir)],
            capture_output=True, text=True, check=False)
        return done.returncode, done.stdout + done.stderr

    def write(self, name="pytorch_model.bin", **more):
        values = np.arange(12, dtype="<f4")
        storage = FakeStorage("FloatStorage", "0")
        state = OrderedDict(
            whole=FakeTensor(storage, 0, (3, 4), (4, 1)),
            turned=FakeTensor(storage, 0, (4, 3), (1, 4)),
            row=FakeTensor(storage, 4, (4,), (1,)), **more)
        save(self.dir / name, state, {"0": values.tobytes()})
        return values.reshape(3, 4)

    def test_tensors_keep_their_values_whatever_their_strides(self):
        half = FakeTensor(FakeStorage("BFloat16Storage", "0"), 2, (2, 1),
                          (1, 1))
        want = self.write(half=half)
        self.assertEqual(self.run_it()[0], 0)
        got = read_safetensors(self.dir / "model.safetensors")
        self.assertEqual(got["whole"], ("F32", [3, 4], want.tobytes()))
        self.assertEqual(got["turned"],
                         ("F32", [4, 3], np.ascontiguousarray(want.T).tobytes()))
        self.assertEqual(got["row"], ("F32", [4], want[1].tobytes()))
        self.assertEqual(got["half"][2], want.tobytes()[4:8])

    def test_shards_get_an_index(self):
        self.write("pytorch_model-00001-of-00002.bin")
        save(self.dir / "pytorch_model-00002-of-00002.bin",
             {"other": FakeTensor(FakeStorage("HalfStorage", "7"), 0, (2,),
                                  (1,))}, {"7": b"abcd"})
        names = ["whole", "turned", "row"]
        index = {"weight_map": dict.fromkeys(
            names, "pytorch_model-00001-of-00002.bin")}
        index["weight_map"]["other"] = "pytorch_model-00002-of-00002.bin"
        (self.dir / "pytorch_model.bin.index.json").write_text(
            json.dumps(index))
        code, said = self.run_it()
        self.assertEqual(code, 0, said)
        made = json.loads(
            (self.dir / "model.safetensors.index.json").read_text())
        self.assertEqual(made["weight_map"]["other"],
                         "model-00002-of-00002.safetensors")
        self.assertEqual(made["metadata"]["total_size"], 3 * 12 * 4 - 28)
        got = read_safetensors(self.dir / "model-00002-of-00002.safetensors")
        self.assertEqual(got["other"], ("F16", [2], b"abcd"))

    def test_a_pickle_that_asks_for_more_is_not_run(self):
        flag = self.dir / "flag"

        class Evil:
            def __reduce__(self):
                return os.mkdir, (str(flag),)

        save(self.dir / "pytorch_model.bin", {"w": Evil()}, {})
        code, said = self.run_it()
        self.assertEqual(code, 1)
        self.assertIn("mkdir, which is no tensor; it was not run", said)
        self.assertFalse(flag.exists())
        self.assertFalse((self.dir / "model.safetensors").exists())

    def test_damage_is_named(self):
        code, said = self.run_it()
        self.assertEqual((code, "neither pytorch_model.bin" in said), (1, True))
        (self.dir / "pytorch_model.bin").write_bytes(b"\x80\x02old")
        code, said = self.run_it()
        self.assertEqual((code, "save it again" in said), (1, True), said)
        self.write(far=FakeTensor(FakeStorage("FloatStorage", "0"), 9, (4,),
                                  (1,)))
        code, said = self.run_it()
        self.assertEqual(code, 1)
        self.assertIn("tensor 'far' reaches beyond its storage", said)

    @unittest.skipUnless(PROGRAM, "needs the program")
    def test_the_program_says_where_to_go(self):
        shutil.copy(TOP / "sweeps/zoo/llama-25k/config.json", self.dir)
        self.write()
        done = subprocess.run([PROGRAM, "inspect", str(self.dir)],
                              capture_output=True, text=True, check=False)
        self.assertEqual(done.returncode, 1)
        self.assertIn("sweeps/convert.py", done.stderr)


if __name__ == "__main__":
    unittest.main()
