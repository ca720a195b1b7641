#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-3.0-or-later
# Directions of a landscape that fail are data: said by run and status with the
# reason, an exit status of their own also when there is nothing left to do,
# tried again when asked, and in no picture's way.
. "$(dirname "$0")/common.sh"
make_study
mkdir loud # a head so large that losses are finite and derivatives are not
for file in llama-25k/*; do ln -s "../$file" "loud/${file##*/}"; done
rm loud/model.safetensors
"$PTQ_PYTHON" - <<'PY'
import json, struct
data = bytearray(open("llama-25k/model.safetensors", "rb").read())
size = struct.unpack("<Q", data[:8])[0]
begin, end = json.loads(data[8:8 + size])["lm_head.weight"]["data_offsets"]
for at in range(8 + size + begin, 8 + size + end, 2):
    value = struct.unpack("<f", b"\0\0" + data[at:at + 2])[0] * 1e36
    data[at:at + 2] = struct.pack("<f", value)[2:]
open("loud/model.safetensors", "wb").write(data)
PY
sed -i -e 's/models:.*/models: [loud, opt-25k]/' -e '/requests:/d' \
  -e '/^    - /d' -e 's/method:.*/method: [rtn]/' -e 's/group: .*/group: [32]/' \
  -e 's/dtype:.*/dtype: [int4]/' \
  -e 's/^measure.*/measure: {spectra: off, landscape: {mode: full, directions: 1, radii: 4, probes: 2, lanczos: 3, starts: 1, random: ["gaussian:row"]}}/' \
  sweep.yaml
tokens sweep.yaml

expect 3 'directions of a landscape failed; `ptqsweep status` says why' \
  mpi 2 "$PTQSWEEP" run sweep.yaml -o failed.h5
failed=$("$PTQSWEEP" export failed.h5 --table directions --stable |
  grep -c ',failed$')
[ "$failed" -ge 1 ] || fail "no direction failed"
expect 0 'loud hessian .*: .*not finite.*attempts 1, key' \
  "$PTQSWEEP" status failed.h5
"$PTQSWEEP" status failed.h5 --json | "$PTQ_PYTHON" -c '
import json, sys
failed = json.load(sys.stdin)["failed_items"]
assert len(failed) == int(sys.argv[1]), failed
assert all(f["model"] == "loud" and f["message"] and f["key"] for f in failed)
' "$failed" || fail "status --json"
expect 3 "$failed failed models or directions of a landscape are left alone; --retry-failed" \
  "$PTQSWEEP" run sweep.yaml -o failed.h5
expect 3 'status` says why' "$PTQSWEEP" run sweep.yaml -o failed.h5 --retry-failed
expect 0 'attempts 2, key' "$PTQSWEEP" status failed.h5
"$PTQSWEEP" export failed.h5 --table directions -f jsonl | grep loud |
  grep -q '"state": *"failed".*not finite' || fail "no message in the export"
pass "failed directions are told"

# The other family's profiles are drawn.
"$PTQSWEEP" report failed.h5 -o page >report.out 2>&1 || fail "report"
! grep -q 'not drawn' report.out || { cat report.out >&2; fail "a picture"; }
grep -q opt page/profiles.svg || fail "no panel of the other family"
pass "pictures of what there is"
