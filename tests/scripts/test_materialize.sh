#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-3.0-or-later
# materialize writes a point's model, which evaluates unquantized to the NLL
# that the point has in the store.
. "$(dirname "$0")/common.sh"
make_study
"$PTQSWEEP" run sweep.yaml -o s.h5 --quiet --set 'grid.group=[32]' \
  --set 'grid.dtype=["int3:asym"]' --set 'measure.spectra="off"'
"$PTQSWEEP" export s.h5 --table points --format jsonl -o points.jsonl

# model:method of a point whose key is printed
key_of() {
  "$PTQ_PYTHON" -c '
import json, sys
for line in open("points.jsonl"):
    p = json.loads(line)
    if (p["model"], p["method"], p["options"]) == tuple(sys.argv[1:]):
        print(p["key"])' "$1" "$2" "$3"
}
llama=$(key_of llama-25k rtn "")
opt=$(key_of opt-25k gptq true_sequential=true)
[ -n "$llama" ] && [ -n "$opt" ] || fail "no such points: $llama $opt"

expect 0 "as in the store" "$PTQSWEEP" materialize s.h5 --point "${llama:0:12}" \
  -o llama-rtn
expect 0 "as in the store" "$PTQSWEEP" materialize s.h5 --point "$opt" -o opt-gptq
expect 0 "[0-9.]+ in bf16; [0-9.]+ in the store" "$PTQSWEEP" materialize s.h5 \
  --point "$llama" -o llama-bf16 --dtype bf16
told=$("$PTQSWEEP" materialize s.h5 --point "$llama" -o told-bf16 --dtype bf16 |
  sed -n 's/NLL on the evaluation text \([0-9.]*\) in bf16.*/\1/p')
expect 0 "dequantized" "$PTQSWEEP" inspect llama-rtn --weights
[ ! -e llama-rtn/model.safetensors.part ] || fail "a part is left"

# What was written, as models of a sweep of its own.
sed 's/models: .*/models: [llama-rtn, opt-gptq, llama-bf16]/' sweep.yaml >made.yaml
tokens made.yaml
"$PTQSWEEP" run made.yaml -o made.h5 --quiet --set 'grid.group=[32]' \
  --set 'grid.dtype=[int4]' --set 'grid.method=[rtn]' --set 'measure.spectra="off"'
"$PTQSWEEP" export made.h5 --table models --format jsonl -o models.jsonl
"$PTQ_PYTHON" - "$llama" "$opt" "$told" <<'PY' || fail "another NLL"
import json, sys
points = {p["key"]: p["nll"] for p in map(json.loads, open("points.jsonl"))}
made = {m["model"]: m["nll"] for m in map(json.loads, open("models.jsonl"))}
llama, opt = points[sys.argv[1]], points[sys.argv[2]]
print(llama, opt, made)
assert abs(made["llama-rtn"] / llama - 1) < 1e-6
assert abs(made["opt-gptq"] / opt - 1) < 1e-6
assert 0 < abs(made["llama-bf16"] / llama - 1) < 1e-3
assert abs(made["llama-bf16"] - float(sys.argv[3])) < 1e-6
PY
pass "the same NLL"

expect 1 "holds a model already" "$PTQSWEEP" materialize s.h5 --point "$llama" \
  -o llama-rtn
expect 1 "has [0-9]+ points whose key begins with ''" "$PTQSWEEP" materialize \
  s.h5 --point "" -o x
expect 1 "has 0 points" "$PTQSWEEP" materialize s.h5 --point zzz -o x
expect 2 "f32 or bf16" "$PTQSWEEP" materialize s.h5 --point "$llama" -o x \
  --dtype int4
expect 2 "--point KEY and --output" "$PTQSWEEP" materialize s.h5 -o x
rm llama-25k
cp -r "$PTQ_SOURCE_DIR/sweeps/zoo/llama-25k" llama-25k
sed -i 's/"rope_theta": [0-9.]*/"rope_theta": 77.0/' llama-25k/config.json
expect 1 "not one of" "$PTQSWEEP" materialize s.h5 --point "$llama" -o x
