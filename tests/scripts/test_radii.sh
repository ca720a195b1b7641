#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-3.0-or-later
# Directions of a landscape resume by radius: a run that is killed, or stopped,
# in the middle of a profile goes on with the radii that it lacks, to the bytes
# of an undisturbed one, also in a larger store or a joined one. A radial landscape
# grows to a full one. Stores of before can be read.
. "$(dirname "$0")/common.sh"
make_study
for text in eval.txt calib.txt select.txt; do
  for i in 1 2 3 4; do cat "$text"; done >long && mv long "$text"
done
sed -i -e 's/models:.*/models: [llama-25k]/' -e '/requests:/d' \
  -e '/^    - /d' -e 's/method:.*/method: [rtn]/' -e 's/group: .*/group: [32]/' \
  -e 's/dtype:.*/dtype: [int4]/' -e 's/\(eval.txt, windows:\) 6,/\1 60,/' \
  -e 's/^measure.*/measure: {spectra: off, landscape: {mode: radial, directions: 1, radii: 100, random: ["gaussian:row"]}}/' sweep.yaml
tokens sweep.yaml
radii=$((101 + 102)) # of a random direction, and of RTN's with one more
landscape() { # landscape STORE DIRECTORY
  mkdir -p "$2"
  local table
  for table in points directions landscape direction_layers ritz; do
    "$PTQSWEEP" export "$1" --table "$table" --stable -o "$2/$table.csv"
  done
}
same_landscape() { # same_landscape DIRECTORY DIRECTORY WHAT
  local table
  for table in points directions landscape direction_layers ritz; do
    cmp "$1/$table.csv" "$2/$table.csv" || fail "$3: other bytes"
  done
}
counted() { # counted EVENT JOURNAL: radii that its events name
  cat "$2"/rank-*.jsonl 2>/dev/null | grep "\"event\":\"$1\"" |
    sed 's/.*"steps":\([0-9]*\).*/\1/' | awk '{ n += $1 } END { print n + 0 }'
}
done_of() { "$PTQSWEEP" export "$1" --table directions --stable |
  grep -c ',done$' || true; }
# Start a run, and wait until a rank has handed over some radii of a profile.
begin() { # begin STORE JOURNAL COMMAND...
  local store=$1 journal=$2; shift 2
  "$@" run sweep.yaml -o "$store" --quiet --log "$journal" "${more[@]}" & run=$!
  for _ in $(seq 5000); do
    [ "$(counted steps "$journal")" -lt 12 ] || break
    kill -0 $run 2>/dev/null || fail "over before it could be stopped"
    sleep 0.01
  done
}

# --- Killed, and gone on with by other ranks ------------------------------------
more=()
"$PTQSWEEP" run sweep.yaml -o whole.h5 --quiet
landscape whole.h5 whole
[ "$(wc -l <whole/landscape.csv)" = $((1 + radii)) ] || fail "not $radii radii"
begin killed.h5 first "$PTQSWEEP"
kill -KILL $run
wait $run 2>/dev/null || true
[ "$(done_of killed.h5)" = 0 ] || fail "a direction was finished"
expect 0 ' 0 bad' "$PTQSWEEP" verify killed.h5
# What is finished of an unfinished profile is no result.
[ "$("$PTQSWEEP" export killed.h5 --table landscape --stable | wc -l)" = 1 ] ||
  fail "rows of a direction that is not finished are exported"
cp killed.h5 again.h5
expect 0 'direction [01]: [0-9]+ of 10[12] radii are there already' \
  "$PTQSWEEP" run sweep.yaml -o killed.h5 --log second
left=$(counted left second)
[ "$left" -ge "$(counted steps first)" ] ||
  fail "$left radii are left of $(counted steps first)"
[ $((left + $(counted steps second))) = $radii ] ||
  fail "$left radii were left, $(counted steps second) measured of $radii"
landscape killed.h5 killed
same_landscape whole killed "killed and resumed"
expect 0 ' 0 bad' "$PTQSWEEP" verify killed.h5
mpi 3 "$PTQSWEEP" run sweep.yaml -o again.h5 --quiet --log third
[ "$(counted left third)" = "$left" ] || fail "other ranks found other radii"
landscape again.h5 again
same_landscape whole again "resumed on two ranks"
pass "killed after $left of $radii radii, the others were measured"

