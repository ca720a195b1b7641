#!/bin/bash
# SPDX-License-Identifier: GPL-3.0-or-later
# status, verify and export on a small store: four points done, one failed,
# one pending. PTQSWEEP is the program, PTQ_BINARY_DIR has test_crash, which
# makes the store.
set -u
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work" || exit 1
failed=0
python=${PTQ_PYTHON:-python3}

fail() {
  echo "FAILED: $*" >&2
  failed=1
}

# expect STATUS TEXT COMMAND...: exit status, and a text in what it says
expect() {
  local status=$1 text=$2 said got
  shift 2
  said=$("$@" 2>&1)
  got=$?
  [ "$got" -eq "$status" ] || fail "$*: exit $got, not $status: $said"
  case $said in
    *"$text"*) ;;
    *) fail "$*: no '$text' in: $said" ;;
  esac
}

"$PTQ_BINARY_DIR/tests/test_crash" --make s.h5 || exit 1

expect 0 '4 done, 1 failed, 0 started, 1 pending, of 6' "$PTQSWEEP" status s.h5
expect 0 'NaN in "blocks.0", block 0' "$PTQSWEEP" status s.h5
expect 0 '"failed": 1' "$PTQSWEEP" status s.h5 --json
expect 1 'No such file' "$PTQSWEEP" status none.h5
expect 2 'interval' "$PTQSWEEP" status s.h5 --watch --interval 0
expect 2 "not a number" "$PTQSWEEP" status s.h5 --interval soon
expect 2 'is not in (0, 3]' "$PTQSWEEP" fit s.h5 --power 9
expect 2 "unknown column 'parms'" "$PTQSWEEP" fit s.h5 --formula 'log(parms)'
expect 2 'lsq' "$PTQSWEEP" fit s.h5 --estimator lsq
# options of quasi-likelihood are no secret from who asks for another estimator
for option in '--power 1' --ignore-noise; do
  said=$("$PTQSWEEP" fit s.h5 --no-comparison --estimator ols $option 2>&1)
  case $said in
    *"${option%% *} changes nothing of estimator 'ols', only of 'quasi'"*) ;;
    *) fail "ols $option: $said" ;;
  esac
  said=$("$PTQSWEEP" fit s.h5 --no-comparison --estimator quasi $option 2>&1)
  case $said in *'changes nothing'*) fail "quasi $option: $said" ;; esac
done
# every column that is listed is one a formula can name
columns=$("$PTQSWEEP" list columns | awk 'NR > 1 {print $1}')
[ "$(echo "$columns" | wc -l)" -gt 40 ] || fail "list columns: $columns"
for column in $columns nothing; do
  said=$("$PTQSWEEP" fit s.h5 --no-comparison --formula "$column" 2>&1)
  case "$column $said" in
    nothing*"unknown column 'nothing'"*"list columns"*) ;;
    nothing*|*'unknown column'*) fail "formula '$column': $said" ;;
  esac
done
expect 0 '0 bad' "$PTQSWEEP" verify s.h5
expect 2 'which table' "$PTQSWEEP" export s.h5
expect 2 "unknown table 'point'" "$PTQSWEEP" export s.h5 --table point
expect 2 "netcdf needs a file" "$PTQSWEEP" export s.h5 --table points --format netcdf
expect 2 "unknown format 'xml'" "$PTQSWEEP" export s.h5 --table points \
  --format xml
expect 1 "cannot write 'none/x.csv'" "$PTQSWEEP" export s.h5 --table points \
  -o none/x.csv
if [ -e /dev/full ]; then
  "$PTQSWEEP" export s.h5 --table points >/dev/full 2>full.txt
  [ $? -eq 1 ] || fail 'export to a full device'
  grep -q 'cannot write' full.txt || fail 'export to a full device is silent'
  for words in 'status s.h5' 'status s.h5 --json' 'status s.h5 --watch' \
    'verify s.h5'; do
    # A watch that nothing stops would never end.
    timeout 20 "$PTQSWEEP" $words >/dev/full 2>full.txt
    got=$?
    [ $got -eq 1 ] || fail "$words to a full device: exit $got"
    grep -q 'cannot write standard output: No space' full.txt ||
      fail "$words to a full device: $(cat full.txt)"
  done
