#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-3.0-or-later
# Adaptive precision from end to end: a sweep of uniform formats, probes, an
# allocation as a sweep file, its points in the same store, and every command
# that reads them.
. "$(dirname "$0")/common.sh"
make_study
# Of a text with forty words word frequencies would say more than the models,
# and every point were collapsed: they are counted in other words.
cat "$PTQ_SOURCE_DIR"/src/*/*.md "$PTQ_SOURCE_DIR/README.md" >calib.txt
sed -i -e 's/dtype: .*/dtype: [mxint2, mxint3, int4]/' \
  -e 's/group: .*/group: [16, 32]/' -e 's/spectra: full/spectra: "off"/' \
  -e '/true_sequential/d' -e 's/windows: 6, length: 64/windows: 16, length: 128/' \
  sweep.yaml
tokens sweep.yaml
allocate() { expect "$1" "$2" "$PTQSWEEP" allocate "${@:3}"; }
"$PTQSWEEP" run sweep.yaml -o s.h5 --quiet
cp s.h5 uniform.h5

allocate 2 "how many bits a weight" s.h5
allocate 1 "has no probes.*--probe -o" s.h5 --bits 3 -o x.yaml
allocate 2 "--bits: '0'" s.h5 --equal --bits 0
allocate 2 "--bits: '3,x'" s.h5 --equal --bits 3,x
allocate 1 "no method 'hqq'" s.h5 --equal --bits 3 --method hqq
allocate 1 "no model 'gpt'" s.h5 --equal --bits 3 --model gpt
allocate 2 "comes first, alone" s.h5 --probe --bits 3 -o x.yaml
allocate 2 "--equal or --probes" s.h5 --equal --probes s.h5 --bits 3
allocate 1 "has 1 bits a weight or less; the narrowest" s.h5 --equal --bits 1 --model llama-25k
allocate 2 "names probes" s.h5 --equal --bits 3 --name probe.mine
# What the reader of the sweep file would refuse is refused before it is
# written.
for name in 'a b:c#"' 'ü/../x' "$(printf 'x%.0s' {1..60})" .hidden; do
  allocate 2 "a mixture's name .* must be letters" s.h5 --equal --bits 3 \
    --name "$name" -o x.yaml
done
allocate 1 "No such file" none.h5 --equal --bits 3
# The sweep file whose models and texts probes are made of is kept.
cp sweep.yaml kept.yaml
ln -s sweep.yaml soft.yaml
for name in sweep.yaml soft.yaml; do
  allocate 2 "is the input '.*sweep.yaml' itself" s.h5 --probe -o $name
done
cmp sweep.yaml kept.yaml || fail "the sweep file was written over"
# A budget that one model can meet and the other cannot.
"$PTQSWEEP" run sweep.yaml -o uneven.h5 --quiet --set 'grid.method=[rtn]' \
  --set 'exclude=[{model: llama-25k, dtype: mxint2}]'
allocate 1 "not for all models, but for opt-25k: choose by --model" \
  uneven.h5 --equal --bits 2.5 -o x.yaml
grep -q "model 'llama-25k': no choice has 2.5 bits .* narrowest" expect.out ||
  fail "which model: $(cat expect.out)"
! grep -q bits/w expect.out || fail "half an answer"
allocate 0 "opt-25k, rtn" uneven.h5 --equal --bits 2.5 --model opt-25k
[ ! -e x.yaml ] || fail "a sweep file of a refused allocation"

allocate 0 "26 probes of 2 models" s.h5 --probe -o probes.yaml
allocate 0 "4 probes of 2 models" s.h5 --probe-blocks -o blocks.yaml
tokens probes.yaml
"$PTQSWEEP" run probes.yaml -o p.h5 --quiet
allocate 0 "sensitivities from 14 probes" s.h5 --probes p.h5 --bits 2.9,3.6 \
  --method gptq -o mixed.yaml
