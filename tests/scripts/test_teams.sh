#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-3.0-or-later
# Teams of ranks: several ranks a point give the bytes of one, for any number
# of ranks, threads and windows; what fails, dies or goes on does so for all.
. "$(dirname "$0")/common.sh"
make_study

# Odd numbers of windows, and fewer selection windows than ranks.
cat >many.yaml <<'YAML'
name: many
models: [llama-25k, opt-25k]
data:
  calibration: {text: calib.txt, windows: 7, length: 64, seed: 1}
  selection: {text: select.txt, windows: 2, length: 64}
  evaluation: {text: eval.txt, windows: 5, length: 64}
  requests: {file: asked.jsonl, limit: 21}
grid:
  dtype: ["int3:asym"]
  method:
    - rtn
    - {name: rtn, scales: mse}
    - gptq
    - {name: gptq, hessian: static, act_order: true, static_groups: true}
    - {name: gptq, true_sequential: true}
    - {name: gptq, damp: search}
    - awq
    - gptaq
    - descent
    - quip
    - quarot
    - hqq
    - {name: lqer, rank: 4}
    - {name: eora, rank: 4, base: gptq, damp: search}
    - {name: rht, base: descent}
    - {name: quarot, hadamard_inputs: true}
  group: [32]
measure: {spectra: full}
YAML
tokens many.yaml

quietly() { "$@" 2>quiet.log || { cat quiet.log >&2; fail "exit $?: $*"; }; }
# team RANKS STORE OPTION...: rank 0 and one team.
team() {
  local ranks=$1 store=$2; shift 2
  quietly mpi $((ranks + 1)) "$PTQSWEEP" run "${spec:-many.yaml}" -o "$store" \
    --ranks-per-point "$ranks" --quiet "$@"
}

quietly "$PTQSWEEP" run many.yaml -o alone.h5 --quiet
export_all alone.h5 alone
! grep -q ',failed' alone/points.csv || fail "a point failed"
[ "$(wc -l <alone/points.csv)" = 33 ] || fail "not 32 points"
mkdir files
for ranks in 2 3; do
  for threads in 1 2; do
    options=(--threads "$threads")
    [ "$threads" = 1 ] || options+=(--scratch files)
    team "$ranks" team.h5 "${options[@]}"
    export_all team.h5 team
    same_exports alone team
    rm team.h5
    pass "teams of $ranks ranks of $threads threads: the same bytes"
  done
done

# A mixture of experts; windows of fewer rows than inputs are wide.
cat >experts.yaml <<'YAML'
name: experts
models: [mixture]
data:
  calibration: {text: calib.txt, windows: 3, length: 16, seed: 1}
  selection: {text: select.txt, windows: 5, length: 64}
  evaluation: {text: eval.txt, windows: 2, length: 64}
grid:
  dtype: [int4]
  method: [gptq, gptaq, awq, {name: gptq, hessian: static, damp: search}]
  group: [16]
measure: {spectra: full}
YAML
"$PTQ_PYTHON" "$PTQ_SOURCE_DIR/tests/bench/random_llama.py" mixture \
  --width 32 --inner 48 --heads 2 --blocks 2 --vocab 1024 --experts 8 \
  --tokenizer llama-25k
tokens experts.yaml
quietly "$PTQSWEEP" run experts.yaml -o experts.h5 --quiet
export_all experts.h5 experts
spec=experts.yaml team 3 team.h5
export_all team.h5 team
same_exports experts team
rm team.h5
pass "experts on a team of 3: the same bytes"

# What one team left, another goes on with.
team 2 team.h5 --set 'grid.method=[rtn, gptq]'
team 3 team.h5 --extend
export_all team.h5 team
same_exports alone team
rm team.h5
pass "a team's store goes on with another team: the same bytes"

# Two teams, a rank without one; the sweep file says how many.
expect 0 "2 teams of 2 ranks a point; without a full team, and idle: rank 5" \
  mpi 6 "$PTQSWEEP" run many.yaml -o team.h5 --set run.ranks_per_point=2
export_all team.h5 team
same_exports alone team
rm team.h5
expect 0 "no host has more than 1 working rank, so" \
  mpi 2 "$PTQSWEEP" run sweep.yaml -o team.h5 --ranks-per-point 2 \
  --set grid.dtype='[int4]' --set grid.method='[rtn]'
rm team.h5
expect 2 "--ranks-per-point: 1 to 64, got 0" \
  "$PTQSWEEP" run many.yaml -o team.h5 --ranks-per-point 0
expect 1 "'ranks_per_point' must be 1 to 64, got 65" \
  "$PTQSWEEP" run many.yaml -o team.h5 --set run.ranks_per_point=65
expect 0 "of a team of 2 ranks at .*on 5 ranks" \
  "$PTQSWEEP" plan many.yaml --ranks 5 --ranks-per-point 2

# Points that fail on one rank's rows: the same message, the others go on.
cp -rL "$PTQ_SOURCE_DIR/sweeps/zoo/llama-25k" hot
chmod -R u+w hot
"$PTQ_PYTHON" - <<'PY'
# In block 1 row 70 of up_proj spans more than float32's range; the norm before
# it and gate_proj keep that from reaching anything.
import json, pathlib, struct
path = pathlib.Path("hot/model.safetensors")
data = bytearray(path.read_bytes())
n = struct.unpack("<Q", data[:8])[0]
header = json.loads(data[8:8 + n])
def put(name, element, words):
    at = 8 + n + header[f"model.layers.1.{name}.weight"]["data_offsets"][0]
    at += 2 * element
    data[at:at + 2 * len(words)] = struct.pack(f"<{len(words)}H", *words)
