#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-3.0-or-later
# Growing a sweep: `run --extend` carries finished points over by key into a new
# file that replaces the old one at once; less or changed is refused with what
# differs, and leaves the store as it was.
. "$(dirname "$0")/common.sh"
make_study
run() { "$PTQSWEEP" run "$@"; }
"$PTQSWEEP" run sweep.yaml -o whole.h5 --quiet
export_all whole.h5 whole

sed -e 's/models:.*/models: [llama-25k]/' -e 's/dtype:.*/dtype: [int4, mxint3]/' \
  -e '/true_sequential/d' -e 's/group:.*/group: [32, 16]/' sweep.yaml >small.yaml
run small.yaml -o s.h5 --quiet
before=$(sha256sum <s.h5)
n=$(($("$PTQSWEEP" export s.h5 --table points | wc -l) - 1))

# --- Refused ------------------------------------------------------------------
expect 1 "part of this one: $n of these 72 points; --extend carries" \
  run sweep.yaml -o s.h5
sed 's/dtype:.*/dtype: [mxint3]/' sweep.yaml >less.yaml
expect 1 "$((n / 2)) of its points: dtype 'int4' is not in this sweep" \
  run less.yaml -o s.h5 --extend
sed 's/group:.*/group: [16]/' sweep.yaml >less.yaml
expect 1 "group 32 is not in this sweep" run less.yaml -o s.h5 --extend
sed 's/models:.*/models: [opt-25k]/' sweep.yaml >less.yaml
expect 1 "model 'llama-25k' is not in this sweep" run less.yaml -o s.h5 --extend
sed '/act_order/d' sweep.yaml >less.yaml
expect 1 "method 'gptq:.*act_order.*' is not in this sweep" \
  run less.yaml -o s.h5 --extend
cat sweep.yaml - >less.yaml <<'YAML'
exclude:
  - {model: llama-25k, dtype: int4, method: rtn, group: 16}
YAML
expect 1 "1 of its points: llama-25k int4 rtn group 16 is excluded" \
  run less.yaml -o s.h5 --extend
sed 's/windows: 3,/windows: 2,/' sweep.yaml >changed.yaml
expect 1 "selection text is 'select.txt:3x64' there, 'select.txt:2x64' here" \
  run changed.yaml -o s.h5 --extend
cp calib.txt kept.txt
echo "More." >>calib.txt
tokens sweep.yaml
expect 1 "text of model 'llama-25k' has changed" run sweep.yaml -o s.h5 --extend
mv kept.txt calib.txt
cp -rL llama-25k changed && rm llama-25k
"$PTQ_PYTHON" - <<'PY'
data = bytearray(open("changed/model.safetensors", "rb").read())
data[-1] ^= 1
open("changed/model.safetensors", "wb").write(data)
PY
ln -s changed llama-25k
expect 1 "checkpoint of model 'llama-25k' has changed" \
  run sweep.yaml -o s.h5 --extend
rm llama-25k && ln -s "$PTQ_SOURCE_DIR/sweeps/zoo/llama-25k" llama-25k
[ "$(sha256sum <s.h5)" = "$before" ] || fail "a refusal changed the store"
! ls s.h5.new-* >/dev/null 2>&1 || fail "temporary files remain"

# --- Grown --------------------------------------------------------------------
expect 0 "$n finished ones taken over" run sweep.yaml -o s.h5 --extend
grep -q "$((72 - n)) of 72 points to do" expect.out || fail "not the rest alone"
export_all s.h5 s
same_exports whole s
"$PTQSWEEP" verify s.h5
expect 0 "0 of 72 points to do" run sweep.yaml -o s.h5 --extend
expect 0 "0 of 72 points to do" run sweep.yaml -o s.h5
expect 0 "extended from $n to 72 points" "$PTQSWEEP" status s.h5

# Through a link: the store grows, the link stays one.
run small.yaml -o there.h5 --quiet
ln -s there.h5 link.h5
run sweep.yaml -o link.h5 --extend --quiet
[ -L link.h5 ] || fail "the link was replaced"
export_all there.h5 there
same_exports whole there
pass "through a link"

# Killed in between: the old store or the new one, never less.
for i in 1 2 3 4 5 6 7 8; do
  rm -f k.h5 && run small.yaml -o k.h5 --quiet
  run sweep.yaml -o k.h5 --extend --quiet >/dev/null 2>&1 &
  sleep "0.$(printf %03d $((i * 25)))"
  pkill -KILL -P $$ -f 'k.h5 --extend' || true
  wait || true
  "$PTQSWEEP" verify k.h5 | grep -qE ' 0 bad' || fail "after a kill"
  kept=$("$PTQSWEEP" export k.h5 --table points | grep -c ',done,')
  [ "$kept" -ge "$n" ] || fail "$kept of $n points are left"
done
run sweep.yaml -o k.h5 --extend --quiet
export_all k.h5 k
same_exports whole k
pass "killed while growing: nothing lost"

# No spectra, then spectra: the models are measured again, the points are not.
sed 's/spectra: full/spectra: "off"/' sweep.yaml >plain.yaml
run plain.yaml -o p.h5 --quiet
expect 1 "carry it over with --extend" run sweep.yaml -o p.h5
expect 0 "0 of 72 points to do" run sweep.yaml -o p.h5 --extend
export_all p.h5 p
same_exports whole p
