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

# The texts have no tokens: a plan needs none.
mkdir "$work/texts"
echo 'A text.' | tee "$work/texts/c.txt" > "$work/texts/e.txt"
cat > "$work/s.yaml" <<END
models: [$zoo/llama-25k, $zoo/opt-25k]
data:
  calibration: {text: texts/c.txt, windows: 4, length: 64, seed: 1}
  evaluation: {text: texts/e.txt, windows: 4, length: 64}
grid: {dtype: [int4, mxint3], method: [rtn, gptq], group: [16, 4096, row]}
END
cd "$work" || exit 1

prints "sweep 's': 16 points of 2 models; 8 dropped" plan s.yaml
prints "on 3 ranks" plan s.yaml --ranks 3
prints "long enough is known after: python3 sweeps/prepare.py s.yaml" plan s.yaml
prints "sweep 's': 8 points of 1 model" plan s.yaml \
  --set "models=[$zoo/opt-25k]" --memory 4GB
prints '"points": [' plan s.yaml --json
if ! "$program" plan s.yaml --json --ranks 2 | python3 -c '
import json, sys
plan = json.load(sys.stdin)
done = sorted(i for item in plan["items"] for i in item["points"])
assert done == list(range(16)), done
assert len(plan["points"]) == 16 and plan["makespan"] <= plan["seconds"]
assert 0 < plan["lower_bound"] <= plan["makespan"] * (1 + 1e-12)
assert plan["gflops"] > 0
'; then
  fail "the plan as JSON"
fi
[[ $(echo *) == "s.yaml texts" ]] || fail "plan wrote something: $(ls)"

refuses 1 "s.yaml (--set): unknown key 'gruop' in grid, did you mean 'group'?" \
  plan s.yaml --set grid.gruop=3
refuses 1 "cannot open 'absent.yaml'" plan absent.yaml
refuses 2 "is not an amount of memory" plan s.yaml --memory much
refuses 1 "more than the 1.0 MiB that a rank may use; raise --memory" \
  plan s.yaml --memory 1MiB
# The limit of a run on this host is that of a plan for it.
huge=(--set data.calibration.windows=16777216 --set data.calibration.length=512
  --set measure.landscape=full)
refuses 1 "that a rank may use; raise --memory" plan s.yaml "${huge[@]}"
prints "memory of a rank: at most" plan s.yaml "${huge[@]}" --gflops 50
refuses 2 "--ranks must be 1 to 1000000, got 0" plan s.yaml --ranks 0
refuses 2 "--ranks must be 1 to 1000000, got -3" plan s.yaml --ranks -3
refuses 2 "--ranks: 'abc' is not a whole number" plan s.yaml --ranks abc
refuses 2 "--set 'grid' is not KEY=VALUE" plan s.yaml --set grid
refuses 2 "--set '=3' is not KEY=VALUE" plan s.yaml --set =3
refuses 2 "" plan
refuses 2 "unknown option" plan s.yaml --rank

# A text that a run could not read is refused where the sweep file names it.
sed 's/e\.txt/absent.txt/' s.yaml > other.yaml
refuses 1 "other.yaml:4: text: " plan other.yaml
refuses 1 "texts/absent.txt" plan other.yaml
sed 's/texts\/c\.txt/texts/' s.yaml > other.yaml
refuses 1 "other.yaml:3: text: " plan other.yaml
refuses 1 "is a directory; name a text file" plan other.yaml
sed 's/^grid/  selection: {text: no.txt, windows: 4, length: 64}\n&/' s.yaml \
  > other.yaml
refuses 1 "other.yaml:5: text: " plan other.yaml

# An editor's byte order mark.
{ printf '\357\273\277'; cat s.yaml; } > other.yaml
prints "sweep 'other': 16 points of 2 models" plan other.yaml

# A sweep of a paper's size, on shapes alone: no schedule of its batches could be
# much shorter, and on as many ranks as it has points none at all, whatever
# points were put together (the bound below shares everything a batch can).
python3 "$PTQ_SOURCE_DIR/tests/scripts/hollow_models.py" models
mkdir wikitext-2
for text in train valid test; do echo A text. >wikitext-2/$text.txt; done
cp "$PTQ_SOURCE_DIR/sweeps/paper.yaml" .
for ranks in 64 256 1024; do
  "$program" plan paper.yaml --ranks $ranks --gflops 50 --json | python3 -c '
import json, sys
plan = json.load(sys.stdin)
own = [p["seconds"] for p in plan["points"]]
longest, rest, shared = 0.0, 0.0, {}
for item in plan["items"]:
    if item["points"]:
        shared[item["model"]] = item["seconds"] - sum(own[i] for i in item["points"])
    else:
        rest += item["seconds"]
        longest = max(longest, item["seconds"])
longest = max(longest, max(s + shared[p["model"]]
                           for s, p in zip(own, plan["points"])))
least = max(longest, (sum(own) + rest + sum(shared.values())) / plan["ranks"])
assert len(own) == 952 and len(shared) == 17
assert plan["lower_bound"] <= plan["makespan"] <= 1.05 * plan["lower_bound"], plan["makespan"]
if plan["ranks"] == 1024:
    assert least * (1 - 1e-9) <= plan["makespan"] <= 1.05 * least, (plan["makespan"], least)
' || fail "the makespan of paper.yaml on $ranks ranks"
done
rm -r models wikitext-2 paper.yaml

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
refuses 1 "model_type 'lama' is not known; known: bloom, " inspect damaged

prints "int2..int8" list dtypes
prints "nvfp4             4      15" list dtypes
prints '"bits": "1.6"' list dtypes --json
prints "last_group" list dtypes
prints "gptq" list methods
prints "OPTForCausalLM" list architectures
prints "sqnr_output_prop" list metrics
prints '"column": "dnll"' list metrics --json
refuses 2 "there is no list of 'dtype', did you mean 'dtypes'?" list dtype

# What standard output loses is an error.
if [[ -e /dev/full ]]; then
  for words in "plan s.yaml" "plan s.yaml --json" "list metrics" \
    "list metrics --json" "list laws" --help --version "plan --help"; do
    said=$("$program" $words 2>&1 > /dev/full)
    code=$?
    [[ $code -eq 1 && $said == *"cannot write standard output: No space"* ||
      $code -eq 1 && $said == *"cannot write standard output: an earlier"* ]] ||
      fail "$words to a full device: exit status $code: $said"
  done
fi

exit $((failures > 0))
