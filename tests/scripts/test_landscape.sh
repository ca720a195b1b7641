#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-3.0-or-later
# The loss landscape in a sweep: profiles begin at the baseline and pass through
# the RTN points, bit for bit; the same bytes for any ranks; a killed run goes on
# with the directions that it lacks; damage is seen and mended; stores grow and
# join with it.
. "$(dirname "$0")/common.sh"
make_study
sed -i -e 's/method:/method: [rtn, {name: gptq, hessian: static}]/' \
  -e '/^    - /d' -e 's/group: .*/group: [32]/' \
  -e 's/^measure.*/measure: {spectra: off, landscape: {mode: full, methods: [rtn, gptq], sensitivity: [int4], directions: 2, random: ["gaussian:row", "uniform:layer"], probes: 3, lanczos: 6, starts: 2}}/' sweep.yaml
run() { "$PTQSWEEP" run "$@"; }
landscape() {  # landscape STORE DIRECTORY
  mkdir -p "$2"
  local table
  for table in directions landscape direction_layers ritz; do
    "$PTQSWEEP" export "$1" --table "$table" --stable -o "$2/$table.csv"
  done
}
same_landscape() {
  local table
  for table in directions landscape direction_layers ritz; do
    cmp "$1/$table.csv" "$2/$table.csv" || return 1
  done
}
column() {  # column NAME FILE: number of a column
  head -1 "$2" | tr , '\n' | grep -nx "$1" | cut -d: -f1
}

expect 0 '33 batches and items of models' "$PTQSWEEP" plan sweep.yaml
run sweep.yaml -o alone.h5 --quiet
expect 0 ' 0 bad' "$PTQSWEEP" verify alone.h5
landscape alone.h5 alone
[ "$(grep -c ',done$' alone/directions.csv)" = 26 ] || fail "not 26 directions"
# 4 random ones with radius 0 and 24 more, 3 of RTN and of GPTQ with one more,
# two models; and the layers of two blocks, at int4
[ "$(wc -l <alone/ritz.csv)" = $((1 + 2 * 2 * 6)) ] ||
  fail "$(wc -l <alone/ritz.csv) Ritz values"
[ "$(wc -l <alone/landscape.csv)" = $((1 + 2 * (4 * 25 + 6 * 26))) ] ||
  fail "$(wc -l <alone/landscape.csv) rows of profiles"

run sweep.yaml -o threads.h5 --quiet --threads 3
landscape threads.h5 threads
same_landscape alone threads || fail "another landscape on three threads"
mpi 3 "$PTQSWEEP" run sweep.yaml -o team.h5 --quiet --ranks-per-point 2
landscape team.h5 team
same_landscape alone team || fail "another landscape on a team of two ranks"

# --- Where it passes through what the sweep measures by itself ---------------
"$PTQSWEEP" export alone.h5 --table models -f jsonl -o models.jsonl
"$PTQSWEEP" export alone.h5 --table points -f jsonl -o points.jsonl
"$PTQSWEEP" export alone.h5 --table landscape -f jsonl -o landscape.jsonl
"$PTQSWEEP" export alone.h5 --table directions -f jsonl -o directions.jsonl
"$PTQSWEEP" export alone.h5 --table direction_layers -f jsonl \
  -o direction_layers.jsonl
"$PTQ_PYTHON" - <<'PY' || fail "a profile misses the baseline or an RTN point"
import json
def rows(name): return [json.loads(line) for line in open(name)]
nll = {m["model"]: m["nll"] for m in rows("models.jsonl")}
points = {(p["model"], p["dtype"], p["method"]): p
          for p in rows("points.jsonl")}
