#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-3.0-or-later
# Log-likelihood requests at the command line: what is wrong with them is
# named; and stores from before there were any are read.
. "$(dirname "$0")/common.sh"
make_study
prepare() { "$PTQ_PYTHON" "$PTQ_SOURCE_DIR/sweeps/prepare.py" --quiet "$@"; }
run() { "$PTQSWEEP" run "$@"; }
one=(--set 'grid.dtype=[int4]' --set 'grid.method=[rtn]' --set 'grid.group=[32]'
  --set 'measure.spectra="off"')

# --- What is wrong is named -----------------------------------------------------
sed 's/asked.jsonl/absent.jsonl/' sweep.yaml >bad.yaml
expect 1 "bad.yaml:7: requests: .*absent.jsonl" run bad.yaml
expect 1 "bad.yaml:7: requests: .*absent.jsonl" "$PTQSWEEP" plan bad.yaml
expect 1 "bad.yaml:7: .*absent.jsonl" prepare bad.yaml
sed 's/limit: 21/lmit: 21/' sweep.yaml >bad.yaml
expect 1 "bad.yaml:7: unknown key 'lmit' in requests, did you mean 'limit'" \
  run bad.yaml
: >none.jsonl
sed 's/asked.jsonl/none.jsonl/' sweep.yaml >bad.yaml
expect 1 "bad.yaml:7: requests: .*none.jsonl' has none" run bad.yaml
{ cat asked.jsonl; echo '{"context": "the", "choices": [" a"], "answer": 1}'; } \
  >wrong.jsonl
sed 's/asked.jsonl/wrong.jsonl/' sweep.yaml >bad.yaml
expect 1 "wrong.jsonl:25: answer 1 is not one of 1 choices" prepare bad.yaml
expect 1 "no tokens of the requests.*wrong.jsonl.*prepare.py bad.yaml" run bad.yaml
expect 1 "no tokens of the requests.*wrong.jsonl.*prepare.py bad.yaml" \
  "$PTQSWEEP" plan bad.yaml
sed 's/limit: 21/limit: 21, length: 3/' sweep.yaml >bad.yaml
expect 1 "request [0-9]+ of .*asked.jsonl.*has a choice of .* tokens, more than the 3" \
  run bad.yaml
for part in choices ids; do
  mkdir -p damaged && cp .tokens/* damaged/
  for file in damaged/*."$part".npy; do truncate -s -3 "$file"; done
  [ "$part" = choices ] || cp .tokens/*.ends.npy damaged/
  PTQSWEEP_TOKENS=damaged expect 1 "damaged/.*npy' is truncated" run sweep.yaml
done

# --- Answers come with points ----------------------------------------------------
run sweep.yaml "${one[@]}" -o s.h5 --quiet
expect 0 "^key,model,dtype,method,group,point,request,choice" \
  "$PTQSWEEP" export s.h5 --table answers
[ "$("$PTQSWEEP" export s.h5 --table answers | wc -l)" = 43 ] ||
  fail "not 2 x 21 answers"
expect 0 "0 bad" "$PTQSWEEP" verify s.h5
expect 0 "0 differ" "$PTQSWEEP" verify s.h5 --recompute 2
grep -v requests: sweep.yaml >without.yaml
expect 1 "s.h5.*another sweep" run without.yaml "${one[@]}" -o s.h5
run without.yaml "${one[@]}" -o without.h5 --quiet
expect 0 "4 points of 2 stores" "$PTQSWEEP" merge both.h5 s.h5 without.h5
expect 0 "0 bad" "$PTQSWEEP" verify both.h5
[ "$("$PTQSWEEP" export both.h5 --table answers | wc -l)" = 43 ] ||
  fail "answers did not survive a merge"

# --- A store of schema 2, from before requests -----------------------------------
gzip -dc "$PTQ_SOURCE_DIR/tests/golden/stores/schema-2.h5.gz" >old.h5
expect 0 "5 finished rows checked, 0 bad" "$PTQSWEEP" verify old.h5
expect 0 "4 done, 0 failed" "$PTQSWEEP" status old.h5
[ "$("$PTQSWEEP" export old.h5 --table answers | wc -l)" = 1 ] ||
  fail "answers in an old store"
"$PTQSWEEP" export old.h5 --table points --format jsonl -o old.jsonl
"$PTQ_PYTHON" - <<'PY' || fail "the old store's points"
import json
points = [json.loads(line) for line in open("old.jsonl")]
assert [p["nll"] > 4.2 for p in points] == [True] * 4
assert all(p["accuracy"] is None and p["requests"] == "" for p in points)
PY
expect 0 "4 points of 1 store" "$PTQSWEEP" merge new.h5 old.h5
expect 0 "5 finished rows checked, 0 bad" "$PTQSWEEP" verify new.h5
"$PTQSWEEP" export new.h5 --table points --format jsonl -o new.jsonl
cmp <(sed 's/,"state".*//' old.jsonl) <(sed 's/,"state".*//' new.jsonl) ||
  fail "points changed on their way into a new store"
pass "a store of schema 2"
