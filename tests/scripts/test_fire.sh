#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-3.0-or-later
# What others do to a store: no room, a limit on sizes, a read-only disk, its
# directory removed or the file replaced, cut or scribbled over while a run
# writes it, a second run. No run ends well that lost results.
. "$(dirname "$0")/common.sh"
make_texts
ln -s "$PTQ_SOURCE_DIR/sweeps/zoo/llama-300k" llama-300k
cat >sweep.yaml <<'YAML'
name: fire
models: [llama-300k]
data:
  calibration: {text: calib.txt, windows: 8, length: 64, seed: 1}
  selection: {text: select.txt, windows: 4, length: 64}
  evaluation: {text: eval.txt, windows: 60, length: 64}
grid:
  dtype: [int4, int3, mxint4, mxint3]
  method: [gptq]
  group: [16, 32, row]
YAML
tokens sweep.yaml
"$PTQSWEEP" run sweep.yaml -o whole.h5 --quiet
export_all whole.h5 whole

# start [RANKS]: a run on d/s.h5 in the background that has finished a point.
start() {
  rm -rf d && mkdir d
  if [ $# -gt 0 ]; then
    mpi "$1" "$PTQSWEEP" run sweep.yaml -o d/s.h5 --quiet >run.log 2>&1 &
  else
    "$PTQSWEEP" run sweep.yaml -o d/s.h5 --quiet >run.log 2>&1 &
  fi
  run=$!
  for i in $(seq 1000); do
    ! "$PTQSWEEP" status d/s.h5 2>/dev/null | grep -q 'points: [1-9]' || return 0
    sleep 0.01
  done
  cat run.log >&2; fail "no point was finished"
}
ends() {  # ends STATUS PATTERN WHAT
  local got=0
  wait $run || got=$?
  [ "$got" = "$1" ] || { cat run.log >&2; fail "$3: status $got"; }
  grep -qE -- "$2" run.log || { cat run.log >&2; fail "$3: no '$2'"; }
  pass "$3"
}
whole_again() {
  "$PTQSWEEP" run sweep.yaml -o d/s.h5 --quiet
  export_all d/s.h5 again
  same_exports whole again
}

# --- While a run writes it ----------------------------------------------------
for ranks in "" 3; do
  start $ranks
  rm -rf d
  ends 1 "d/s.h5': it was removed, replaced or cut" "the directory is removed ($ranks)"
  start $ranks
  cp d/s.h5 other.h5 && mv other.h5 d/s.h5
  ends 1 "d/s.h5': it was removed, replaced or cut" "the file is replaced ($ranks)"
  whole_again
  start $ranks
  truncate -s 100000 d/s.h5
  ends 1 "d/s.h5'" "the file is cut ($ranks)"
  expect 1 "d/s.h5" "$PTQSWEEP" run sweep.yaml -o d/s.h5
done

# Other bytes in finished rows: told by verify, done again by the next run.
start
"$PTQ_PYTHON" - <<'PY'
data, at = open("d/s.h5", "rb").read(), 0
with open("d/s.h5", "r+b") as f:
    for k in range(6): # rows of points and models
        at = data.index(b"llama-300k\0", at + 1)
        f.seek(at + 700)
        f.write(b"\1" * 64)
PY
wait $run || true
"$PTQSWEEP" verify d/s.h5 >verify.log || true
whole_again
"$PTQSWEEP" verify d/s.h5

# A second run, however it comes.
start
kill -STOP $run # it has the time of the world
expect 1 "another run is writing it" "$PTQSWEEP" run sweep.yaml -o d/s.h5 --extend
expect 1 "another run is writing it" mpi 2 "$PTQSWEEP" run sweep.yaml -o "$PWD/d/s.h5"
ln -s s.h5 d/link.h5
expect 1 "another run is writing it" "$PTQSWEEP" run sweep.yaml -o d/link.h5
ln d/s.h5 d/hard.h5
for name in hard link s; do
  expect 1 "d/$name.h5|d/s.h5': the file has 2 names .hard links.*cp " \
    "$PTQSWEEP" run sweep.yaml -o d/$name.h5
done
expect 1 "has 2 names" mpi 2 "$PTQSWEEP" run sweep.yaml -o d/hard.h5
[ ! -e d/hard.h5.lock ] || fail "a lock of the refused name is left"
kill -CONT $run
# `wait` may also tell that it was stopped.
while kill -0 $run 2>/dev/null; do wait $run || true; done
export_all d/s.h5 again
same_exports whole again
# The remedy that the message gives; the other name keeps its results.
expect 1 "has 2 names" "$PTQSWEEP" run sweep.yaml -o d/s.h5
cp d/s.h5 d/copy.h5 && mv d/copy.h5 d/s.h5
for name in s hard; do
  expect 0 "all 12 points are there" "$PTQSWEEP" run sweep.yaml -o d/$name.h5
done

# --- No room ------------------------------------------------------------------
if [ "$(id -u)" = 0 ] && mkdir disk && mount -t tmpfs -o size=8m tmpfs disk 2>/dev/null; then
  trap 'umount disk 2>/dev/null || true; cleanup' EXIT
  "$PTQSWEEP" run sweep.yaml -o disk/s.h5 --quiet --time-limit 0.01 || true
  # Full from now on: the room for every result is the store's already.
  dd if=/dev/zero of=disk/filler bs=64k >/dev/null 2>&1 || true
  "$PTQSWEEP" run sweep.yaml -o disk/s.h5 --quiet
  export_all disk/s.h5 full
  same_exports whole full
  pass "a disk that is full after the store was made"
  expect 1 "cannot reserve|cannot lock|No space" "$PTQSWEEP" run sweep.yaml -o disk/t.h5
  expect 1 "No space|cannot reserve" "$PTQSWEEP" merge disk/m.h5 disk/s.h5 whole.h5
  ! ls disk/*.new-* >/dev/null 2>&1 || fail "temporary files remain"
  rm disk/filler
  mount -o remount,ro disk
  expect 1 "disk/s.h5.*cannot write" "$PTQSWEEP" run sweep.yaml -o disk/s.h5
  expect 0 "12 done" "$PTQSWEEP" status disk/s.h5
  umount disk
else
  echo "not run: a small disk (needs root and tmpfs)"
fi
