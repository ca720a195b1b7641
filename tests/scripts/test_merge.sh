#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-3.0-or-later
# Joining stores: equal rows are equal bit by bit, rows of other numerics agree
# within a tolerance, and where not is said.
. "$(dirname "$0")/common.sh"
make_study
run() { "$PTQSWEEP" run "$@" --quiet; }
run sweep.yaml -o whole.h5
export_all whole.h5 whole

# Two stores that overlap, one of them unfinished.
sed 's/dtype:.*/dtype: [mxint3, int4]/' sweep.yaml >a.yaml
sed 's/dtype:.*/dtype: [int4, "int3:asym"]/' sweep.yaml >b.yaml
run a.yaml -o a.h5
run b.yaml -o b.h5
expect 0 "72 points of 2 stores, 72 finished.* 26 rows equal" \
  "$PTQSWEEP" merge ab.h5 a.h5 b.h5
"$PTQSWEEP" verify ab.h5
# The same rows in another order; layers and windows number their points.
export_all ab.h5 ab
for table in points models; do
  cmp <(sort whole/$table.csv) <(sort ab/$table.csv) || fail "$table"
done
cmp whole/spectra.csv ab/spectra.csv || fail spectra
expect 0 "0 of 72 points to do" "$PTQSWEEP" run sweep.yaml -o ab.h5 --extend
export_all ab.h5 again
same_exports whole again
expect 1 "is there already" "$PTQSWEEP" merge ab.h5 a.h5 b.h5
expect 1 "none.h5" "$PTQSWEEP" merge x.h5 a.h5 none.h5
expect 2 "missing arguments" "$PTQSWEEP" merge x.h5
expect 2 "tolerance" "$PTQSWEEP" merge x.h5 a.h5 --tolerance -1

# Unfinished and finished: the finished row counts, whatever the order.
"$PTQSWEEP" run b.yaml -o part.h5 --quiet --time-limit 0.001 || true
expect 0 "36 rows? equal|48 points of 2 stores, 48 finished" \
  "$PTQSWEEP" merge p.h5 part.h5 b.h5
export_all p.h5 p && export_all b.h5 b
same_exports p b

# Damaged rows are told, the others kept; another store's sound row counts.
cp b.h5 bad.h5
"$PTQSWEEP" export b.h5 --table points --format jsonl >points.jsonl
"$PTQ_PYTHON" - <<'PY'
import json, struct
data = bytearray(open("bad.h5", "rb").read())
for line in open("points.jsonl").read().splitlines()[-2:]:
    row = json.loads(line)
    name = struct.pack("<d", row["nll"])
    at = data.index(name)
    while at >= 0:  # the number may stand in other tables too
        data[at] ^= 1
        at = data.find(name, at + 8)
open("bad.h5", "wb").write(data)
PY
expect 1 "" "$PTQSWEEP" verify bad.h5
expect 0 "bad.h5': 2 points, 0 models .* and 0 directions are damaged.*first: point 46: checksum .*verify bad.h5" \
  "$PTQSWEEP" merge d.h5 bad.h5 a.h5
grep -q "72 points of 2 stores, 70 finished" expect.out || fail "not 70 are left"
"$PTQSWEEP" verify d.h5
expect 0 "48 points of 2 stores, 48 finished" "$PTQSWEEP" merge d2.h5 bad.h5 b.h5
export_all d2.h5 d2 && same_exports d2 b
"$PTQSWEEP" merge d3.h5 a.h5 b.h5 >sound.out 2>&1
! grep -q damaged sound.out || fail "sound rows are damaged"

# Other numerics: the same within a tolerance, or listed.
if PTQ_ISA=generic "$PTQSWEEP" run b.yaml -o g.h5 --quiet 2>/dev/null; then
  expect 0 "[1-9][0-9]* of other numerics within 0.05, 0 disagree" \
    "$PTQSWEEP" merge g2.h5 b.h5 g.h5 --tolerance 0.05
  "$PTQSWEEP" verify g2.h5
  "$PTQSWEEP" merge g3.h5 b.h5 g.h5 --tolerance 0 >zero.out 2>&1 && fail "bits of two CPUs agree"
  grep -q 'disagree: point .* is .* and .* in .b.h5. and .g.h5.' zero.out || fail "not said where"
  [ ! -e g3.h5 ] || fail "written all the same"
  expect 0 "[1-9][0-9]* disagree .the first" "$PTQSWEEP" merge g3.h5 b.h5 g.h5 \
    --tolerance 0 --keep-first
  export_all g3.h5 g3
  same_exports g3 b
fi

# Texts of one name with other bytes cannot stand in one store.
echo "More." >>eval.txt
tokens b.yaml
run b.yaml -o other.h5
expect 1 "texts of one name have other bytes" "$PTQSWEEP" merge x.h5 b.h5 other.h5
[ ! -e x.h5 ] && [ ! -e x.h5.lock ] || fail "something was left behind"
