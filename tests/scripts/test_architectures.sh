#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-3.0-or-later
# A sweep over the tiny models of every architecture: rounding and GPTQ, every
# point finishes, and its model can be written and evaluates alike.
. "$(dirname "$0")/common.sh"
make_texts
golden=$PTQ_SOURCE_DIR/tests/golden/architectures
models=()
for config in "$golden"/*/config.json; do
  name=$(basename "$(dirname "$config")")
  models+=("$name")
  mkdir "$name"
  ln -s "$golden/$name/config.json" "$golden/$name/model.safetensors" "$name/"
  ln -s ../tokenizer.json "$name/tokenizer.json"
done
# Letters, as the models have 45 tokens.
"$PTQ_PYTHON" - <<'PY'
import json
letters = list("abcdefghijklmnopqrstuvwxyz .\nABCDEFGHILMNOSTW")[:44]
json.dump({
    "version": "1.0", "truncation": None, "padding": None, "added_tokens": [],
    "normalizer": None, "pre_tokenizer": None, "post_processor": None,
    "decoder": None,
    "model": {"type": "BPE", "dropout": None, "unk_token": "<unk>",
              "continuing_subword_prefix": None, "end_of_word_suffix": None,
              "fuse_unk": False, "byte_fallback": False,
              "ignore_merges": False, "merges": [],
              "vocab": {c: i for i, c in enumerate(["<unk>"] + letters)}}},
    open("tokenizer.json", "w"))
PY
list=$(IFS=,; echo "${models[*]}")
cat >sweep.yaml <<YAML
name: architectures
models: [$list]
data:
  calibration: {text: calib.txt, windows: 8, length: 50}
  selection: {text: select.txt, windows: 2, length: 50}
  evaluation: {text: eval.txt, windows: 3, length: 50}
grid:
  dtype: [int4]
  method: [rtn, {name: gptq, true_sequential: true}]
  group: [row]
measure: {spectra: full}
YAML
tokens sweep.yaml
"$PTQSWEEP" run sweep.yaml -o s.h5 --quiet 2>run.err ||
  { tail -5 run.err >&2; "$PTQSWEEP" status s.h5 >&2; fail "the sweep"; }
"$PTQSWEEP" export s.h5 --table points --format jsonl -o points.jsonl
"$PTQSWEEP" export s.h5 --table layers --format jsonl -o layers.jsonl
"$PTQ_PYTHON" - "${#models[@]}" <<'PY' || fail "results"
import json, math, sys
points = [json.loads(line) for line in open("points.jsonl")]
layers = [json.loads(line) for line in open("layers.jsonl")]
assert len(points) == 2 * int(sys.argv[1]), len(points)
for p in points:
    assert math.isfinite(p["nll"]) and p["kl"] > 0, p
    assert p["sqnr_output_prop"] > 3, p
names = {l["layer"] for l in layers if l["model"] == "phi3"}
assert "model.layers.0.self_attn.qkv_proj.weight" in names, names
assert "model.layers.1.mlp.gate_up_proj.weight" in names, names
for l in layers:
    assert 0 <= l["err_hessian"] < 0.2, l
better = sum(l["err_hessian"] for l in layers if l["method"] == "gptq")
assert better < sum(l["err_hessian"] for l in layers if l["method"] == "rtn")
PY
pass "${#models[@]} models"

key=$("$PTQ_PYTHON" -c '
import json
for p in map(json.loads, open("points.jsonl")):
    if (p["model"], p["method"]) == ("gpt2", "gptq"):
        print(p["key"], p["nll"])')
expect 0 "as in the store" "$PTQSWEEP" materialize s.h5 --point "${key% *}" -o made
sed 's/models: .*/models: [made]/' sweep.yaml >made.yaml
tokens made.yaml
"$PTQSWEEP" run made.yaml -o made.h5 --quiet 2>/dev/null
"$PTQSWEEP" export made.h5 --table models --format jsonl -o made.jsonl
"$PTQ_PYTHON" -c '
import json, sys
made = json.loads(open("made.jsonl").readline())["nll"]
assert abs(made / float(sys.argv[1]) - 1) < 1e-6, (made, sys.argv[1])
' "${key#* }" || fail "another NLL"
pass "a transposed checkpoint is written back"
