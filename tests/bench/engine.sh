#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-3.0-or-later
# ./run.sh bench engine: the sweep engine's own figures.
#
#   empty items through rank 0 a second, on one, two and three workers
#   rank 0's share of a core beside 63 workers that never rest
#   a store of 100,000 points of a 30-block model: created, resumed
#   a result with and without --durable
#   predictions of `plan` beside what sweeps took, alone and on two workers
#
# Wall time is compared, so the machine should have nothing else to do: each
# sweep says which share of its cores it had, and compares CPU time as well
# (without that of starting and ending).
set -euo pipefail
build=$1
top=$(cd "$(dirname "$0")/../.." && pwd)
export PTQSWEEP=$build/ptqsweep PTQ_SOURCE_DIR=$top
. "$top/tests/scripts/common.sh"
bench=$build/tests/bench/bench_engine
cp /proc/loadavg . 2>/dev/null && echo "load before: $(cut -d' ' -f1-3 loadavg)"

echo "-- rank 0's loop"
for workers in 1 2 3; do
  items=300000
  [ $workers -gt 1 ] || items=20000
  mpi $((workers + 1)) "$bench" --empty $items
done
echo "-- 64 ranks"
mpi 64 "$bench" --busy 20
echo "-- the store"
"$bench" --store "$PWD/b.h5" 100000 30
"$bench" --points "$PWD/b.h5" 3000

echo "-- predictions"
make_texts
for model in llama-25k llama-300k llama-1m opt-85k opt-300k; do
  ln -s "$top/sweeps/zoo/$model" $model
done
cat >sweep.yaml <<'YAML'
name: bench
models: [llama-25k, llama-300k, opt-85k]
data:
  calibration: {text: calib.txt, windows: 12, length: 256, seed: 1}
  selection: {text: select.txt, windows: 6, length: 256}
  evaluation: {text: eval.txt, windows: 16, length: 256}
grid:
  dtype: [mxint3, int4]
  method: [rtn, gptq]
  group: [32, row]
measure: {spectra: full}
YAML
predict() {  # predict NAME WORKERS OPTION...: of the sweep with --set OPTIONs
  local name=$1 workers=$2 launch=() options=() word; shift 2
  for word in "$@"; do options+=(--set "$word"); done
  "$PTQ_PYTHON" "$top/sweeps/prepare.py" --quiet sweep.yaml \
    ${options[@]+"${options[@]}"}
  [ "$workers" = 1 ] || launch=(mpi $((workers + 1)))
  rm -f p.h5
  "$PTQSWEEP" plan sweep.yaml --json --ranks "$workers" \
    ${options[@]+"${options[@]}"} >plan.json 2>/dev/null
  local TIMEFORMAT='%U %S' run=(${launch[@]+"${launch[@]}"} "$PTQSWEEP" run
    sweep.yaml -o p.h5 ${options[@]+"${options[@]}"})
  { time "${run[@]}" >run.log 2>&1; } 2>cpu.txt
  { time "${run[@]}" >again.log 2>&1; } 2>idle.txt # with nothing to do
  "$PTQ_PYTHON" - "$name" "$workers" <<'PY'
import json, re, sys
plan = json.load(open("plan.json"))
took = float(re.search(r"failed in ([0-9.]+) s", open("run.log").read())[1])
cpu, idle = (sum(map(float, open(name).read().split()[-2:]))
             for name in ("cpu.txt", "idle.txt"))
workers = int(sys.argv[2])
print("%-26s %d worker%s %2d points: predicted %5.1f s, took %5.1f s, ratio "
      "%.2f; CPU %5.1f, ratio %.2f (%.0f %% of a core a worker)" %
      (sys.argv[1], workers, " " if workers == 1 else "s", len(plan["points"]),
       plan["makespan"], took, plan["makespan"] / took, cpu - idle,
       plan["seconds"] / (cpu - idle), 100 * (cpu - idle) / took / workers))
PY
}
for workers in 1 2; do
  predict "rounding and GPTQ" $workers
  predict "other methods" $workers 'models=[llama-300k, opt-85k]' \
    'grid.method=[{name: gptq, true_sequential: true}, descent, awq, gptaq]'
  predict "long windows" $workers 'models=[llama-300k, opt-300k]' \
    'data.calibration.length=512' 'data.evaluation.length=512' \
    'data.selection.length=512' 'data.calibration.windows=8' \
    'data.selection.windows=3' 'data.evaluation.windows=10'
  predict "short windows, no spectra" $workers 'models=[llama-1m]' \
    'data.calibration.length=48' 'data.evaluation.length=48' \
    'data.selection.length=48' 'measure.spectra="off"'
done
