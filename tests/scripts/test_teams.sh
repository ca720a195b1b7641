#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-3.0-or-later
# Teams of ranks: several ranks a point give the bytes of one, for any number
# of ranks, threads and windows; what fails, dies or goes on does so for all.
. "$(dirname "$0")/common.sh"
make_study
ln -s "$PTQ_SOURCE_DIR/sweeps/zoo/olmoe-25k" olmoe-25k 2>/dev/null || true

# Odd numbers of windows, and fewer selection windows than ranks.
cat >many.yaml <<'YAML'
name: many
models: [llama-25k, opt-25k]
data:
  calibration: {text: calib.txt, windows: 7, length: 64, seed: 1}
  selection: {text: select.txt, windows: 2, length: 64}
  evaluation: {text: eval.txt, windows: 5, length: 64}
  requests: {file: asked.jsonl, limit: 21}
grid:
  dtype: ["int3:asym"]
  method:
    - rtn
    - {name: rtn, scales: mse}
    - gptq
    - {name: gptq, hessian: static, act_order: true, static_groups: true}
    - {name: gptq, true_sequential: true}
    - {name: gptq, damp: search}
    - awq
    - gptaq
    - descent
    - quip
    - quarot
    - hqq
    - {name: lqer, rank: 4}
    - {name: eora, rank: 4, base: gptq, damp: search}
    - {name: rht, base: descent}
    - {name: quarot, hadamard_inputs: true}
  group: [32]
measure: {spectra: full}
YAML
tokens many.yaml

"$PTQSWEEP" run many.yaml -o alone.h5 --quiet
export_all alone.h5 alone
for ranks in 2 3; do
  for threads in 1 2; do
    mpi $((ranks + 1)) "$PTQSWEEP" run many.yaml -o team.h5 --quiet \
      --ranks-per-point "$ranks" --threads "$threads"
    export_all team.h5 team
    same_exports alone team
    rm team.h5
    pass "teams of $ranks ranks of $threads threads: the same bytes"
  done
done
