#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-3.0-or-later
"""Write a checkpoint's pytorch_model.bin as model.safetensors.

  convert.py DIR [--quiet]

DIR is a Hugging Face directory with pytorch_model.bin, or with
pytorch_model.bin.index.json and its shards. The same tensors, bytes and
shards are written beside them as safetensors; the originals stay.

Only the tensors are read: the pickle inside is not run, and one that asks for
anything but tensors is refused. Files in the format of torch before 1.6 must
be saved again by torch. Needs numpy, no torch.
"""
import argparse
import collections
import json
import os
import pickle
import sys
import zipfile

# torch's storage class: (safetensors' dtype, bytes an element)
STORAGES = {
    "DoubleStorage": ("F64", 8), "FloatStorage": ("F32", 4),
    "HalfStorage": ("F16", 2), "BFloat16Storage": ("BF16", 2),
    "LongStorage": ("I64", 8), "IntStorage": ("I32", 4),
    "ShortStorage": ("I16", 2), "CharStorage": ("I8", 1),
    "ByteStorage": ("U8", 1), "BoolStorage": ("BOOL", 1),
}
BIN, SAFE = "pytorch_model", "model"


class ConvertError(Exception):
    """A failure with a message for the user."""


Storage = collections.namedtuple("Storage", "dtype size key")
Tensor = collections.namedtuple("Tensor", "storage offset shape strides")


def rebuild_tensor(storage, offset, shape, strides, *_):
    """torch._utils._rebuild_tensor_v2, without torch."""
    return Tensor(storage, offset, tuple(shape), tuple(strides))


def rebuild_parameter(data, *_):
    """torch._utils._rebuild_parameter."""
    return data


class TensorsOnly(pickle.Unpickler):
    """Reads what torch.save writes of a state dict, and nothing else."""

    def find_class(self, module, name):
        known = {("collections", "OrderedDict"): collections.OrderedDict,
                 ("torch._utils", "_rebuild_tensor_v2"): rebuild_tensor,
                 ("torch._utils", "_rebuild_parameter"): rebuild_parameter}
        if (module, name) in known:
            return known[module, name]
        if module == "torch" and name in STORAGES:
            return name
        raise ConvertError(f"its pickle asks for {module}.{name}, which is no "
                           "tensor; it was not run")

    def persistent_load(self, pid):
        kind, storage, key = pid[:3]
        if kind != "storage" or storage not in STORAGES:
            raise ConvertError(f"its pickle refers to {pid[:2]}")
        return Storage(*STORAGES[storage], key)


def tensors_of(archive):
    """{name: Tensor} of an open zip file, and the folder of its storages."""
    pickles = [n for n in archive.namelist() if n.endswith("/data.pkl")]
    if len(pickles) != 1:
        raise ConvertError("it holds no data.pkl: not a file of torch.save")
    with archive.open(pickles[0]) as file:
        state = TensorsOnly(file).load()
    if isinstance(state, dict) and isinstance(state.get("state_dict"), dict):
        state = state["state_dict"]
    if not isinstance(state, dict):
        raise ConvertError("it does not hold a dictionary of tensors")
    for name, tensor in state.items():
        if not isinstance(tensor, Tensor):
            raise ConvertError(f"'{name}' is not a tensor")
    return state, pickles[0][:-len("data.pkl")] + "data/"


def bytes_of(archive, folder, name, tensor):
    """The tensor's elements in row-major order."""
    import numpy as np
    size = tensor.storage.size
    raw = archive.read(folder + str(tensor.storage.key))
    flat = np.frombuffer(raw, dtype=f"V{size}")
    last = tensor.offset + sum(
        (n - 1) * s for n, s in zip(tensor.shape, tensor.strides))
    if 0 in tensor.shape:
        return b""
    if min((tensor.offset, *tensor.strides), default=0) < 0 or last >= len(flat):
        raise ConvertError(f"tensor '{name}' reaches beyond its storage")
    view = np.lib.stride_tricks.as_strided(
        flat[tensor.offset:], tensor.shape,
        [s * size for s in tensor.strides], writeable=False)
    return np.ascontiguousarray(view).tobytes()


def convert_file(source, target):
    """One file; returns its tensors' names and their bytes."""
    try:
        archive = zipfile.ZipFile(source)
    except zipfile.BadZipFile as error:
        raise ConvertError(
            f"'{source}' is not in the format of torch 1.6 and later ({error});"
            " save it again: torch.save(torch.load(f, weights_only=True), f)"
            ) from error
    with archive:
        try:
            state, folder = tensors_of(archive)
            header, at = {"__metadata__": {"format": "pt"}}, 0
            for name, tensor in state.items():
                size = tensor.storage.size
                for n in tensor.shape:
                    size *= n
                header[name] = {"dtype": tensor.storage.dtype,
                                "shape": list(tensor.shape),
                                "data_offsets": [at, at + size]}
                at += size
            text = json.dumps(header, separators=(",", ":")).encode()
            text += b" " * (-len(text) % 8)
            with open(target + ".part", "wb") as file:
                file.write(len(text).to_bytes(8, "little") + text)
                for name, tensor in state.items():
                    file.write(bytes_of(archive, folder, name, tensor))
        except (ConvertError, pickle.UnpicklingError, KeyError, EOFError,
                AttributeError, TypeError, ValueError) as error:
            raise ConvertError(f"'{source}': {error}") from error
    os.replace(target + ".part", target)
    return list(state), at


def convert(directory):
    """All shards, and their index; returns a sentence."""
    single = os.path.join(directory, BIN + ".bin")
    index = single + ".index.json"
    if os.path.exists(single):
        target = os.path.join(directory, SAFE + ".safetensors")
        names, size = convert_file(single, target)
        return f"{target}: {len(names)} tensors, {size} bytes"
    if not os.path.exists(index):
        raise ConvertError(f"'{directory}' has neither {BIN}.bin nor its index")
    with open(index, encoding="utf-8") as file:
        shards = sorted(set(json.load(file)["weight_map"].values()))
    weight_map, total = {}, 0
    for shard in shards:
        if os.path.basename(shard) != shard:
            raise ConvertError(f"'{index}': '{shard}' is not a file here")
        safe = shard.replace(BIN, SAFE).removesuffix(".bin") + ".safetensors"
        names, size = convert_file(os.path.join(directory, shard),
                                   os.path.join(directory, safe))
        weight_map |= dict.fromkeys(names, safe)
        total += size
    target = os.path.join(directory, SAFE + ".safetensors.index.json")
    with open(target, "w", encoding="utf-8") as file:
        json.dump({"metadata": {"total_size": total},
                   "weight_map": weight_map}, file, indent=1)
        file.write("\n")
    return f"{target}: {len(weight_map)} tensors in {len(shards)} files"


def main(argv=None):
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("directory", metavar="DIR")
    parser.add_argument("--quiet", action="store_true")
    args = parser.parse_args(argv)
    try:
        said = convert(args.directory)
    except ConvertError as error:
        print(f"convert.py: {error}", file=sys.stderr)
        return 1
    except OSError as error:
        print(f"convert.py: '{error.filename or args.directory}': "
              f"{error.strerror}", file=sys.stderr)
        return 1
    if not args.quiet:
        print(said)
    return 0


if __name__ == "__main__":
    sys.exit(main())