begun = through = 0
for r in rows("landscape.jsonl"):
    if r["step"] == 0:
        assert r["factor"] == r["radius"] == r["dnll"] == 0, r
        assert r["nll"] == nll[r["model"]], r
        begun += 1
    if r["kind"] in ("rtn", "gptq") and r["factor"] == 1:
        p = points[r["model"], r["dtype"], r["kind"]]
        assert r["nll"] == p["nll"] and r["group"] == p["group"], (r, p)
        assert abs(r["dnll"] - p["dnll"]) < 1e-12, (r, p)
        noise = 20 * __import__("math").log10(1 / r["radius"])
        assert abs(noise - p["sqnr_weight"]) < 1e-4, (noise, p)
        through += 1
assert (begun, through) == (20, 12), (begun, through)
whole = {}
for r in rows("direction_layers.jsonl"):
    if r["kind"] != "sensitivity": continue
    assert r["alone_se"] > 0 and r["restored_se"] > 0, r
    whole.setdefault((r["model"], r["number"]), []).append(r["layer"])
assert sorted(whole) == [(m, b) for m in ("llama-25k", "opt-25k")
                         for b in (0, 1)], whole
assert all(len(v) == (7 if k[0] == "llama-25k" else 6)
           for k, v in whole.items()), whole
dnll = {(d["model"], d["dtype"], d["kind"]): d["dnll"]
        for d in rows("directions.jsonl")}
for (model, dtype, kind), d in dnll.items():  # the same model, another way
    if kind == "sensitivity":
        assert abs(d - dnll[model, dtype, "rtn"]) < 1e-9, (model, dtype)
PY
pass "profiles begin at the baseline and pass through the points"

# --- Read and drawn --------------------------------------------------------------
"$PTQSWEEP" report alone.h5 -o page 2>/dev/null
for picture in profiles hessian-density quadratic; do
  [ -s "page/$picture.svg" ] && [ -s "page/$picture.csv" ] ||
    fail "no picture '$picture'"
done
grep -q 'id="landscape"' page/index.html || fail "no table of landscapes"
[ "$(grep -c '<td class="t">\(inside\|beyond\)</td>' page/index.html)" = 12 ] ||
  fail "not 12 displacements on the page"
grep -q 'id="sensitivity"' page/index.html || fail "no table of layers"
"$PTQSWEEP" export alone.h5 --table sensitivity -f jsonl -o sensitivity.jsonl
"$PTQ_PYTHON" - <<'PY' || fail "layers lack what is known of them"
import json
def rows(name): return [json.loads(line) for line in open(name)]
layers = {}
for r in rows("direction_layers.jsonl"):
    layers.setdefault((r["model"], r["layer"]), {})[r["kind"], r["dtype"]] = r
table = rows("sensitivity.jsonl")
assert len(table) == 2 * (7 + 6), len(table)
for r in table:
    assert None not in r.values(), r
    own = layers[r["model"], r["layer"]]
    e, h = own["rtn", "int4"], own["hessian", ""]
    assert r["alone"] == own["sensitivity", "int4"]["alone"], r
    assert r["trace"] == h["trace"] and r["slope"] == e["slope"], r
    assert r["output_noise"] == e["output_noise"], r
    assert abs(r["err_hessian"] / e["err_hessian"] - 1) < 1e-4, r
PY
"$PTQSWEEP" export alone.h5 --table basins -f jsonl -o basins.jsonl
"$PTQSWEEP" export alone.h5 --table basins -f netcdf -o basins.nc
[ -s basins.nc ] || fail "no basins in netCDF"
"$PTQ_PYTHON" - <<'PY' || fail "basins are not those of the profiles"
import json, math
def rows(name): return [json.loads(line) for line in open(name)]
steps = {}
for r in rows("landscape.jsonl"): steps.setdefault(r["key"], []).append(r)
table = rows("basins.jsonl")
assert len(table) == 2 * (4 + 6), len(table)
assert len({r["key"] for r in table}) == len(table)
for r in table:
    at = [s for s in steps[r["key"]] if s["step"] > 0]
    assert r["evaluation"].startswith("eval.txt:6x64"), r
    assert r["calibration"].startswith("calib.txt:6x64"), r
    assert r["n_radii"] == len(at) and r["radius_max"] == at[-1]["radius"], r
    for name, rise in (("basin_01", 0.1), ("basin_05", 0.5), ("basin_1", 1.0)):
        first = next((i for i, s in enumerate(at)
                      if s["dnll"] is None or s["dnll"] >= rise), None)
        if first is None:
            assert math.isinf(r[name]), r
        elif first == 0:
            assert r[name] is None, r
        else:
            assert at[first - 1]["radius"] <= r[name] <= at[first]["radius"], r
    step = [r["step_" + name] for name in ("height", "height_se", "width")]
    assert step == [None] * 3 or min(step) > 0, r
    assert (r["inside"] is not None) == (r["kind"] in ("rtn", "gptq")), r
    if r["inside"] is not None:
        assert (r["inside"] == 1) == (r["size"] <= r["basin_05"]), r
        assert abs(r["size_over_basin"] * r["basin_05"] - r["size"]) < 1e-12, r
