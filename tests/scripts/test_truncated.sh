#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-3.0-or-later
# A checkpoint that is cut short while a sweep reads it: its points fail with
# the tensor's name, the other model's are done, and when it is whole again
# the same command line gives the bytes of an undisturbed sweep.
. "$(dirname "$0")/common.sh"
make_texts
cp -r "$PTQ_SOURCE_DIR/sweeps/zoo/llama-1m" cut
cp -r "$PTQ_SOURCE_DIR/sweeps/zoo/opt-25k" other
cat >sweep.yaml <<'YAML'
name: cut
models: [cut, other]
data:
  calibration: {text: calib.txt, windows: 8, length: 128}
  evaluation: {text: eval.txt, windows: 8, length: 128}
grid: {dtype: [int3, int4], method: [rtn, gptq], group: [16, 32, row]}
measure: {spectra: "off"}
YAML
tokens sweep.yaml
whole=cut/model.safetensors
cp "$whole" saved

done_of_cut() {
  "$PTQSWEEP" export s.h5 --table points 2>/dev/null | grep -c '^[^,]*,cut,.*,done,' || true
}

for try in 1 2 3 4 5; do
  rm -f s.h5
  cp saved "$whole"
  status=0
  mpi 3 "$PTQSWEEP" run sweep.yaml -o s.h5 >run.out 2>&1 &
  job=$!
  while kill -0 $job 2>/dev/null && [ "$(done_of_cut)" = 0 ]; do sleep 0.05; done
  truncate -s 400000 "$whole"
  wait $job || status=$?
  n=$(done_of_cut)
  [ "$status" = 0 ] || break
  echo "the sweep was over before its model was cut; once more"
done
[ "$status" = 3 ] || { cat run.out >&2; fail "exit $status, expected 3"; }
[ "$n" -gt 0 ] && [ "$n" -lt 12 ] || fail "$n of 12 points are done"
pass "$n of 12 points before the cut, exit 3"
expect 0 "tensor 'model\.[a-z0-9_.]*'.*truncated" "$PTQSWEEP" status s.h5
expect 0 "0 bad" "$PTQSWEEP" verify s.h5
[ "$("$PTQSWEEP" export s.h5 --table points | grep -c ',other,.*,done,')" = 12 ] ||
  fail "the other model's points are not done"

cp saved "$whole"
"$PTQSWEEP" run sweep.yaml -o s.h5 --retry-failed --quiet
"$PTQSWEEP" run sweep.yaml -o alone.h5 --quiet
export_all s.h5 s
export_all alone.h5 alone
same_exports s alone
pass "the same bytes as without the cut"
