#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-3.0-or-later
# verify finds one flipped bit anywhere in a finished row, and --recompute a
# wrong number whose checksum is right; the store says where it comes from.
. "$(dirname "$0")/common.sh"
make_study
"$PTQSWEEP" run sweep.yaml -o s.h5 --quiet --durable \
  --set 'grid.group=[32]' --set 'grid.dtype=[int4, "int3:asym"]'
expect 0 "3 points recomputed .*, 0 differ" "$PTQSWEEP" verify s.h5 --recompute 3
expect 0 "16 points recomputed .*, 0 differ" "$PTQSWEEP" verify s.h5 --recompute 99
expect 2 "recompute 0" "$PTQSWEEP" verify s.h5 --recompute 0
expect 2 "not a whole number" "$PTQSWEEP" verify s.h5 --recompute all
cp sweep.yaml elsewhere.yaml
mv sweep.yaml moved.yaml
expect 1 "sweep.yaml" "$PTQSWEEP" verify s.h5 --recompute 1
expect 0 "1 points recomputed" "$PTQSWEEP" verify s.h5 --recompute 1 --spec moved.yaml
mv moved.yaml sweep.yaml
sed 's/windows: 3,/windows: 2,/' sweep.yaml >changed.yaml
expect 1 "has changed" "$PTQSWEEP" verify s.h5 --recompute 1 --spec changed.yaml
PTQ_ISA=generic expect 1 "numerics.*PTQ_ISA" "$PTQSWEEP" verify s.h5 --recompute 1

# A wrong number under a right checksum. The CRC of a point covers its index
# (8 bytes), its state and its rows in points, layers, windows and answers.
cp s.h5 wrong.h5
"$PTQ_PYTHON" - <<'PY'
import struct, zlib
data = bytearray(open("wrong.h5", "rb").read())
def crc(*parts):
    c = 0
    for p in parts:
        c = zlib.crc32(p, c)
    return c or 0xffffffff
# Find the tables by content: the first point's key starts /points.
import subprocess, os, json
program = os.environ["PTQSWEEP"]
def rows(table):
    out = subprocess.run([program, "export", "wrong.h5", "--table", table,
                          "--format", "jsonl"], capture_output=True, check=True)
    return [json.loads(line) for line in out.stdout.splitlines()]
points, layers, windows = rows("points"), rows("layers"), rows("windows")
answers = [a for a in rows("answers") if a["key"] == points[0]["key"]]
at = data.find(points[0]["key"].encode())
size = data.find(points[1]["key"].encode()) - at
first = [l["layer"] for l in layers if l["key"] == points[0]["key"]]
n_windows = sum(w["key"] == points[0]["key"] for w in windows)
layer_at, second = (data.find(struct.pack("<q", 0) + name.encode() + b"\0")
                    for name in first[:2])
layer_size = second - layer_at
window_at = data.find(struct.pack("<qqd", 0, 0, next(
    w["nll"] for w in windows if w["key"] == points[0]["key"])))
a = answers[0]
answer_at = data.find(struct.pack(
    "<6q2d", 0, 0, a["choice"], a["choice_norm"], a["choice_byte"],
    a["choice_token"], a["logp"], a["margin"]))
assert min(at, layer_at, window_at, answer_at) > 0
def sum_of(d):
    return crc(struct.pack("<q", 0), b"\2", d[at:at + size],
               d[layer_at:layer_at + len(first) * layer_size],
               d[window_at:window_at + n_windows * 40],
               d[answer_at:answer_at + len(answers) * 64])
old = struct.pack("<I", sum_of(data))
assert data.count(old) == 1, data.count(old)
where = data.find(old)
nll = data.find(struct.pack("<d", points[0]["nll"]), at, at + size)
data[nll] ^= 1
data[where:where + 4] = struct.pack("<I", sum_of(data))
open("wrong.h5", "wb").write(data)
PY
"$PTQSWEEP" verify wrong.h5 || fail "the checksum should be right"
expect 1 "wrong: point llama-25k .* nll is .* recomputed" \
  "$PTQSWEEP" verify wrong.h5 --recompute 99
grep -q "16 points recomputed .*, 1 differ" expect.out || fail "not one"

# One flipped bit, anywhere in the rows of finished points.
"$PTQ_PYTHON" - <<'PY'
import json, os, random, subprocess
program, rng = os.environ["PTQSWEEP"], random.Random(5)
data = open("s.h5", "rb").read()
line = subprocess.run([program, "export", "s.h5", "--table", "points", "--format",
                       "jsonl"], capture_output=True, check=True).stdout.splitlines()
keys = [json.loads(l)["key"].encode() for l in line]
begin = data.find(keys[0])
end = data.find(keys[-1]) + (data.find(keys[1]) - begin)
for i in range(24):
    at, bit = rng.randrange(begin, end), rng.randrange(8)
    bad = bytearray(data)
    bad[at] ^= 1 << bit
    open("flip.h5", "wb").write(bad)
    got = subprocess.run([program, "verify", "flip.h5"], capture_output=True)
    assert got.returncode == 1 and b", 1 bad" in got.stdout, (at, bit, got.stdout)
PY
pass "24 flipped bits found"

# Where the store comes from.
"$PTQ_PYTHON" - <<'PY' || fail "provenance"
data = open("s.h5", "rb").read()
for text in (b"ptqsweep run sweep.yaml -o s.h5 --quiet --durable --set "
             b"'grid.group=[32]'", b"openblas", b"HDF5 1.", b"Open MPI",
             b"/sweep.yaml", b"# --set grid.group=[32]", b"ptqsweep 0."):
    assert text in data, text
PY
PTQSWEEP_BREAK_BLAS=1 expect 1 "sgemm nt .* OPENBLAS_CORETYPE" \
  "$PTQSWEEP" run sweep.yaml -o b.h5
[ ! -e b.h5 ] || fail "a store in spite of a wrong BLAS"