# One still rises at the largest radius.
assert sum(r["step_height"] is not None for r in table) >= 18
PY
# Joined with a store of the same directions without derivatives: once each.
sed -e 's/mode: full/mode: radial/' -e 's/, probes: 3, lanczos: 6, starts: 2//' \
  sweep.yaml >radial.yaml
run radial.yaml -o radial.h5 --quiet
"$PTQSWEEP" merge joined.h5 radial.h5 alone.h5 >/dev/null
for table in basins sensitivity; do
  for store in alone joined; do
    "$PTQSWEEP" export $store.h5 --table $table | sort >$store-$table.csv
  done
  cmp alone-$table.csv joined-$table.csv ||
    fail "the joined store has other $table"
done
"$PTQSWEEP" report joined.h5 -o joined 2>/dev/null
table_of() { sed -n "/id=\"$1\"/,/<\/table>/p" "$2"; }
[ "$(table_of landscape page/index.html)" = \
  "$(table_of landscape joined/index.html)" ] ||
  fail "directions that are there twice count twice"
grep -q '<td>4 of 4</td>' page/index.html || fail "no counts beside basins"
# One model on two texts: told apart, and no two models.
sed -e 's/^models:.*/models: [opt-25k]/' -e '/requests:/d' \
  -e 's/evaluation: \(.*\)$/evaluation: [\1, {text: select.txt, windows: 6, length: 64}]/' \
  -e 's/directions: 2/directions: 1/' sweep.yaml >texts.yaml
tokens texts.yaml
run texts.yaml -o texts.h5 --quiet
"$PTQSWEEP" report texts.h5 -o texts 2>/dev/null
for part in landscape sensitivity; do
  for text in eval select; do
    table_of $part texts/index.html | grep -q "opt-25k on $text.txt:6x64" ||
      fail "$part does not name $text.txt"
  done
done
[ "$(head -1 texts/quadratic.csv | cut -d, -f6)" = method ] ||
  fail "no method in quadratic.csv"
[ -z "$("$PTQSWEEP" export texts.h5 --table sensitivity | cut -d, -f1-7 | sort |
  uniq -d)" ] || fail "rows of layers that cannot be told apart"
if [ -n "${PTQ_ANALYSIS_PYTHON:-}" ]; then
  expect 1 "'opt-25k' is there 2 times.*choose one with --evaluation: 'eval" \
    "$PTQ_ANALYSIS_PYTHON" "$PTQ_SOURCE_DIR/analysis/landscape_study.py" \
    texts.h5
  expect 0 '1 models' "$PTQ_ANALYSIS_PYTHON" -W error \
    "$PTQ_SOURCE_DIR/analysis/landscape_study.py" texts.h5 \
    --evaluation select.txt:6x64
fi
"$PTQSWEEP" run sweep.yaml -o off.h5 --quiet --set measure.landscape=off
"$PTQSWEEP" report off.h5 -o off 2>/dev/null
! ls off/profiles.svg off/hessian-density.svg 2>/dev/null ||
  fail "pictures of nothing"
