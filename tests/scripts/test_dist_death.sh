#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-3.0-or-later
# Ranks are killed, stopped and woken at random while a sweep of fake items
# goes on: every item is done all the same, the job exits 0 in bounded time.
# usage: test_dist_death.sh [SEED]; PTQ_BINARY_DIR names the build directory.
set -u
program=${PTQ_DIST_FAKE:-$PTQ_BINARY_DIR/tests/test_run}
seed=${1:-$(date +%N)}
RANDOM=${seed#"${seed%%[!0]*}"}
work=$(mktemp -d)
failures=0

# Ends what is left of a run, and the shared memory that killed ranks leave.
clean() {
  local job pid
  for pid in $(cat "$1"/rank-* 2>/dev/null | sed -n 's/^pid //p'); do
    [ "/proc/$pid/exe" -ef "$program" ] && kill -KILL "$pid"
  done
  job=$(cat "$1"/rank-* 2>/dev/null | sed -n 's/^job //p' | head -n 1)
  case $job in
    '' | 0 | *[!0-9]*) ;;
    *) rm -f /dev/shm/vader_segment.*."$(printf %x "$job")".* ;;
  esac
}
trap 'for d in "$work"/*/; do clean "$d"; done; rm -rf "$work"' EXIT

complain() {
  echo "FAILED, $name (seed $seed): $*"
  sed 's/^/    /' "$dir/log"
  failures=$((failures + 1))
}

# start NAME RANKS BATCHES WIDTH BLOCKS BLOCK_MS [KILLER]: in the background.
start() {
  name=$1 ranks=$2 dir=$work/$1
  points=$(($3 * $4))
  shift 2
  mkdir "$dir"
  began=$(date +%s)
  PTQSWEEP_EXIT_FILE=$dir/exit timeout -k 5 40 \
    mpirun --allow-run-as-root --oversubscribe --bind-to none \
    --enable-recovery -n "$ranks" ${via:-} "$program" "$dir" "$@" \
    >"$dir/log" 2>&1 &
  run=$!
  local i n
  for i in $(seq 200); do
    n=$(cat "$dir"/rank-* 2>/dev/null | grep -c '^pid')
    [ "$n" = "$ranks" ] && return
    sleep 0.05
  done
  complain "only $n of $ranks ranks came up"
}

pid_of() { sed -n 's/^pid //p' "$dir/rank-$1"; }
# A moment between 0.2 and 0.8 seconds.
sometime() { sleep "0.$((RANDOM % 7 + 2))"; }

# finish STATUS: wait for mpirun, which exits 0 (--enable-recovery), and
# compare the status that rank 0 wrote.
finish() {
  wait "$run" || complain "mpirun exited with $?"
  local status
  status=$(cat "$dir/exit")
  [ "$status" = "$1" ] || complain "exit status '$status', expected $1"
  echo "$name: $(($(date +%s) - began)) s, status $status," \
    "$(grep -h '^done' "$dir/log")"
}

