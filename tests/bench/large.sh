#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-3.0-or-later
# tests/bench/large.sh BUILD DIR [BLOCKS]: a random LLaMA of 7B's shape (13.5 GB
# under DIR; BLOCKS of its 32: the most memory is taken within one) is evaluated,
# rounded and quantized by GPTQ to int4 in groups of 128 on 4 windows of 512
# tokens with --memory 4GB: what plan says of memory beside the largest resident
# set of the run.
set -euo pipefail
build=$1 dir=$2 blocks=${3:-32}
top=$(cd "$(dirname "$0")/../.." && pwd)
python=$build/venv/bin/python
mkdir -p "$dir"
[ -f "$dir/model-$blocks/config.json" ] ||
  "$python" "$top/tests/bench/random_llama.py" "$dir/model-$blocks" \
    --blocks "$blocks" --tokenizer "$top/sweeps/zoo/llama-25k"
"$python" "$top/sweeps/austen.py" -o "$dir/austen" >/dev/null
cat >"$dir/large.yaml" <<YAML
name: large
models: [model-$blocks]
data:
  calibration: {text: austen/train.txt, windows: 4, length: 512}
  selection: {text: austen/select.txt, windows: 4, length: 512}
  evaluation: {text: austen/test.txt, windows: 4, length: 512}
grid: {dtype: [int4], method: [rtn, gptq], group: [128]}
measure: {spectra: off}
YAML
"$python" "$top/sweeps/prepare.py" "$dir/large.yaml" >/dev/null
for method in rtn gptq; do
  one=(--set "grid.method=[$method]" --memory 4GB)
  said=$("$build/ptqsweep" plan "$dir/large.yaml" --gflops 100 --json \
    "${one[@]}" | "$python" -c 'import json, sys
print(json.load(sys.stdin)["memory"])')
  /usr/bin/time -f "%M %U" -o "$dir/time" "$build/ptqsweep" run \
    "$dir/large.yaml" -o "$dir/$method-$blocks.h5" --quiet "${one[@]}"
  read -r kilobytes seconds <"$dir/time"
  echo "$method: said $((said / 1000000)) MB, had" \
    "$((kilobytes * 1024 / 1000000)) MB, $seconds s of CPU"
done