put("mlp.up_proj", 70 * 32, (0x7f16, 0xff16))
put("mlp.gate_proj", 70 * 32, (0,) * 32)
put("post_attention_layernorm", 0, (0x3c23, 0x3c23))
path.write_bytes(data)
PY
sed 's/^models:.*/models: [hot]/' many.yaml >hot.yaml
tokens hot.yaml
some=(--set 'grid.dtype=[nf4, int4]' --set 'grid.method=[rtn, gptq]')
expect 3 "" "$PTQSWEEP" run hot.yaml -o alone-hot.h5 --quiet "${some[@]}"
expect 3 "" mpi 3 "$PTQSWEEP" run hot.yaml -o hot.h5 --quiet \
  --ranks-per-point 2 "${some[@]}"
export_all alone-hot.h5 alone-hot
export_all hot.h5 hot-team
same_exports alone-hot hot-team
for store in alone-hot hot; do
  "$PTQSWEEP" status $store.h5 | grep 'group 32:' >$store.failed
  [ "$(wc -l <$store.failed)" = 2 ] || fail "not 2 of 4 points failed"
done
cmp alone-hot.failed hot.failed || fail "the team tells another failure"
pass "a failing point of a team: the same message, the others go on"

# An allocation fails on one rank of a team: nobody waits for it.
one=(--set 'models=[llama-25k]' --set 'grid.method=[gptq]')
quietly "$PTQSWEEP" run many.yaml -o alone-one.h5 --quiet "${one[@]}"
export_all alone-one.h5 alone-one
failed=0
for nth in ${PTQ_TEAM_FAULTS:-470 540 610 680 750 820}; do
  for who in 1 2; do
    before=$([ $who = 1 ] && echo 1 || echo 2)
    rm -f fault.h5
    args=("$PTQSWEEP" run many.yaml -o fault.h5 --quiet --ranks-per-point 2
      "${one[@]}")
    after=()
    [ $who = 2 ] || after=(: -n 1 "${args[@]}")
    got=0
    mpi "$before" "${args[@]}" : -n 1 env PTQ_FAIL_NTH="$nth" "${args[@]}" \
      ${after[@]+"${after[@]}"} >fault.log 2>&1 </dev/null || got=$?
    [ $got != 0 ] && failed=$((failed + 1))
    [ $got -lt 124 ] || fail "fault $nth on rank $who: exit $got"
    [ -e fault.h5 ] || continue
    quietly "$PTQSWEEP" run many.yaml -o fault.h5 --quiet --retry-failed \
      "${one[@]}"
    export_all fault.h5 fault
    same_exports alone-one fault
  done
done
[ $failed -gt 5 ] || fail "only $failed faults were felt"
pass "$failed faults on one rank of a team end for both"

# A rank of a team is killed. With another team the run goes on, without it
# ends; nobody hangs, and the store goes on to the same bytes.
cat >long.yaml <<'YAML'
name: long
models: [llama-25k]
data:
  calibration: {text: calib.txt, windows: 8, length: 64, seed: 1}
  selection: {text: select.txt, windows: 4, length: 64}
  evaluation: {text: eval.txt, windows: 60, length: 64}
grid:
  dtype: [int4, int3, mxint4, mxint3, nf4, nvfp4]
  method: [rtn, gptq, {name: gptq, hessian: static}, descent]
  group: [16, 32]
measure: {spectra: off}
YAML
tokens long.yaml
quietly "$PTQSWEEP" run long.yaml -o long.h5 --quiet
export_all long.h5 long
# The process of a rank of the run that is under way.
process_of() {
  local path
  for path in /proc/[0-9]*/environ; do
    tr '\0' '\n' <"$path" 2>/dev/null |
      grep -qx "OMPI_COMM_WORLD_RANK=$1" || continue
    path=${path%/environ}
    [ "$path/cwd" -ef . ] && [ "$path/exe" -ef "$PTQSWEEP" ] &&
      { echo "${path#/proc/}"; return; }
  done
}
# killed RANKS VICTIM: kills it once a point is done.
killed() {
  local launcher victim began=$SECONDS
  rm -f killed.h5
  MPI_RECOVERY=1 mpi "$1" "$PTQSWEEP" run long.yaml -o killed.h5 \
    --ranks-per-point 2 --quiet >killed.log 2>&1 &
  launcher=$!
  until "$PTQSWEEP" status killed.h5 2>/dev/null | grep -qE ': [1-9][0-9]* done'
  do
    kill -0 $launcher 2>/dev/null || { cat killed.log; fail "the run ended"; }
    sleep 0.05
  done
  victim=$(process_of "$2")
  [ -n "$victim" ] || fail "no rank $2"
  kill -KILL "$victim"
  while kill -0 $launcher 2>/dev/null && [ $((SECONDS - began)) -lt 150 ]; do
    sleep 0.1
  done
  ! kill -0 $launcher 2>/dev/null || { cat killed.log; fail "a run hangs"; }
  wait $launcher || true
}
for victim in 1 2; do
  killed 5 $victim
  grep -q "rank $victim .*died" killed.log || { cat killed.log; fail "who died?"; }
  "$PTQSWEEP" status killed.h5 | grep -q ': 48 done' ||
    { cat killed.log; fail "the other team did not do the rest"; }
  export_all killed.h5 killed
  same_exports long killed
  killed 3 $victim
  grep -q "every team has lost a rank" killed.log ||
    { cat killed.log; fail "a run without a team did not end"; }
  quietly "$PTQSWEEP" run long.yaml -o killed.h5 --quiet
  export_all killed.h5 killed
  same_exports long killed
  pass "rank $victim killed: another team goes on, or the same command does"
done
