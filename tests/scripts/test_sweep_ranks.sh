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
