#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-3.0-or-later
# Walls and signals: a run that is stopped by its time limit, by Slurm's or by
# a signal ends with status 75, and goes on to the bytes of an undisturbed one.
. "$(dirname "$0")/common.sh"
make_study
unset SLURM_JOB_ID SLURM_JOB_END_TIME
"$PTQSWEEP" run sweep.yaml -o whole.h5 --quiet
export_all whole.h5 whole

# --- Time limits --------------------------------------------------------------
run() { "$PTQSWEEP" run sweep.yaml -o s.h5 "$@"; }
expect 2 "is not a time" run --time-limit 1:2:3:4
expect 2 "is not a time" run --time-limit 1-
expect 2 "is not a time" run --time-limit -5
for nothing in 0 0.0 0:00 0:00:00 0-0; do
  expect 2 "'$nothing' leaves no time.* none for no limit" \
    run --time-limit $nothing
done
expect 2 "leaves no time" mpi 2 "$PTQSWEEP" run sweep.yaml -o s.h5 --time-limit 0
[ ! -e s.h5 ] || fail "a store was made for no time"
expect 75 "time limit" run --time-limit 0.01
expect 75 "time limit" mpi 3 "$PTQSWEEP" run sweep.yaml -o s.h5 \
  --time-limit 0.01
# What a Slurm job has left; less half a minute to close up.
end=$(($(date +%s) + 3630))
expect 75 "1 s of time from now \(Slurm\)" env SLURM_JOB_END_TIME=1 \
  "$PTQSWEEP" run sweep.yaml -o t.h5 --set 'data.evaluation.windows=90' \
  --set 'data.calibration.windows=90'
mkdir bin
printf '#!/bin/sh\n[ "$*" = "-h -o %%L -j 17" ] && echo 1-00:00:40\n' >bin/squeue
chmod +x bin/squeue
one=(--set 'grid.dtype=[int4]' --set 'grid.method=[rtn]' --set 'grid.group=[32]')
expect 0 "3602 s of time from now \(--time-limit\)" env SLURM_JOB_END_TIME=1 \
  "$PTQSWEEP" run sweep.yaml -o one.h5 "${one[@]}" --time-limit 1:00:02
expect 0 "86410 s of time from now \(Slurm\)" env PATH="$PWD/bin:$PATH" \
  SLURM_JOB_ID=17 "$PTQSWEEP" run sweep.yaml -o one.h5 "${one[@]}"
expect 0 "(359.|3600) s of time from now \(Slurm\)" env SLURM_JOB_END_TIME=$end \
  "$PTQSWEEP" run sweep.yaml -o one.h5 "${one[@]}"
printf '#!/bin/sh\necho UNLIMITED\n' >bin/squeue
PATH="$PWD/bin:$PATH" SLURM_JOB_ID=17 "$PTQSWEEP" run sweep.yaml -o one.h5 \
  "${one[@]}" >unlimited.log 2>&1
! grep -q 'of time from now' unlimited.log || fail "UNLIMITED is a limit"
SLURM_JOB_END_TIME=1 "$PTQSWEEP" run sweep.yaml -o one.h5 "${one[@]}" \
  --time-limit none --quiet

# --- Signals ------------------------------------------------------------------
for signal in USR1 USR2 TERM; do
  rm -f s.h5
  "$PTQSWEEP" run sweep.yaml -o s.h5 --quiet >run.log 2>&1 &
  run=$!
  for i in $(seq 500); do
    ! "$PTQSWEEP" status s.h5 2>/dev/null | grep -q 'points: [1-9]' || break
    sleep 0.01
  done
  kill -$signal $run
  got=0
  wait $run || got=$?
  [ "$got" = 75 ] || { cat run.log >&2; fail "SIG$signal: status $got"; }
  "$PTQSWEEP" status s.h5 | grep -q ' 0 started' || fail "something is started"
  "$PTQSWEEP" export s.h5 --table points --format jsonl |
    grep '"state":"pending"' | grep -vq '"attempts":0' &&
    fail "SIG$signal counts as an attempt"
  pass "SIG$signal: 75"
done
# One that comes before the run does anything.
got=0
"$PTQSWEEP" run sweep.yaml -o s.h5 --quiet & run=$!
kill -USR1 $run || true
wait $run || got=$?
[ "$got" = 75 ] || [ "$got" = 138 ] || fail "an early signal: status $got"
run --quiet
export_all s.h5 s
same_exports whole s
pass "the same bytes in the end"

# --- A rank 0 that left no status ---------------------------------------------
expect 1 "rank 0 ended without a status" env SLURM_JOB_ID=17 SLURM_NTASKS=1 \
  PATH="$PWD/bin:$PATH" MPIRUN=true bash "$PTQ_SOURCE_DIR/sweeps/slurm.sh" sweep.yaml
