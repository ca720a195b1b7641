#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-3.0-or-later
# A sweep on four working ranks, killed with SIGKILL (all ranks) at random
# moments and gone on with, ends with the bytes of the uninterrupted run.
. "$(dirname "$0")/common.sh"
kills=${PTQ_KILLS:-10}
make_study
"$PTQSWEEP" run sweep.yaml -o whole.h5 --quiet
export_all whole.h5 whole

start=$(date +%s%N)
mpi 5 "$PTQSWEEP" run sweep.yaml -o timed.h5 --quiet
length_ms=$((($(date +%s%N) - start) / 1000000))
rm timed.h5

RANDOM=7
landed=0
for i in $(seq "$kills"); do
  mpi 5 "$PTQSWEEP" run sweep.yaml -o killed.h5 --quiet >run.log 2>&1 &
  launcher=$!
  sleep "$(awk -v l="$length_ms" -v r=$RANDOM 'BEGIN { print l * r / 32768 / 1000 }')"
  if pkill -KILL -f "$scratch|run sweep.yaml -o killed.h5" 2>/dev/null; then
    landed=$((landed + 1))
  fi
  kill -KILL $launcher 2>/dev/null || true
  wait $launcher 2>/dev/null || true
  # Whatever is there can be read.
  [ ! -e killed.h5 ] || "$PTQSWEEP" verify killed.h5 >verify.log ||
    { cat verify.log >&2; fail "verify after kill $i"; }
  # Start afresh now and then, so that kills fall on creation too.
  done_now=$("$PTQSWEEP" export killed.h5 --table points 2>/dev/null | grep -c ',done' || true)
  [ "${done_now:-0}" -lt 70 ] || rm -f killed.h5
done
[ "$landed" -gt 0 ] || fail "no kill landed"
mpi 5 "$PTQSWEEP" run sweep.yaml -o killed.h5 --quiet
export_all killed.h5 killed
same_exports whole killed
pass "$landed kills: the same bytes"
"$PTQSWEEP" verify killed.h5
