#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-3.0-or-later
# A sweep on four working ranks under fire: SIGKILL for one rank, for all, or
# for mpirun, at random moments from the first millisecond on (start of MPI and
# creation included). No run hangs; the file always opens, what is done is
# whole and the undisturbed run's, and so is the end.
. "$(dirname "$0")/common.sh"
kills=${PTQ_KILLS:-10}
# How long a run may take after a kill, in seconds; an undisturbed one takes a
# few, and a loaded machine makes it a multiple.
patience=${PTQ_PATIENCE:-120}
make_study
"$PTQSWEEP" run sweep.yaml -o whole.h5 --quiet
export_all whole.h5 whole

start=$(date +%s%N)
mpi 5 "$PTQSWEEP" run sweep.yaml -o timed.h5 --quiet
length_ms=$((($(date +%s%N) - start) / 1000000))
rm timed.h5

# The ranks of the run: mpirun's children.
ranks() { pgrep -P "$(pgrep -P $1 -x mpirun || echo $1)" -f 'run sweep.yaml' || true; }
fire() {  # fire KIND LAUNCHER
  local pids
  mapfile -t pids < <(ranks "$2")
  case $1 in
    one) [ ${#pids[@]} -gt 0 ] || return 1
      kill -KILL "${pids[RANDOM % ${#pids[@]}]}" 2>/dev/null ;;
    all) [ ${#pids[@]} -gt 0 ] || return 1
      kill -KILL "${pids[@]}" 2>/dev/null ;;
    launcher) kill -KILL "$(pgrep -P "$2" -x mpirun || echo "$2")" 2>/dev/null ;;
  esac
}

# Whatever is there can be read by anyone, and what is done is right.
check() {
  [ -e killed.h5 ] || return 0
  "$PTQSWEEP" verify killed.h5 >verify.log ||
    { cat verify.log >&2; fail "verify after $1"; }
  if command -v h5dump >/dev/null; then
    h5dump -H killed.h5 >/dev/null || fail "h5dump after $1"
    h5py=$((h5py + 1))
  fi
  if [ -n "$reader" ]; then
    "$reader" -c 'import h5py
with h5py.File("killed.h5", "r") as f:
    assert f["points"][:].shape == f["state"][:].shape' || fail "h5py after $1"
  fi
  "$PTQSWEEP" export killed.h5 --table points --stable -o killed.csv
  ! grep ',done' killed.csv | grep -vxFf whole/points.csv >wrong.csv ||
    { cat wrong.csv >&2; fail "a finished row differs after $1"; }
  ! grep -q ',failed' killed.csv || fail "a point failed after $1"
}
reader='' h5py=0
for python in "$PTQ_PYTHON" /usr/bin/python3; do
  ! "$python" -c 'import h5py' 2>/dev/null || reader=$python
done

RANDOM=${PTQ_SEED:-7}
landed=0 kinds=(one all one launcher)
for i in $(seq $((5 * kills))); do
  [ "$landed" -lt "$kills" ] || break
  # A store that is nearly done makes way for a new one, so that kills fall on
  # creation and on early work too.
  finished=$("$PTQSWEEP" export killed.h5 --table points 2>/dev/null | grep -c ',done,' || true)
  [ "${finished:-0}" -lt 60 ] || rm -f killed.h5
  kind=${kinds[RANDOM % 4]} recovery=$((RANDOM % 2))
  (
    [ $recovery = 0 ] || export MPI_RECOVERY=1
    mpi 5 "$PTQSWEEP" run sweep.yaml -o killed.h5 --quiet
  ) >run.log 2>&1 &
  launcher=$!
  sleep "$(awk -v l="$length_ms" -v r=$RANDOM 'BEGIN { print l * r / 32768 / 1000 }')"
  ! fire $kind $launcher || landed=$((landed + 1))
  began=$SECONDS
  while kill -0 $launcher 2>/dev/null && [ $((SECONDS - began)) -lt "$patience" ]; do
    sleep 0.1
  done
  ! kill -0 $launcher 2>/dev/null || {
    cat run.log >&2
    tail -n 20 killed.h5.log*/* killed.h5*.jsonl >&2 2>/dev/null || true
    show_hang $launcher >&2
    fail "kill $i ($kind, recovery $recovery): the run hangs for $patience s," \
      "load $(cut -d' ' -f1 /proc/loadavg)"
  }
  wait $launcher 2>/dev/null || true
  check "kill $i ($kind, recovery $recovery)"
done
[ "$landed" = "$kills" ] || fail "only $landed of $kills kills landed"
mpi 5 "$PTQSWEEP" run sweep.yaml -o killed.h5 --quiet
export_all killed.h5 killed
same_exports whole killed
pass "$landed kills, $h5py looks by h5dump, h5py: ${reader:-not there}: the same bytes"
"$PTQSWEEP" verify killed.h5
ls killed.h5.new-* >/dev/null 2>&1 && fail "temporary files remain" || true