# all_done [GIVEN_UP]: each point has a result, but for that one.
all_done() {
  local n
  n=$(cat "$dir"/rank-* | grep '^point' | sort -u | wc -l)
  [ "$n" = $((points - $#)) ] || complain "$n of $((points - $#)) points done"
  n=$(cat "$dir"/rank-* | grep '^given-up' | tr '\n' ' ')
  [ "$n" = "${1:+given-up $1 }" ] || complain "given up: '$n'"
  n=$(cat "$dir"/rank-* | grep '^subject' | sort -u | wc -l)
  [ "$n" = 3 ] || complain "$n of 3 subjects done"
}

lost() {
  grep -q "lost $1 in" "$dir/log" || complain "not $1 ranks lost"
}

start killed 5 24 4 4 150
victim=$((RANDOM % 4 + 1)) other=$((RANDOM % 3 + 1))
[ $other -ge $victim ] && other=$((other + 1))
sometime
kill -KILL "$(pid_of $victim)"
sometime
kill -KILL "$(pid_of $other)"
finish 0
all_done
lost 2

# Two stopped ranks: MPI_Abort alone would end mpirun with one only.
start stopped 6 24 4 4 150
victim=$((RANDOM % 3 + 1))
sometime
kill -STOP "$(pid_of $victim)" "$(pid_of 4)"
sometime
kill -KILL "$(pid_of 5)"
finish 0
all_done
lost 3
for r in $victim 4; do
  [ ! -e "/proc/$(pid_of $r)" ] || complain "stopped rank $r is still there"
done

# Who is left says why the run ends.
start alone 3 200 4 4 40
sometime
kill -KILL "$(pid_of 1)" "$(pid_of 2)"
finish 1
grep -q 'every working rank vanished' "$dir/log" || complain "no word of it"

# Rank 2 dies before or right after its first word: that its process has ended
# is seen, and nobody waits the minute that a silent one has.
for moment in before after; do
  PTQ_FAKE_DEATH="2 $moment" PTQ_FAKE_PATIENCE=60 start "word-$moment" 4 8 2 2 20
  finish 0
  all_done
  lost 1
  took=$(($(date +%s) - began))
  [ $took -le 15 ] || complain "$took s for a rank that died $moment its word"
done

# And rank 0 before it answers any.
PTQ_FAKE_DEATH='0 looking' PTQ_FAKE_PATIENCE=60 start unanswered 4 8 2 2 20
wait "$run"
took=$(($(date +%s) - began))
[ $took -le 15 ] || complain "$took s for a rank 0 that never spoke"
[ -z "$(cat "$dir/exit" 2>/dev/null)" ] || complain "a dead rank 0 left a status"
echo "$name: $took s"

# It is given up after two seconds of silence, and comes back.
start woken 3 30 4 4 40
victim=$((RANDOM % 2 + 1))
sometime
kill -STOP "$(pid_of $victim)"
sleep 3.5
kill -CONT "$(pid_of $victim)"
finish 0
all_done
lost 0
grep -q "rank $victim is back" "$dir/log" || complain "rank $victim not back"

# The batch with the point dies, then the point alone, three times.
start poison 6 16 4 2 20 29
finish 0
all_done 29
lost 4

# Without rank 0 the others end, and take mpirun along, and a stopped one with
# them. A stopped rank 0 that mpirun wakes to kill may still find words, but not
# success.
for how in KILL STOP; do
  start "coordinator-$how" 4 200 4 4 40
  sometime
  kill -STOP "$(pid_of 3)"
  kill -$how "$(pid_of 0)"
  wait "$run"
  took=$(($(date +%s) - began))
  [ $took -le 12 ] || complain "outlived rank 0"
  status=$(cat "$dir/exit" 2>/dev/null)
  [ "$status" = 0 ] && complain "success in spite of that"
  [ "$how$status" = KILL ] || [ $how = STOP ] || complain "status $status"
  for r in 0 1 2 3; do
    for i in $(seq 50); do
      [ -e "/proc/$(pid_of $r)" ] || break
      sleep 0.1
    done
    [ "$i" = 50 ] && complain "rank $r is still there"
  done
  echo "$name: $took s"
done

# Rank 0 dies, and ranks 2 and 3 are on another host, from where its process
# cannot be seen: those that see it end all, long before it is missed.
cat >"$work/wrapper" <<'SH'
[ "$OMPI_COMM_WORLD_RANK" -lt 2 ] && exec "$@"
exec unshare --uts sh -c 'hostname elsewhere && exec "$@"' sh "$@"
SH
if unshare --uts hostname elsewhere 2>/dev/null; then
  via="sh $work/wrapper" PTQ_FAKE_PATIENCE=60 start elsewhere 4 200 4 4 40
  sometime
  kill -KILL "$(pid_of 0)"
  wait "$run"
  took=$(($(date +%s) - began))
  [ $took -le 20 ] || complain "$took s until ranks elsewhere heard of it"
  echo "$name: $took s"
else
  echo "not run: another host (needs root)"
fi

start signal 4 200 4 4 40
sometime
kill -USR1 "$(pgrep -P "$run" mpirun)" # which passes it on to the ranks
finish 75
lost 0

[ $failures = 0 ]
