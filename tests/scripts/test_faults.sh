#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-3.0-or-later
# The n-th allocation, read, write, send or HDF5 call of a process fails
# (PTQ_FAIL_NTH), for n from the first to beyond the last: every command ends,
# with a message or well, never by a signal; no finished row is lost or wrong,
# and the same command goes on to the bytes of an undisturbed run. PTQ_FAULTS is
# how many n are tried, spread over all.
. "$(dirname "$0")/common.sh"
tries=${PTQ_FAULTS:-8}
make_texts
ln -s "$PTQ_SOURCE_DIR/sweeps/zoo/llama-25k" llama-25k
cat >sweep.yaml <<'YAML'
name: faults
models: [llama-25k]
data:
  calibration: {text: calib.txt, windows: 2, length: 32, seed: 1}
  selection: {text: select.txt, windows: 1, length: 32}
  evaluation: {text: eval.txt, windows: 2, length: 32}
grid: {dtype: [int4, mxint3], method: [rtn, gptq], group: [32]}
measure: {spectra: full}
YAML
sed 's/dtype: .int4, mxint3./dtype: [int4]/' sweep.yaml >part.yaml
tokens sweep.yaml
"$PTQSWEEP" run sweep.yaml -o whole.h5 --quiet 2>/dev/null
"$PTQSWEEP" run part.yaml -o part.h5 --quiet 2>/dev/null
export_all whole.h5 whole

# attempt N COMMAND...: its status in $got; a signal, a hang or silence is a
# failure of the test.
attempt() {
  local n=$1; shift
  got=0
  PTQ_FAIL_NTH=$n timeout -k 5 90 "$@" >fault.log 2>&1 </dev/null || got=$?
  case $got in
    0|3|75) ;;
    1|2) [ -s fault.log ] || fail "n = $n: status $got without a word: $*" ;;
    *) cat fault.log >&2; fail "n = $n: status $got: $*" ;;
  esac
  ! grep -qE 'Sanitizer|runtime error' fault.log ||
    { cat fault.log >&2; fail "n = $n: $*"; }
}
# What is there is whole; points that failed of a fault may be tried again.
sound() {
  [ -e s.h5 ] || return 0
  "$PTQSWEEP" verify s.h5 >verify.log || { cat verify.log >&2; fail "n = $1"; }
  "$PTQSWEEP" export s.h5 --table points --stable -o s.csv
  ! grep ',done' s.csv | grep -vxFf whole/points.csv || fail "n = $1: a wrong row"
}
# How many counted operations a command makes: the first n that changes
# nothing, found by doubling and halving.
last_of() {
  local low=1 high=64 mid
  while probe $high "$@"; do low=$high; high=$((2 * high)); [ $high -lt 1000000 ] || break; done
  while [ $((high - low)) -gt $((low / 16 + 1)) ]; do
    mid=$(((low + high) / 2))
    if probe $mid "$@"; then low=$mid; else high=$mid; fi
  done
  echo $high
}
probe() {  # does the n-th operation exist?
  local n=$1; shift
  rm -f s.h5 t.h5
  ! PTQ_FAIL_NTH=$n timeout 90 "$@" >/dev/null 2>&1 || return 1
}

# One rank, and three with messages.
for ranks in 1 3; do
  command=("$PTQSWEEP" run sweep.yaml -o s.h5 --quiet)
  [ $ranks = 1 ] || command=(mpi $ranks "${command[@]}")
  [ $ranks = 1 ] && last=$(last_of "$PTQSWEEP" run sweep.yaml -o s.h5 --quiet)
  failed=0
  for i in $(seq "$tries"); do
    # Dense at first, then ever further apart.
    n=$(awk -v i="$i" -v t="$tries" -v l="$last" \
      'BEGIN { n = exp(log(l) * (i - 1) / (t - 1)); print int(n < i ? i : n) }')
    rm -f s.h5
    if [ $ranks = 1 ]; then
      attempt "$n" "${command[@]}"
    else
      cat >job.sh <<SH
. "$PTQ_SOURCE_DIR/tests/scripts/common.sh" >/dev/null
cd "$scratch"
mpi $ranks "$PTQSWEEP" run sweep.yaml -o s.h5 --quiet
SH
      attempt "$n" bash job.sh
    fi
    [ "$got" = 0 ] || failed=$((failed + 1))
    sound "$n"
    "$PTQSWEEP" run sweep.yaml -o s.h5 --quiet --retry-failed >again.log 2>&1 ||
      { cat again.log >&2; fail "n = $n: going on: $?"; }
    export_all s.h5 s
    same_exports whole s
  done
  [ $failed -gt $((tries / 2)) ] || fail "only $failed of $tries faults were felt"
  pass "$failed of $tries faults up to the ${last}th operation, $ranks ranks"
done

# The other commands, which need no MPI (it leaks): a message or the right
# answer.
for words in "status part.h5" "verify part.h5" "plan sweep.yaml --gflops 50" \
  "merge t.h5 part.h5 whole.h5" "export part.h5 --table points -o t.csv"; do
  for n in 1 5 13 34 89 233; do
    rm -f t.h5 t.csv
    # shellcheck disable=SC2086
    ASAN_OPTIONS=detect_leaks=1 attempt $n "$PTQSWEEP" $words
    [ "$got" = 0 ] || [ ! -e t.h5 ] || fail "n = $n: half a store of: $words"
  done
  pass "faults of: $words"
done

# Growing: the old store or the new one.
for n in 40 320 900; do
  cp part.h5 s.h5
  attempt $n "$PTQSWEEP" run sweep.yaml -o s.h5 --extend --quiet
  sound $n
  ! ls s.h5.new-* >/dev/null 2>&1 || fail "n = $n: temporary files remain"
done
pass "faults of --extend"