"$PTQSWEEP" fit alone.h5 --formula \
  'dnll ~ log(noise_over_basin) + log(basin_05)' >fit.log 2>&1 ||
  grep -q 'have collapsed' fit.log || { cat fit.log; fail "no fit"; }
if [ -n "${PTQ_ANALYSIS_PYTHON:-}" ]; then
  "$PTQ_ANALYSIS_PYTHON" -W error \
    "$PTQ_SOURCE_DIR/analysis/landscape_study.py" alone.h5 --json >study.json ||
    fail "the study fails"
  "$PTQ_ANALYSIS_PYTHON" -W error - "$PTQ_SOURCE_DIR/analysis" <<'PY' ||
import sys
import pandas as pd
sys.path.insert(0, sys.argv[1])
import ptqsweep
mine = ptqsweep.read("alone.h5").sensitivity
theirs = pd.read_json("sensitivity.jsonl", lines=True, precise_float=True)
assert len(theirs) > 0 and theirs.notna().all(axis=None)
pd.testing.assert_frame_equal(mine, theirs, check_exact=False, rtol=1e-12,
                              check_dtype=False)
PY
    fail "sensitivity of the module and of the export differ"
  "$PTQ_PYTHON" - <<'PY' || fail "the study says something else than the store"
import json
s = json.load(open("study.json"))
assert s["models"] == ["llama-25k", "opt-25k"], s["models"]
d = [json.loads(line) for line in open("directions.jsonl")]
for kind in ("rtn", "gptq"):
    at = sorted(r["dnll_calib"] for r in d
                if r["kind"] == kind and r["dtype"] == "int4")
    got = s["quadratic"][f"{kind}, 4 bits"]
    assert abs(got["dnll"] - sum(at) / 2) < 1e-12, (kind, got, at)
assert 0.1 < s["step"]["decades from 10 to 90 % of the height"]["estimate"] < 3
rho = s["layers"]["g'e + e'He / 2, alone"]
assert -1 <= rho["estimate"] <= 1 and rho["n"] == 2, rho
PY
fi
pass "pictures, tables and columns"

# --- The same bytes for any ranks, and in files -------------------------------
for workers in 2 3; do
  mpi $((workers + 1)) "$PTQSWEEP" run sweep.yaml -o ranks.h5 --quiet
  landscape ranks.h5 ranks
  same_landscape alone ranks || fail "$workers ranks give other bytes"
  rm ranks.h5
done
mkdir files
run sweep.yaml -o files.h5 --quiet --scratch files
landscape files.h5 files
same_landscape alone files || fail "hidden states in files give other bytes"
pass "the same bytes alone, on 2 and 3 ranks and in files"

# --- A killed run goes on direction by direction --------------------------------
for text in eval.txt calib.txt select.txt; do
  for i in 1 2 3 4; do cat "$text"; done >long && mv long "$text"
done
sed -e 's/windows: 6,/windows: 60,/' -e 's/mode: full/mode: radial/' \
  -e 's/ methods: .*sensitivity: .int4.,//' \
  -e 's/, probes: 3, lanczos: 6, starts: 2//' sweep.yaml >long.yaml
tokens long.yaml
run long.yaml -o whole.h5 --quiet
landscape whole.h5 whole
finished() { "$PTQSWEEP" export killed.h5 --table directions --stable |
  grep -c ',done$' || true; }
"$PTQSWEEP" run long.yaml -o killed.h5 --quiet & pid=$!
for i in $(seq 3000); do
  [ ! -e killed.h5 ] || [ "$(finished)" = 0 ] || break
  kill -0 $pid 2>/dev/null || break
  sleep 0.02
done
kill -KILL $pid 2>/dev/null || fail "the run was over before it was killed"
wait $pid 2>/dev/null || true
before=$(finished)
[ "$before" -gt 0 ] && [ "$before" -lt 14 ] || fail "killed after $before of 14"
expect 0 ' 0 bad' "$PTQSWEEP" verify killed.h5
run long.yaml -o killed.h5 --quiet --log journal
[ "$(grep -c '"event":"direction"' journal/rank-0.jsonl)" = $((14 - before)) ] ||
  fail "not the $((14 - before)) directions that were missing"
