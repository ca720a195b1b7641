#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-3.0-or-later
# tests/bench/teams.sh BUILD [RANKS [TIMES]]: a point of a random LLaMA of
# SmolLM2-135M's shape (four of its blocks) on one rank and on a team of RANKS
# (2), one thread each, turn by turn TIMES (3) times: the best wall time of the
# whole run and of the point (its seconds in the store), and the CPU time of
# the busiest rank; stores must be equal.
set -euo pipefail
build=$(realpath "$1") ranks=${2:-2} times=${3:-3}
. "$(dirname "$0")/one_point.sh"

# What a rank is started through: its CPU time, in seconds.
cat >rank.py <<'PY'
import os, resource, subprocess, sys
code = subprocess.call(sys.argv[2:])
use = resource.getrusage(resource.RUSAGE_CHILDREN)
with open(sys.argv[1], "a") as file:
    print(use.ru_utime + use.ru_stime, file=file)
sys.exit(code)
PY

# one NAME RANKS METHOD: wall seconds, the point's, the busiest rank's.
one() {
  rm -f "$1.h5" "$1.cpu"
  local start; start=$(date +%s.%N)
  mpi $(($2 + 1)) "$PTQ_PYTHON" rank.py "$1.cpu" "$PTQSWEEP" run sweep.yaml \
    -o "$1.h5" --quiet --ranks-per-point "$2" --set "grid.method=[$3]"
  local end; end=$(date +%s.%N)
  export_all "$1.h5" "of-$1"
  "$PTQSWEEP" export "$1.h5" --table points -o "$1.csv"
  "$PTQ_PYTHON" - "$1" "$start" "$end" <<'PY' >>"$1.seconds"
import csv, sys
name, start, end = sys.argv[1:]
point = sum(float(row["seconds"]) for row in csv.DictReader(open(name + ".csv")))
cpu = max(float(line) for line in open(name + ".cpu"))
print(float(end) - float(start), point, cpu)
PY
}

for method in rtn gptq '{name: gptq, hessian: static}'; do
  rm -f one.seconds team.seconds
  for ((i = 0; i < times; i++)); do
    one one 1 "$method"
    one team "$ranks" "$method"
    same_exports of-one of-team
  done
  "$PTQ_PYTHON" - "$ranks" "$method" <<'PY'
import sys
def best(name):
    rows = [[float(x) for x in line.split()] for line in open(name)]
    return [min(column) for column in zip(*rows)]
one, team = best("one.seconds"), best("team.seconds")
print(f"{sys.argv[2]}: a team of {sys.argv[1]} takes {team[1] / one[1]:.2f} of "
      f"the time of one rank for the point ({one[1]:.1f} s), "
      f"{team[0] / one[0]:.2f} for the run; its busiest rank "
      f"{team[2] / one[2]:.2f} of the CPU time")
PY
done
