#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-3.0-or-later
# plan, list and inspect on the demonstration's models, and what they refuse.
set -u
program=$PTQSWEEP
zoo=$PTQ_SOURCE_DIR/sweeps/zoo
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
failures=0

fail() {
  echo "FAILED: $*"
  failures=$((failures + 1))
}

# prints TEXT COMMAND...: the command succeeds and its output has TEXT.
prints() {
  local text=$1 out
  shift
  if ! out=$("$program" "$@" 2>&1); then
    fail "$*: $out"
  elif [[ $out != *"$text"* ]]; then
    fail "$*: no '$text' in: $out"
  fi
}

# refuses STATUS TEXT COMMAND...: it exits with STATUS and says TEXT.
refuses() {
  local status=$1 text=$2 out code
  shift 2
  out=$("$program" "$@" 2>&1)
  code=$?
  if [[ $code -ne $status ]]; then
    fail "$*: exit status $code, expected $status: $out"
  elif [[ $out != *"$text"* ]]; then
    fail "$*: no '$text' in: $out"
  fi
}

# The texts do not exist: a plan needs no tokens.
cat > "$work/s.yaml" <<END
models: [$zoo/llama-25k, $zoo/opt-25k]
data:
  calibration: {text: none/c.txt, windows: 4, length: 64, seed: 1}
  evaluation: {text: none/e.txt, windows: 4, length: 64}
grid: {dtype: [int4, mxint3], method: [rtn, gptq], group: [16, 4096, row]}
END
cd "$work" || exit 1

prints "sweep 's': 16 points of 2 models; 8 dropped" plan s.yaml
prints "on 3 ranks" plan s.yaml --ranks 3
prints "sweep 's': 8 points of 1 model" plan s.yaml \
  --set "models=[$zoo/opt-25k]" --memory 4GB
prints '"points": [' plan s.yaml --json
if ! "$program" plan s.yaml --json --ranks 2 | python3 -c '
import json, sys
plan = json.load(sys.stdin)
done = sorted(i for item in plan["items"] for i in item["points"])
assert done == list(range(16)), done
assert len(plan["points"]) == 16 and plan["makespan"] <= plan["seconds"]
'; then
  fail "the plan as JSON"
fi
[[ $(ls) == s.yaml ]] || fail "plan wrote something: $(ls)"

refuses 1 "s.yaml (--set): unknown key 'gruop' in grid, did you mean 'group'?" \
  plan s.yaml --set grid.gruop=3
refuses 1 "cannot open 'absent.yaml'" plan absent.yaml
refuses 1 "is not an amount of memory" plan s.yaml --memory much
refuses 1 "more than the 1.0 MiB that a rank may use; raise --memory" \
  plan s.yaml --memory 1MiB
refuses 1 "--ranks must be 1 to 1000000, got 0" plan s.yaml --ranks 0
refuses 2 "" plan
refuses 2 "unknown option" plan s.yaml --rank

prints "llama, can be run" inspect "$zoo/llama-25k"
prints "tokenizer     tokenizer.json" inspect "$zoo/llama-25k" --weights
prints '"architecture": "opt"' inspect "$zoo/opt-25k" --json
refuses 1 "config.json" inspect "$work"
cp -r "$zoo/llama-25k" damaged
truncate -s -100 damaged/model.safetensors
refuses 1 "model.safetensors" inspect damaged
cp "$zoo/llama-25k/model.safetensors" damaged/
rm damaged/tokenizer.json
prints "tokenizer.json is missing" inspect damaged
sed -i 's/"llama"/"lama"/' damaged/config.json
refuses 1 "model_type 'lama' is not known; known: llama, opt" inspect damaged

prints "int2..int8" list dtypes
prints "gptq" list methods
prints "OPTForCausalLM" list architectures
prints "sqnr_output_prop" list metrics
prints '"column": "dnll"' list metrics --json
refuses 1 "there is no list of 'dtype', did you mean 'dtypes'?" list dtype

exit $((failures > 0))