"$PTQSWEEP" allocate s.h5 --probes p.h5 --bits 2.9,3.6 --method gptq --json >a.json
"$PTQSWEEP" plan mixed.yaml >plan.txt
grep -q 'mixed:gptq-2.9' plan.txt || { cat plan.txt >&2; fail "plan"; }
expect 0 "mixed:gptq-3.6-[0-9a-f]{8}" "$PTQSWEEP" predict s.h5 --sweep mixed.yaml
tokens mixed.yaml
expect 0 "4 points done, 0 failed" "$PTQSWEEP" run mixed.yaml -o s.h5 --extend
expect 0 "0 of 40 points to do" "$PTQSWEEP" run mixed.yaml -o s.h5

# What was chosen is what was run, and what was predicted stands beside it.
"$PTQSWEEP" export s.h5 --table points --format jsonl -o points.jsonl
"$PTQSWEEP" export s.h5 --table layers --format jsonl -o layers.jsonl
"$PTQSWEEP" fit s.h5 --no-comparison --estimator censored --json \
  >fit.json
"$PTQ_PYTHON" - <<'PY' || fail "points of the allocation"
import json
points = [json.loads(line) for line in open("points.jsonl")]
layers = [json.loads(line) for line in open("layers.jsonl")]
fit = {r["key"]: r for r in json.load(open("fit.json"))["mixed"]["points"]}
chosen = json.load(open("a.json"))
assert len(chosen["models"]) == 2
n = 0
for model in chosen["models"]:
    for budget in model["budgets"]:
        name = f"mixed:gptq-{budget['budget']:g}-"
        i, = [i for i, p in enumerate(points) if p["model"] == model["model"]
              and p["dtype"].startswith(name)]
        p = points[i]
        assert p["method"] == "gptq" and p["state"] == "done"
        assert p["bits_per_weight"] <= budget["budget"]
        assert abs(p["bits_per_weight"] / budget["bits_per_weight"] - 1) < 1e-9
        own = {r["layer"]: r for r in layers if r["point"] == i}
        assert len(own) == len(budget["layers"]) > 10
        formats = set()
        for layer in budget["layers"]:
            r = own[layer["layer"]]
            assert r["layer_dtype"] == layer["dtype"]
            assert r["layer_group"] == layer["group"]
            formats.add((r["layer_dtype"], r["layer_group"]))
        assert len(formats) > 1
        total = sum(r["weights"] * r["layer_bits"] for r in own.values())
        weights = sum(r["weights"] for r in own.values())
        assert abs(total / weights / p["bits_per_weight"] - 1) < 1e-12
        row = fit[p["key"]]
        assert row["predicted_ahead"]
        assert abs(row["predicted"] / budget["dnll"] - 1) < 1e-4
        assert row["uniform_bits"] <= p["bits_per_weight"] + 0.011
        n += 1
assert n == 4 == len(fit)
PY
pass "points of the allocation"

key=$("$PTQ_PYTHON" -c '
import json
print(next(p["key"] for p in map(json.loads, open("points.jsonl"))
           if p["dtype"].startswith("mixed:") and p["model"] == "opt-25k"))')
expect 0 "as in the store" "$PTQSWEEP" materialize s.h5 --point "$key" -o made
expect 0 "40 points recomputed .*, 0 differ" "$PTQSWEEP" verify s.h5 --recompute 40

# The same bytes from three ranks and without the detour.
mpi 3 "$PTQSWEEP" run mixed.yaml -o whole.h5 --quiet
export_all s.h5 extended
export_all whole.h5 whole
same_exports extended whole
pass "extended and whole stores are the same"
expect 0 "" "$PTQSWEEP" merge all.h5 uniform.h5 whole.h5
[ "$("$PTQSWEEP" export all.h5 --table points | wc -l)" = 41 ] || fail "merge"

# A sweep file whose mixture changed under its name is another point.
sed '0,/default: .*/s//default: {dtype: int5, group: 32}/' mixed.yaml >changed.yaml
! cmp -s mixed.yaml changed.yaml || fail "nothing changed"
expect 1 "mixed:gptq-2.9" "$PTQSWEEP" run changed.yaml -o s.h5 --extend