fi
printf 'key,model\n' >text.h5
expect 1 'not an HDF5 file' "$PTQSWEEP" verify text.h5

for table in points layers windows spectra models; do
  "$PTQSWEEP" export s.h5 --table $table -o $table.csv || fail "$table csv"
  "$PTQSWEEP" export s.h5 --table $table --format jsonl -o $table.jsonl ||
    fail "$table jsonl"
  "$PTQSWEEP" export s.h5 --table $table --stable -o $table.stable.csv ||
    fail "$table stable"
done
ls ./*.new-* >/dev/null 2>&1 && fail 'temporary files remain'

# Both formats tell the same, and what the store was given.
"$python" - <<'PYTHON' || fail 'contents of the exports'
import csv, json, math

ROWS = {"points": 6, "layers": 3 + 5 + 3 + 5, "windows": 4 + 7 + 4 + 7,
        "spectra": 16 + 16 + 12, "models": 2}
for table, n in ROWS.items():
    rows = list(csv.DictReader(open(table + ".csv", newline="")))
    lines = [json.loads(line) for line in open(table + ".jsonl")]
    assert len(rows) == len(lines) == n, (table, len(rows), len(lines))
    for row, line in zip(rows, lines):
        assert list(row) == list(line), table
        for name, value in line.items():
            text = row[name]
            if value is None:
                assert text == "", (table, name, text)
            elif isinstance(value, str):
                assert text == value, (table, name, text, value)
            else:
                assert float(text) == value, (table, name, text, value)

points = [json.loads(line) for line in open("points.jsonl")]
assert points[3]["nll"] == 3.0 + 0.001 * 3
assert points[2]["kl"] == 1.0 / 5
assert points[1]["model"] == 'opt, "small"'
assert [p["state"] for p in points] == ["done"] * 4 + ["failed", "pending"]
assert points[4]["message"] == 'NaN in "blocks.0", block 0'
assert points[5]["nll"] is None and points[5]["key"]
layers = [json.loads(line) for line in open("layers.jsonl")]
assert layers[3]["key"] == points[1]["key"] and layers[3]["group"] == 32
windows = [json.loads(line) for line in open("windows.jsonl")]
assert windows[5]["nll_reference"] == 31 and windows[5]["tokens"] == 9
stable = next(csv.reader(open("points.stable.csv", newline="")))
volatile = {"attempts", "deaths", "seconds", "rank", "host", "message"}
assert not volatile & set(stable), stable
assert set(points[0]) - set(stable) == volatile
PYTHON

# Every column of every table is described, by more than its name.
"$PTQSWEEP" list metrics --json >metrics.json
for table in points layers windows spectra models answers directions \
  landscape direction_layers ritz sensitivity; do
  "$PTQSWEEP" export s.h5 --table $table -o described.csv || fail "$table"
  "$python" - $table <<'PYTHON' || fail "columns of $table"
import csv, json, sys
table = sys.argv[1]
texts = {(row["table"], row["column"]): row["text"]
         for row in json.load(open("metrics.json"))}
columns = next(csv.reader(open("described.csv", newline="")))
assert len(columns) > 5 and len(set(columns)) == len(columns), columns
for column in columns:
    text = texts[table, column]
    assert len(text) > 3 and text != column, (table, column, text)
assert {c for t, c in texts if t == table} == set(columns), table
PYTHON
done

# The same sweep once more: other times and another uuid, equal results.
mkdir again
"$PTQ_BINARY_DIR/tests/test_crash" --make again/s.h5 || exit 1
for table in points layers windows spectra models; do
  "$PTQSWEEP" export again/s.h5 --table $table --stable |
    cmp - $table.stable.csv || fail "$table differs between equal runs"
done

# One flipped bit behind the store's back.
"$python" - <<'PYTHON'
data = bytearray(open("s.h5", "rb").read())
at = data.find(b"blocks.1\0")
data[at] ^= 1
open("s.h5", "wb").write(data)
PYTHON
expect 1 'bad: point 0 (llama-25k int4 rtn group 16' "$PTQSWEEP" verify s.h5
expect 1 '1 bad' "$PTQSWEEP" verify s.h5

exit $failed
