#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-3.0-or-later
# Every counted operation of every command fails once (PTQ_FAIL_NTH, see
# test_faults.sh): nothing leaks under LeakSanitizer, hangs, dies of a signal or
# ends without a word; what a run leaves is whole, and the same command goes on
# to the bytes of an undisturbed one. PTQ_FAULTS=all tries every n until one
# no longer happens, from PTQ_FAULTS_FROM on; a number tries so many, spread
# evenly over all. PTQ_FAULTS_OF names the commands to go through, e.g.
# "status run": without it, all.
. "$(dirname "$0")/common.sh"
faults=${PTQ_FAULTS:-5}
from=${PTQ_FAULTS_FROM:-1}
chosen=${PTQ_FAULTS_OF:-}
export OPENBLAS_NUM_THREADS=1 ASAN_OPTIONS=detect_leaks=1
export LSAN_OPTIONS=suppressions=$PTQ_SOURCE_DIR/tests/sanitize/lsan.supp:print_suppressions=0
make_texts
for model in llama-25k opt-25k neox-25k; do
  ln -s "$PTQ_SOURCE_DIR/sweeps/zoo/$model" $model
done
cat >sweep.yaml <<'YAML'
name: faults
models: [llama-25k]
data:
  calibration: {text: calib.txt, windows: 1, length: 16, seed: 1}
  evaluation: {text: eval.txt, windows: 1, length: 16}
grid: {dtype: [int4], method: [rtn, gptq], group: [32]}
measure: {spectra: full}
YAML
sed 's/rtn, gptq/rtn/' sweep.yaml >part.yaml
cat >fit.yaml <<'YAML'
name: fit
models: [llama-25k, opt-25k, neox-25k]
data:
  calibration: {text: calib.txt, windows: 2, length: 32, seed: 1}
  evaluation: {text: eval.txt, windows: 24, length: 64}
grid: {dtype: [int2, int3, mxint2, mxint3, int4], method: rtn, group: [16, 32]}
YAML
tokens sweep.yaml
tokens fit.yaml
for name in sweep part fit; do
  "$PTQSWEEP" run $name.yaml -o $name.h5 --quiet 2>/dev/null
done
export_all sweep.h5 whole
key=$("$PTQSWEEP" export sweep.h5 --table points | sed -n 2p | cut -d, -f1)

# What a command makes is removed before each attempt.
clear_up() { rm -rf s.h5* t.h5* t.csv report t.model; }

# attempt N COMMAND...: false when there is no n-th operation.
attempt() {
  local n=$1 got=0; shift
  rm -f mark
  PTQ_FAIL_NTH=$n PTQ_FAIL_MARK=$scratch/mark \
    timeout -k 5 120 "$@" >fault.log 2>&1 </dev/null || got=$?
  case $got in
    0|3|75) ;;
    1|2) [ -s fault.log ] || fail "n = $n: status $got without a word: $*" ;;
    *) cat fault.log >&2; fail "n = $n: status $got: $*" ;;
  esac
  ! grep -qE 'Sanitizer|runtime error' fault.log ||
    { cat fault.log >&2; fail "n = $n: $*"; }
  [ -e mark ]
}

# After a run: rows that are done are right, and it can be gone on with.
sound() {
  local n=$1
  ! ls s.h5.new-* >/dev/null 2>&1 || fail "n = $n: temporary files remain"
  if [ -e s.h5 ]; then
    "$PTQSWEEP" verify s.h5 >verify.log ||
      { cat verify.log >&2; fail "n = $n: verify"; }
    "$PTQSWEEP" export s.h5 --table points --stable -o s.csv
    ! grep ',done' s.csv | grep -vxFf whole/points.csv ||
      fail "n = $n: a wrong row"
  fi
  "$PTQSWEEP" run sweep.yaml -o s.h5 --quiet --retry-failed --extend >again.log 2>&1 ||
    { cat again.log >&2; fail "n = $n: going on: $?"; }
  export_all s.h5 s
  same_exports whole s
}
# After another command that failed: nothing half made has the name.
tidy() {
  [ ! -e t.h5 ] || "$PTQSWEEP" verify t.h5 >/dev/null ||
    fail "n = $1: half a store"
}

