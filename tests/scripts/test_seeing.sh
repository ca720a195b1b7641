#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-3.0-or-later
# What a run shows while it goes on: the progress line, status --watch from
# another process, and a line of JSON an event and rank.
. "$(dirname "$0")/common.sh"
make_study

mpi 3 "$PTQSWEEP" run sweep.yaml -o s.h5 --log journal >run.log 2>&1 &
run=$!
for i in $(seq 500); do [ -e s.h5 ] && break; sleep 0.01; done
"$PTQSWEEP" status s.h5 --watch --interval 0.1 >watch.log
wait $run
grep -q '72 done, 0 failed' watch.log || fail "--watch ended early"
[ "$(grep -c '^points: ' watch.log)" -ge 1 ] || fail "--watch said nothing"
grep -qE '72 of 72 points, 0 failed, .*ETA 0:00:00, 2 ranks' run.log ||
  { cat run.log >&2; fail "no progress line"; }
! grep -q $'\r' run.log || fail "a log is not a terminal"
pass "status --watch and plain lines"

PTQSWEEP_TERMINAL=1 mpi 3 "$PTQSWEEP" run sweep.yaml -o t.h5 >terminal.log 2>&1
grep -q $'\r.*72 of 72 points' terminal.log || fail "no line on the terminal"
pass "a line on the terminal"

"$PTQ_PYTHON" - <<'PY' || fail "the journal"
import json
begun, done, models, ends = [], [], [], 0
for rank in range(3):
    for line in open("journal/rank-%d.jsonl" % rank):
        event = json.loads(line)
        assert event["rank"] == rank and event["time"].endswith("Z"), event
        assert event["pid"] > 0 and event["host"], event
        if event["event"] == "begin":
            assert rank > 0
            begun += event["points"]
        if event["event"] == "point":
            assert event["state"] == "done" and event["seconds"] > 0, event
            done.append(event["point"])
        if event["event"] == "model":
            models.append(event["model"])
        if event["event"] == "end":
            assert event["status"] == 0 and event["points_done"] == 72, event
            ends += 1
assert sorted(begun) == sorted(done) == list(range(72)), (begun, done)
assert sorted(models) == ["llama-25k", "opt-25k"] and ends == 3
PY
pass "a journal a rank"
expect 1 "cannot make directory" "$PTQSWEEP" run sweep.yaml -o s.h5 --log no/such
