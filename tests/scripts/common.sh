# SPDX-License-Identifier: GPL-3.0-or-later
# Sourced by the script tests: a scratch directory, a small study on two zoo
# models with a text made here, and helpers. Needs PTQSWEEP, PTQ_SOURCE_DIR and
# PTQ_PYTHON (set by ctest).
set -euo pipefail
: "${PTQSWEEP:?}" "${PTQ_SOURCE_DIR:?}" "${PTQ_PYTHON:?}"
scratch=$(mktemp -d)

cleanup() {
  # Killed ranks leave their shared memory behind; ours are
  # younger than this test, and no process maps them any more.
  local segment
  for segment in /dev/shm/vader_segment.*; do
    [ -e "$segment" ] && [ "$segment" -nt "$scratch/started" ] &&
      ! grep -qsF "$segment" /proc/[0-9]*/maps && rm -f "$segment"
  done
  rm -rf "$scratch"
}
touch "$scratch/started"
trap cleanup EXIT
cd "$scratch"

fail() { echo "FAILED: $*" >&2; exit 1; }
pass() { echo "ok: $*"; }

mpi() {  # mpi N COMMAND...: N ranks
  local n=$1; shift
  local root=()
  [ "$(id -u)" != 0 ] || root=(--allow-run-as-root)
  "${MPIRUN:-mpirun}" ${root[@]+"${root[@]}"} --oversubscribe --bind-to none \
    ${MPI_RECOVERY:+--enable-recovery} -n "$n" "$@"
}

# expect STATUS PATTERN COMMAND...: the command's exit status, and a pattern in
# what it prints.
expect() {
  local status=$1 pattern=$2 got=0; shift 2
  "$@" >expect.out 2>&1 </dev/null || got=$?
  [ "$got" = "$status" ] ||
    { cat expect.out >&2; fail "exit $got, expected $status: $*"; }
  grep -qE -- "$pattern" expect.out ||
    { cat expect.out >&2; fail "no '$pattern' in the output of: $*"; }
  pass "$status '$pattern'"
}

# Three texts of English-like sentences from a fixed generator.
make_texts() {
  "$PTQ_PYTHON" - <<'PY'
import random
words = ("the of and to a in was her she he his it that not be had as with "
         "you for but so very could would sister family letter morning walk "
         "garden house never always hope feelings manner acquaintance").split()
for name, seed, n in (("calib.txt", 1, 6000), ("select.txt", 2, 4000),
                      ("eval.txt", 3, 6000)):
    rng = random.Random(seed)
    text, line = [], []
    for i in range(n):
        line.append(rng.choice(words))
        if rng.random() < 0.1:
            text.append(" ".join(line).capitalize() + ".")
            line = []
    open(name, "w").write("\n".join(text) + "\n")
import json
rng = random.Random(4)
with open("asked.jsonl", "w") as file:
    for i in range(24):
        ends = [" " + " ".join(rng.choices(words, k=1 + i % 5))
                for _ in range(2 + i % 3)]
        file.write(json.dumps({"context": " ".join(rng.choices(words, k=9)),
                               "choices": ends, "answer": i % 2}) + "\n")
PY
}

# A study of two models: sweep.yaml, texts and tokens.
make_study() {
  make_texts
  ln -s "$PTQ_SOURCE_DIR/sweeps/zoo/llama-25k" llama-25k
  ln -s "$PTQ_SOURCE_DIR/sweeps/zoo/opt-25k" opt-25k
  cat >sweep.yaml <<'YAML'
name: test
models: [llama-25k, opt-25k]
data:
  calibration: {text: calib.txt, windows: 6, length: 64, seed: 1}
  selection: {text: select.txt, windows: 3, length: 64}
  evaluation: {text: eval.txt, windows: 6, length: 64}
  requests: {file: asked.jsonl, limit: 21}
grid:
  dtype: [mxint3, int4, "int3:asym"]
  method:
    - rtn
    - gptq
    - {name: gptq, hessian: static, act_order: true, static_groups: true}
    - {name: gptq, true_sequential: true}
  group: [16, 32, tensor]
measure: {spectra: full}
YAML
  tokens sweep.yaml
}

tokens() { "$PTQ_PYTHON" "$PTQ_SOURCE_DIR/sweeps/prepare.py" --quiet "$1"; }

# Stable exports of a store into a directory.
export_all() {
  mkdir -p "$2"
  local table
  for table in points layers windows models spectra answers; do
    "$PTQSWEEP" export "$1" --table "$table" --stable -o "$2/$table.csv"
  done
}

same_exports() {
  local table
  for table in points layers windows models spectra answers; do
    cmp "$1/$table.csv" "$2/$table.csv" || fail "$table differs: $1 and $2"
  done
}

# show_hang PID: where a process that does not end, and all it started, stand:
# states, system calls, and stacks where gdb is there. For whoever reads the
# log of a failed test.
show_hang() {
  local pid child
  for pid in "$@"; do
    [ -d "/proc/$pid" ] || continue
    echo "--- process $pid: $(tr '\0' ' ' <"/proc/$pid/cmdline" | cut -c1-160)"
    grep -E '^(State|PPid|SigPnd|ShdPnd|SigBlk)' "/proc/$pid/status" || true
    echo "waits in: $(cat "/proc/$pid/wchan" 2>/dev/null)" \
      "call: $(cat "/proc/$pid/syscall" 2>/dev/null)"
    cat "/proc/$pid/stack" 2>/dev/null || true
    ls -l "/proc/$pid/fd" 2>/dev/null | sed 's/^/  /' || true
    # A stopped or traced process would keep gdb waiting.
    ! command -v gdb >/dev/null ||
      timeout 60 gdb -p "$pid" -batch -ex 'thread apply all bt' 2>&1 |
        grep -E '^(Thread|#)' || true
    for child in $(pgrep -P "$pid"); do show_hang "$child"; done
  done
}