landscape killed.h5 killed
same_landscape whole killed || fail "a resumed run gives other bytes"
pass "killed after $before of 14 directions, the others were done"

# --- Damage ----------------------------------------------------------------------
cp whole.h5 hurt.h5
"$PTQ_PYTHON" - <<'PY'
import json, struct, subprocess, os
rows = [json.loads(r) for r in subprocess.run(
    [os.environ["PTQSWEEP"], "export", "whole.h5", "--table", "landscape",
     "-f", "jsonl"], check=True, capture_output=True, text=True).stdout.splitlines()]
row = rows[30]
data = bytearray(open("hurt.h5", "rb").read())
at = data.find(struct.pack("<ddd", row["radius"], row["nll"], row["nll_se"]))
assert at > 0
data[at + 9] ^= 1
open("hurt.h5", "wb").write(data)
PY
expect 1 'direction 1 \(.*: checksum' "$PTQSWEEP" verify hurt.h5
run long.yaml -o hurt.h5 --quiet --log mended
[ "$(grep -c '"event":"direction"' mended/rank-0.jsonl)" = 1 ] ||
  fail "more than the damaged direction was done again"
landscape hurt.h5 hurt
same_landscape whole hurt || fail "a mended store has other bytes"
pass "damage is seen and mended"

# --- Growing, joining --------------------------------------------------------------
more=(--set 'measure.landscape.radii=30')
expect 1 "landscape was measured otherwise|other measurements" \
  run long.yaml -o whole.h5 "${more[@]}"
expect 1 'would be lost' run long.yaml -o whole.h5 --extend "${more[@]}"
expect 1 'other measurements' run long.yaml -o whole.h5 \
  --set measure.landscape.directions=3
expect 0 '0 of 12 points to do' run long.yaml -o whole.h5 --extend \
  --set measure.landscape.directions=3
[ "$("$PTQSWEEP" export whole.h5 --table directions --stable |
  grep -c ',done$')" = 18 ] || fail "not 18 directions after --extend"
run long.yaml -o part.h5 --quiet --set 'models=[opt-25k]'
expect 0 'equal' "$PTQSWEEP" merge both.h5 part.h5 hurt.h5
expect 0 ' 0 bad' "$PTQSWEEP" verify both.h5
"$PTQSWEEP" export both.h5 --table landscape --stable | sort >both.csv
key=$(column direction whole/landscape.csv)
[ "$(cut -d, "--complement" -f"$key" both.csv | sort | sha256sum)" = \
  "$(sort whole/landscape.csv | cut -d, --complement -f"$key" | sort |
    sha256sum)" ] || fail "the joined store has other profiles"
pass "stores grow and join with their landscape"

# --- Refused -------------------------------------------------------------------------
expect 1 "landscape must be 'off', 'radial' or 'full', got 'some'" \
  "$PTQSWEEP" plan sweep.yaml --set measure.landscape=some
expect 1 'tokens, but 9999 windows of .* take .*or give a longer text' \
  "$PTQSWEEP" run sweep.yaml -o short.h5 --set data.evaluation.windows=9999
[ ! -e short.h5 ] || fail "a store for a text that is too short"
least=$("$PTQSWEEP" plan sweep.yaml --json | "$PTQ_PYTHON" -c 'import json, sys
print(max(i["memory"] for i in json.load(sys.stdin)["items"] if i["landscape"]))')
expect 1 'the landscape of model .* raise --memory, name a directory' \
  "$PTQSWEEP" plan sweep.yaml --memory "$((least - 1))"
# Radii are measured a few at a time: their rows alone are there at once.
expect 0 'memory of a rank' "$PTQSWEEP" plan sweep.yaml \
  --set measure.landscape.radii=900 --memory "$((least + 1000000))"
