#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-3.0-or-later
# tests/bench/threads.sh BUILD [THREADS]: a point of a random LLaMA of
# SmolLM2-135M's shape (four of its blocks) on one thread and on THREADS (2),
# turn by turn: wall time, and the CPU time of the main thread, which has all
# that is not spread and its share of what is; both stores must be equal.
set -euo pipefail
build=$(realpath "$1") threads=${2:-2}
. "$(dirname "$0")/one_point.sh"
for method in rtn gptq '{name: gptq, hessian: static}'; do
  for n in 1 "$threads"; do
    rm -f "$n.h5"
    "$PTQ_PYTHON" - "$n" "$method" <<'PY' >>seconds
import os, subprocess, sys, time
n, method = sys.argv[1:]
start, cpu = time.time(), 0.0
run = subprocess.Popen([os.environ["PTQSWEEP"], "run", "sweep.yaml", "-o",
                        f"{n}.h5", "--quiet", "--threads", n,
                        "--set", f"grid.method=[{method}]"])
while run.poll() is None:
    try:
        with open(f"/proc/{run.pid}/task/{run.pid}/schedstat") as stat:
            cpu = int(stat.read().split()[0]) / 1e9
    except (OSError, IndexError):
        pass
    time.sleep(0.005)
print(time.time() - start, cpu)
sys.exit(run.returncode)
PY
    export_all "$n.h5" "of-$n"
  done
  same_exports of-1 "of-$threads"
  tail -2 seconds | "$PTQ_PYTHON" -c "import sys
a, b = ([float(x) for x in line.split()] for line in sys.stdin)
print(f'{sys.argv[1]}: {b[0] / a[0]:.2f} of the wall time of one thread '
      f'({a[0]:.1f} s), {b[1] / a[1]:.2f} of its CPU time')" "$method"
done