# The last n that happens, by doubling and halving.
last_of() {
  local low=0 high=64 mid
  clear_up
  while $before && attempt $high "$@"; do low=$high high=$((2 * high)); clear_up; done
  while [ $((high - low)) -gt 1 ]; do
    mid=$(((low + high) / 2))
    clear_up
    if $before && attempt $mid "$@"; then low=$mid; else high=$mid; fi
  done
  echo $low
}

# go_through NAME CHECK COMMAND...; $before prepares each attempt. Not $steady:
# how often something happens depends on which rank gets what.
before=true
steady=true
go_through() {
  local name=$1 check=$2 n tried=0 i last=''; shift 2
  [[ -z $chosen || " $chosen " == *" $name "* ]] || return 0
  clear_up
  $before
  "$@" >undisturbed.log 2>&1 ||
    { cat undisturbed.log >&2; fail "without a fault: $*"; }
  if [ "$faults" = all ]; then
    for ((n = from;; n++)); do
      clear_up
      $before
      attempt $n "$@" || break
      $check $n
      tried=$((tried + 1))
    done
  else
    last=$(last_of "$@")
    $steady || last=$((last * 3 / 4)) # this time it may be fewer
    for i in $(seq "$faults"); do
      n=$((1 + (last - 1) * (i - 1) / (faults - 1)))
      clear_up
      $before
      if ! attempt $n "$@"; then
        # A text that holds a time may take one operation more or less.
        $steady && [ $n -lt $last ] && fail "n = $n of $last did not happen: $*"
        continue
      fi
      $check $n
      tried=$((tried + 1))
    done
  fi
  [ $tried -gt 3 ] || fail "only $tried faults: $*"
  pass "$tried faults${last:+ of $last}: $*"
}

go_through status tidy "$PTQSWEEP" status sweep.h5
go_through verify tidy "$PTQSWEEP" verify sweep.h5
go_through export tidy "$PTQSWEEP" export sweep.h5 --table layers -o t.csv
go_through plan tidy "$PTQSWEEP" plan sweep.yaml --gflops 50
go_through merge tidy "$PTQSWEEP" merge t.h5 part.h5 sweep.h5
go_through inspect tidy "$PTQSWEEP" inspect llama-25k
go_through materialize tidy "$PTQSWEEP" materialize sweep.h5 --point "$key" -o t.model
go_through fit tidy "$PTQSWEEP" fit fit.h5 --no-comparison --formula bits_per_weight
go_through predict tidy "$PTQSWEEP" predict fit.h5 llama-25k --dtype int3 --group 64
go_through report tidy "$PTQSWEEP" report fit.h5 -o report
go_through run sound "$PTQSWEEP" run sweep.yaml -o s.h5 --quiet
copy_part() { cp part.h5 s.h5; }
before=copy_part
go_through extend sound "$PTQSWEEP" run sweep.yaml -o s.h5 --quiet --extend
before=true
steady=false

# Ranks: in all of them, each counting for itself, and in one alone, when the
# others must not wait for it.
cat >ranks.sh <<SH
. '$PTQ_SOURCE_DIR/tests/scripts/common.sh' >/dev/null
cd '$scratch'
mpi 3 bash -c '[ "\$0" = all ] || [ "\$0" = "\$OMPI_COMM_WORLD_RANK" ] ||
  unset PTQ_FAIL_NTH
exec "\$PTQSWEEP" run sweep.yaml -o s.h5 --quiet' "\$1"
SH
ranks='all 0' # the long test has the others alone too
[ "$faults" != all ] || ranks+=' 1 2'
for rank in $ranks; do
  go_through "rank-$rank" sound bash ranks.sh $rank
done
