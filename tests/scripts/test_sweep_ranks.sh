#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-3.0-or-later
# A sweep's numbers are the same bytes alone, on 1, 2 and 4 working ranks, and
# so for batches of other widths.
. "$(dirname "$0")/common.sh"
make_study

"$PTQSWEEP" run sweep.yaml -o alone.h5 --quiet
export_all alone.h5 alone
rows=$(($(wc -l <alone/points.csv) - 1))
[ "$rows" -gt 60 ] || fail "only $rows points"
! grep -q ',failed' alone/points.csv || fail "a point failed"
pass "$rows points alone"

for workers in 1 2 4; do
  mpi $((workers + 1)) "$PTQSWEEP" run sweep.yaml -o ranks.h5 --quiet
  export_all ranks.h5 ranks
  same_exports alone ranks
  rm ranks.h5
  pass "$workers working ranks: the same bytes"
done

"$PTQSWEEP" verify alone.h5
expect 0 "0 of [0-9]+ points to do" "$PTQSWEEP" run sweep.yaml -o alone.h5

# The other methods, with what they ask for; in other batches too.
methods='{name: rtn, scales: mse}, hqq, awq, gptaq, descent, quip'
methods+=', {name: rht, base: descent}, {name: quarot, base: gptq}'
methods+=', {name: quarot, hadamard_inputs: true}, {name: lqer, rank: 4}'
methods+=', {name: eora, rank: 4, base: gptq, damp: search}'
others=(--set "grid.method=[$methods]" --set 'grid.dtype=["int4:asym"]'
  --set 'grid.group=[32]')
"$PTQSWEEP" run sweep.yaml -o others.h5 --quiet "${others[@]}"
export_all others.h5 others
[ "$(wc -l <others/points.csv)" = 23 ] || fail "not 22 points of other methods"
! grep -q ',failed' others/points.csv || fail "a point of another method failed"
mpi 4 "$PTQSWEEP" run sweep.yaml -o spread.h5 --quiet "${others[@]}"
export_all spread.h5 spread
same_exports others spread
pass "11 other methods: the same bytes on 3 working ranks"

# On threads of a rank, over ranks, and with hidden states in files.
mkdir files
for threads in 2 3; do
  "$PTQSWEEP" run sweep.yaml -o threads.h5 --quiet --threads "$threads"
  export_all threads.h5 threads
  same_exports alone threads
  "$PTQSWEEP" verify threads.h5 --recompute 3 --threads 4 |
    grep -q ' 0 differ$' || fail "recomputed points differ"
  rm threads.h5
  mpi 3 "$PTQSWEEP" run sweep.yaml -o threads.h5 --quiet "${others[@]}" \
    --set "run.threads=$threads" --scratch files
  export_all threads.h5 threads
  same_exports others threads
  rm threads.h5
  pass "$threads threads: the same bytes"
done
narrow=(--set compute=bf16 --set 'grid.dtype=[int4]' --set 'grid.group=[32]')
for threads in 1 3; do
  "$PTQSWEEP" run sweep.yaml -o "bf16-$threads.h5" --quiet "${narrow[@]}" \
    --threads "$threads"
  export_all "bf16-$threads.h5" "bf16-$threads"
done
same_exports bf16-1 bf16-3
pass "3 threads in bfloat16: the same bytes"
expect 2 "--threads: 1 to 64, got 65" \
  "$PTQSWEEP" run sweep.yaml -o threads.h5 --threads 65
expect 1 "'threads' must be 1 to 64, got 0" \
  "$PTQSWEEP" run sweep.yaml -o threads.h5 --set run.threads=0

# In the least memory that its points can have, most of them alone in their
# batch, where weights are quantized in place; and with hidden states in files.
least=1
until said=$("$PTQSWEEP" plan sweep.yaml "${others[@]}" --memory "$least" 2>&1)
do
  least=$(sed -n 's/.*(\([0-9]*\) bytes).*/\1/p' <<<"$said")
  [ -n "$least" ] || fail "no number of bytes: $said"
done
"$PTQSWEEP" run sweep.yaml -o narrow.h5 --quiet "${others[@]}" \
  --memory "$least" --scratch files
export_all narrow.h5 narrow
same_exports others narrow
[ -z "$(ls files)" ] || fail "scratch files stay: $(ls files)"
pass "in $least bytes and files: the same bytes"
expect 2 "--scratch 'nowhere' is not a directory" \
  "$PTQSWEEP" run sweep.yaml -o nowhere.h5 --scratch nowhere
