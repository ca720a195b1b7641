# SPDX-License-Identifier: GPL-3.0-or-later
# Sourced by threads.sh and teams.sh, with `build` set: a directory of its own
# with sweep.yaml, whose one point is GPTQ of a random LLaMA of SmolLM2-135M's
# shape (four of its blocks).
top=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
export PTQSWEEP=$build/ptqsweep PTQ_SOURCE_DIR=$top
: "${PTQ_PYTHON:=$build/venv/bin/python}"
export PTQ_PYTHON
. "$top/tests/scripts/common.sh"
make_texts
"$PTQ_PYTHON" "$top/tests/bench/random_llama.py" model --width 576 \
  --inner 1536 --heads 9 --kv-heads 3 --blocks 4 --vocab 49152 \
  --tokenizer "$top/sweeps/zoo/llama-25k"
cat >sweep.yaml <<'YAML'
name: one-point
models: [model]
data:
  calibration: {text: calib.txt, windows: 12, length: 512}
  selection: {text: select.txt, windows: 4, length: 512}
  evaluation: {text: eval.txt, windows: 8, length: 512}
grid: {dtype: [int4], method: [gptq], group: [64]}
measure: {spectra: off}
YAML
tokens sweep.yaml
