#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-3.0-or-later
# A point that kills its rank twice while running alone becomes failed, with
# the signal as its message or "rank vanished", whether or not the run outlives
# its ranks; a kill of the whole run is never held against a point.
. "$(dirname "$0")/common.sh"
# A sanitizer would turn deadly signals into exits.
export ASAN_OPTIONS=${ASAN_OPTIONS:-}:handle_segv=0:handle_sigbus=0
make_texts
ln -s "$PTQ_SOURCE_DIR/sweeps/zoo/llama-3m" llama-3m
cat >sweep.yaml <<'YAML'
name: poison
models: [llama-3m]
data:
  calibration: {text: calib.txt, windows: 4, length: 64, seed: 1}
  selection: {text: select.txt, windows: 2, length: 64}
  evaluation: {text: eval.txt, windows: 80, length: 64}
grid: {dtype: [int4, int3, mxint4, mxint3], method: [rtn], group: [32]}
YAML
tokens sweep.yaml

# poison SIGNAL TIMES LAUNCHER: kill the rank that runs the point int3, each
# time anew while it is in the state started, until the launcher has ended.
poison() {
  "$PTQ_PYTHON" - "$@" <<'PY'
import glob, json, os, signal, subprocess, sys, time
number, times, launcher = getattr(signal, "SIG" + sys.argv[1]), int(sys.argv[2]), sys.argv[3]
def pid_of(rank):
    for path in glob.glob("/proc/[0-9]*/environ"):
        try:
            words = open(path, "rb").read().split(b"\0")
            if (b"OMPI_COMM_WORLD_RANK=%d" % rank in words and
                    os.readlink(os.path.dirname(path) + "/cwd") == os.getcwd() and
                    b"run" in open(os.path.dirname(path) + "/cmdline", "rb").read().split(b"\0")):
                return int(path.split("/")[2])
        except OSError:
            pass
def alive():
    try:
        return open("/proc/%s/stat" % launcher).read().split(")")[1].split()[0] != "Z"
    except OSError:
        return False
last, kills = None, 0
while alive() and kills < times:
    time.sleep(0.01)
    told = subprocess.run([os.environ["PTQSWEEP"], "status", "poison.h5", "--json"],
                          capture_output=True)
    told = json.loads(told.stdout) if told.returncode == 0 else {"running": False}
    rows = told["started"] if told["running"] else []
    # A message is a former rank's, of before this run took it up.
    row = next((r for r in rows if r["dtype"] == "int3" and not r["message"]), None)
    if row is None or row["rank"] == 0 or row["attempts"] == last:
        continue
    pid = pid_of(int(row["rank"]))
    if pid is None:
        continue
    os.kill(pid, number)
    last, kills = row["attempts"], kills + 1
print("killed", kills)
PY
}

# sweep SIGNAL TIMES: one run on two working ranks, poisoned; its status.
sweep() {
  local got=0
  PTQSWEEP_EXIT_FILE=$scratch/exit mpi 3 "$PTQSWEEP" run sweep.yaml \
    -o poison.h5 >run.log 2>&1 &
  local launcher=$!
  poison "$1" "$2" $launcher
  wait $launcher || got=$?
  [ -z "${MPI_RECOVERY:-}" ] || got=$(cat exit)
  return "$got"
}

point() {  # point COLUMN: of the poisonous point
  "$PTQSWEEP" export poison.h5 --table points --format jsonl |
    "$PTQ_PYTHON" -c 'import json, sys
for line in sys.stdin:
    row = json.loads(line)
    if row["dtype"] == "int3": print(row[sys.argv[1]])' "$1"
}
done_points() { "$PTQSWEEP" status poison.h5 | grep -oE '^points: [0-9]+ done'; }
complain() { cat run.log >&2; "$PTQSWEEP" status poison.h5 >&2; fail "$@"; }

# --- The run outlives its ranks -----------------------------------------------
for signal in SEGV KILL; do
  rm -f poison.h5
  got=0
  MPI_RECOVERY=1 sweep $signal 9 || got=$?
  [ "$got" = 3 ] || [ "$got" = 1 ] || complain "status $got after SIG$signal"
  # Two working ranks are not enough for a batch's death and two alone.
  tries=0
  while [ "$(point state)" != failed ] && [ $tries -lt 3 ]; do
    MPI_RECOVERY=1 sweep $signal 9 || true
    tries=$((tries + 1))
  done
  [ "$(point state)" = failed ] || complain "SIG$signal: not failed"
  [ "$(point deaths)" = 2 ] || complain "SIG$signal: $(point deaths) deaths"
  case $signal in
    SEGV) point message | grep -q '^SIGSEGV' || complain "no SIGSEGV: $(point message)" ;;
    KILL) point message | grep -q '^rank vanished' || complain "$(point message)" ;;
  esac
  got=0
  MPI_RECOVERY=1 sweep $signal 9 || got=$?
  [ "$got" = 3 ] || complain "status $got at the end"
  [ "$(done_points)" = "points: 3 done" ] || complain "$(done_points)"
  pass "SIG$signal with --enable-recovery: $(point message)"
done

# --- The run ends with its first dead rank ------------------------------------
rm -f poison.h5
for attempt in 1 2 3 4 5; do
  got=0
  sweep BUS 9 || got=$?
  [ "$(point state)" != failed ] || break
done
[ "$(point state)" = failed ] || complain "SIGBUS: not failed after $attempt runs"
point message | grep -q '^SIGBUS' || complain "$(point message)"
[ "$attempt" -le 4 ] || complain "$attempt runs"
mpi 3 "$PTQSWEEP" run sweep.yaml -o poison.h5 --quiet >run.log 2>&1 || got=$?
[ "$got" = 3 ] || complain "status $got at the end"
[ "$(done_points)" = "points: 3 done" ] || complain "$(done_points)"
pass "SIGBUS, a new run after each death: $(point message)"
mpi 3 "$PTQSWEEP" run sweep.yaml -o poison.h5 --quiet --retry-failed
[ "$(point state)" = done ] && [ "$(point deaths)" = 0 ] ||
  complain "--retry-failed: $(point state)"

# --- Kills of everything are held against nobody ------------------------------
rm -f poison.h5
for attempt in 1 2 3; do
  "$PTQSWEEP" run sweep.yaml -o poison.h5 --quiet --memory 20GB >run.log 2>&1 &
  run=$!
  for i in $(seq 500); do
    ! "$PTQSWEEP" status poison.h5 2>/dev/null | grep -q ' [1-9] started' || break
    sleep 0.02
  done
  kill -KILL $run && wait $run || true
done
"$PTQSWEEP" run sweep.yaml -o poison.h5 --quiet
[ "$(done_points)" = "points: 4 done" ] || complain "$(done_points)"
[ "$(point attempts)" = 1 ] || complain "$(point attempts) attempts"
pass "three kills of the whole run count for nothing"
