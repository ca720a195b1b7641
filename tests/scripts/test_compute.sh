#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-3.0-or-later
# compute: bf16: the same bytes on any number of ranks and in any batch, other
# numbers, keys and numerics than float32, near them; refusals.
. "$(dirname "$0")/common.sh"
make_study
bf16=(--set compute=bf16)

"$PTQSWEEP" run sweep.yaml -o f32.h5 --quiet
"$PTQSWEEP" run sweep.yaml -o bf16.h5 --quiet "${bf16[@]}"
export_all f32.h5 f32
export_all bf16.h5 bf16
! grep -q ',failed' bf16/points.csv || fail "a point failed"
for workers in 1 3; do
  mpi $((workers + 1)) "$PTQSWEEP" run sweep.yaml -o ranks.h5 --quiet \
    "${bf16[@]}"
  export_all ranks.h5 ranks
  same_exports bf16 ranks
  rm ranks.h5
  pass "$workers working ranks: the same bytes"
done
# One point a batch, and methods that multiply with weights on trial.
others=(--set 'grid.method=[awq, gptaq, {name: quarot, base: gptq}]'
  --set 'grid.dtype=[int4]' --set 'grid.group=[32]' "${bf16[@]}")
"$PTQSWEEP" run sweep.yaml -o others.h5 --quiet "${others[@]}"
export_all others.h5 others
! grep -q ',failed' others/points.csv || fail "a point failed"
for ((i = 0; i < 6; i++)); do
  row=$(sed -n $((i + 2))p others/points.csv)
  IFS=, read -r -a cells <<<"$row"
  one=(--set "models=[${cells[1]}]" "${others[@]}")
  method=${cells[4]}
  [ "$method" != quarot ] || method='{name: quarot, base: gptq}'
  one+=(--set "grid.method=[$method]")
  "$PTQSWEEP" run sweep.yaml -o one.h5 --quiet "${one[@]}"
  "$PTQSWEEP" export one.h5 --table points --stable -o one.csv
  [ "$(sed -n 2p one.csv)" = "$row" ] || fail "alone ${cells[1]} $method differs"
  rm one.h5
done
pass "each point alone: the same bytes"

"$PTQ_PYTHON" - <<'PY' || fail "what the tables say"
import csv
import math


def read(name):
    with open(name, newline="") as file:
        return list(csv.DictReader(file))


f32, bf16 = read("f32/points.csv"), read("bf16/points.csv")
assert len(f32) == len(bf16) > 60
moved = 0
for a, b in zip(f32, bf16):
    for column in ("model", "dtype", "method", "options", "group"):
        assert a[column] == b[column]
    assert a["compute"] == "f32" and b["compute"] == "bf16"
    assert ", bf16 " in b["numerics"] and "bf16" not in a["numerics"]
    assert a["key"] != b["key"]
    moved += a["nll"] != b["nll"]
    # A bfloat16 has 8 bits. Where codes depend on activations, other codes
    # can move the loss of models this small by some percent.
    near = 0.005 if a["method"] == "rtn" else 0.2
    assert math.isclose(float(a["nll"]), float(b["nll"]), rel_tol=near)
assert moved == len(f32)
# Rounding to nearest does not look at activations: its codes are the same.
layers = list(zip(read("f32/layers.csv"), read("bf16/layers.csv")))
rtn = [(a, b) for a, b in layers if a["method"] == "rtn"]
assert rtn and all(a["codes"] == b["codes"] for a, b in rtn)
gptq = [(a, b) for a, b in layers if a["method"] == "gptq"]
assert any(a["codes"] != b["codes"] for a, b in gptq)
models = list(zip(read("f32/models.csv"), read("bf16/models.csv")))
assert all(b["compute"] == "bf16" and a["nll"] != b["nll"] for a, b in models)
PY
pass "columns, keys, numbers"

expect 0 "3 points recomputed .*, 0 differ" \
  "$PTQSWEEP" verify bf16.h5 --recompute 3
expect 0 "0 of [0-9]+ points to do" "$PTQSWEEP" run sweep.yaml -o bf16.h5 \
  "${bf16[@]}"
expect 1 "give the same 'compute'" "$PTQSWEEP" run sweep.yaml -o bf16.h5
expect 1 "give the same 'compute'" \
  "$PTQSWEEP" run sweep.yaml -o bf16.h5 --extend
expect 1 "compute must be 'f32' or 'bf16', got 'fp16'" \
  "$PTQSWEEP" run sweep.yaml -o none.h5 --set compute=fp16
PTQSWEEP_BREAK_BF16=1 expect 1 "bf16 packed .* ONEDNN_MAX_CPU_ISA" \
  "$PTQSWEEP" run sweep.yaml -o none.h5 "${bf16[@]}"
[ ! -e none.h5 ] || fail "a store in spite of a wrong product"

# Both arithmetics in one store.
"$PTQSWEEP" merge both.h5 f32.h5 bf16.h5 >/dev/null
"$PTQSWEEP" export both.h5 --table points --stable -o both.csv
[ "$(wc -l <both.csv)" = $((2 * $(wc -l <f32/points.csv) - 1)) ] ||
  fail "merge lost rows"
pass "merged"

expect 0 "compute bf16: multiplied here by" \
  "$PTQSWEEP" plan sweep.yaml "${bf16[@]}"
expect 0 "bf16 is multiplied here by" \
  "$PTQSWEEP" inspect llama-25k --compute bf16
expect 2 "f32 or bf16" "$PTQSWEEP" inspect llama-25k --compute f16
expect 0 "^bf16 " "$PTQSWEEP" list compute

# A CPU without the instructions: the same definition, other last bits.
export ONEDNN_MAX_CPU_ISA=AVX512_CORE
expect 0 "no faster than f32" "$PTQSWEEP" plan sweep.yaml "${bf16[@]}"
"$PTQSWEEP" run sweep.yaml -o slow.h5 --quiet "${bf16[@]}"
"$PTQSWEEP" export slow.h5 --table points --stable -o slow.csv
grep -q ', bf16 openblas' slow.csv || fail "numerics of rounded numbers"
"$PTQ_PYTHON" - <<'PY' || fail "OpenBLAS and oneDNN disagree"
import csv
a, b, c = ([float(r["nll"]) for r in csv.DictReader(open(name, newline=""))]
           for name in ("bf16/points.csv", "slow.csv", "f32/points.csv"))
off = sorted(abs(x / y - 1) for x, y in zip(a, b))
size = sorted(abs(x / z - 1) for x, z in zip(a, c))
# Sums in another order move a float32 by some 1e-7, which now and then makes a
# rounding to bfloat16 fall the other way. Measured: 6e-10 in the median and
# 5e-6 at most, and 3e-4 between bf16 and float32.
assert off[len(off) // 2] < 1e-6 < 1e-4 < size[len(size) // 2], (off, size)
assert off[-1] < 1e-3
PY
pass "OpenBLAS multiplies where oneDNN may not"