# Two ranks, each in a profile of its own, killed together.
begin ranks.h5 fourth mpi 3 "$PTQSWEEP"
launcher=$(pgrep -P $run -x mpirun || echo $run)
mapfile -t ranks < <(pgrep -P "$launcher" -f 'run sweep.yaml')
[ ${#ranks[@]} = 3 ] || fail "${#ranks[@]} of 3 ranks are there"
kill -KILL "${ranks[@]}"
wait $run 2>/dev/null || true
"$PTQSWEEP" run sweep.yaml -o ranks.h5 --quiet --log fifth
[ "$(counted left fifth)" -gt 0 ] || fail "no radii are left of two ranks"
[ $(($(counted left fifth) + $(counted steps fifth))) -le $radii ] ||
  fail "radii were measured twice"
landscape ranks.h5 ranks
same_landscape whole ranks "ranks killed and resumed alone"
pass "killed on two ranks, $(counted left fifth) radii were left"

# One rank dies, and another goes on with its profile in the same run.
MPI_RECOVERY=1 begin died.h5 dying mpi 3 "$PTQSWEEP"
most=dying/rank-1.jsonl
[ "$(grep -c '"steps"' dying/rank-2.jsonl)" -le "$(grep -c '"steps"' $most)" ] ||
  most=dying/rank-2.jsonl
kill -KILL "$(sed -n 's/.*"pid":\([0-9]*\).*/\1/p' $most | head -n 1)"
wait $run 2>/dev/null || true
[ "$(done_of died.h5)" = 2 ] || fail "the survivors did not end the run"
[ "$(counted left dying)" -gt 0 ] || fail "a dead rank's radii are not found"
landscape died.h5 died
same_landscape whole died "gone on with by a survivor"
pass "a survivor went on with $(counted left dying) radii of a dead rank"

# --- Killed, and extended with another direction, or joined -----------------------
begin less.h5 eighth "$PTQSWEEP"
kill -KILL $run
wait $run 2>/dev/null || true
cp less.h5 part.h5
two=(--set measure.landscape.directions=2)
"$PTQSWEEP" run sweep.yaml -o wider.h5 --quiet "${two[@]}"
landscape wider.h5 wider
"$PTQSWEEP" run sweep.yaml -o less.h5 --extend --quiet --log ninth "${two[@]}"
left=$(counted left ninth)
[ "$left" -ge "$(counted steps eighth)" ] ||
  fail "$left radii outlive an extension of $(counted steps eighth)"
landscape less.h5 less
same_landscape wider less "killed and extended"
expect 0 ' 0 bad' "$PTQSWEEP" verify less.h5
"$PTQSWEEP" merge joined.h5 part.h5 >/dev/null
"$PTQSWEEP" run sweep.yaml -o joined.h5 --extend --quiet --log tenth
[ "$(counted left tenth)" = "$left" ] || fail "not $left radii outlive a merge"
landscape joined.h5 joined
same_landscape whole joined "killed and joined"
pass "$left radii outlive an extension and a merge"

# --- Stopped by a signal, with derivatives ---------------------------------------
more=(--set measure.landscape.mode=full --set measure.landscape.probes=2
  --set measure.landscape.lanczos=2 --set measure.landscape.starts=1)
"$PTQSWEEP" run sweep.yaml -o full.h5 --quiet "${more[@]}"
landscape full.h5 full
begin stopped.h5 sixth "$PTQSWEEP"
kill -USR1 $run
sleep 0.1
kill -USR1 $run || true # the second drops what runs
got=0
wait $run || got=$?
[ "$got" = 75 ] || fail "SIGUSR1: status $got"
"$PTQSWEEP" status stopped.h5 | grep -q ' 0 started' || fail "something is started"
"$PTQSWEEP" run sweep.yaml -o stopped.h5 --quiet --log seventh "${more[@]}"
left=$(counted left seventh)
[ "$left" -gt 0 ] || fail "no radii are left after a stop"
landscape stopped.h5 stopped
same_landscape full stopped "stopped and resumed"
pass "stopped with $left radii, the others were measured"

# --- Radial grows to full ----------------------------------------------------------
cp whole.h5 grown.h5
expect 1 'would be lost' "$PTQSWEEP" run sweep.yaml -o grown.h5 --extend \
  "${more[@]}" --set measure.landscape.radii=99
expect 1 'would be lost' "$PTQSWEEP" run sweep.yaml -o grown.h5 --extend \
  "${more[@]}" --set measure.landscape.directions=0
cmp whole.h5 grown.h5 || fail "a refusal changed the store"
expect 0 'points, 2 radial directions are measured again in full, 1 finished' \
  "$PTQSWEEP" run sweep.yaml -o grown.h5 --extend "${more[@]}"
grep -q '0 of 1 points to do' expect.out || fail "points are measured again"
landscape grown.h5 grown
same_landscape full grown "grown from radial"
expect 0 '2 radial directions are measured again' "$PTQSWEEP" status grown.h5
expect 0 ' 0 bad' "$PTQSWEEP" verify grown.h5
# It is no way back.
expect 1 'would be lost' "$PTQSWEEP" run sweep.yaml -o grown.h5 --extend
pass "a radial landscape grows to a full one"

# --- A store of schema 4, from before rows of profiles had checksums ----------------
gzip -dc "$PTQ_SOURCE_DIR/tests/golden/stores/schema-4.h5.gz" >old.h5
expect 0 '6 finished rows checked, 0 bad' "$PTQSWEEP" verify old.h5
"$PTQSWEEP" export old.h5 --table landscape -f jsonl -o old.jsonl
expect 0 '1 points of 1 stores' "$PTQSWEEP" merge new.h5 old.h5
expect 0 ' 0 bad' "$PTQSWEEP" verify new.h5
"$PTQSWEEP" export new.h5 --table landscape -f jsonl -o new.jsonl
[ -s old.jsonl ] || fail "no profiles in the old store"
cmp old.jsonl new.jsonl ||
  fail "profiles changed on their way into a new store"
pass "a store of schema 4"
