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
for i in $(seq $((5 * kills))); do
  [ "$landed" -lt "$kills" ] || break
  # A store that is nearly done makes way for a new one, so that kills fall on
  # creation and on early work too.
  finished=$("$PTQSWEEP" export killed.h5 --table points 2>/dev/null | grep -c ',done,' || true)
  [ "${finished:-0}" -lt 60 ] || rm -f killed.h5
  mpi 5 "$PTQSWEEP" run sweep.yaml -o killed.h5 --quiet >run.log 2>&1 &
  launcher=$!
  sleep "$(awk -v l="$length_ms" -v r=$RANDOM 'BEGIN { print l * r / 32768 / 1000 }')"
  if pkill -KILL -f 'run sweep.yaml -o killed.h5'; then
    landed=$((landed + 1))
  fi
  wait $launcher 2>/dev/null || true
  # Whatever is there can be read, and what is done is whole.
  [ ! -e killed.h5 ] || "$PTQSWEEP" verify killed.h5 >verify.log ||
    { cat verify.log >&2; fail "verify after kill $i"; }
done
[ "$landed" = "$kills" ] || fail "only $landed of $kills kills landed"
mpi 5 "$PTQSWEEP" run sweep.yaml -o killed.h5 --quiet
export_all killed.h5 killed
same_exports whole killed
pass "$landed kills: the same bytes"
"$PTQSWEEP" verify killed.h5
