#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-3.0-or-later
# Two families with other tokenizers, scored on the same bytes of a text.
. "$(dirname "$0")/common.sh"
make_study
sed 's/eval.txt, windows: 6, length: 64/eval.txt, windows: 9, length: 200, preset: "bytes:301"/' \
  sweep.yaml >bytes.yaml
one=(--set 'grid.dtype=[mxint3, int4]' --set 'grid.method=[rtn, gptq]'
  --set 'grid.group=[32]' --set 'measure.spectra="off"')
"$PTQSWEEP" run bytes.yaml "${one[@]}" -o b.h5 --quiet
"$PTQSWEEP" export b.h5 --table models --format jsonl -o models.jsonl
"$PTQSWEEP" export b.h5 --table points --format jsonl -o points.jsonl
"$PTQSWEEP" export b.h5 --table windows --format jsonl -o windows.jsonl
"$PTQ_PYTHON" - <<'PY' || fail "not the same bytes"
import json, math
read = lambda name: [json.loads(line) for line in open(name)]
models, points, windows = map(read, ("models.jsonl", "points.jsonl",
                                     "windows.jsonl"))
a, b = models
print(a["model"], a["tokens"], a["bytes"], b["model"], b["tokens"], b["bytes"])
assert a["bytes"] == b["bytes"] and abs(a["bytes"] - 9 * 301) < 20
assert a["tokens"] != b["tokens"]
text = open("eval.txt", "rb").read()
ends = [i for i in range(1, len(text) - 1) if text[i:i + 1] in b" \n"
        and 32 < text[i - 1] < 127]
bounds = [min(e for e in ends if e >= max(1, i * 301)) for i in range(10)]
spans = [y - x for x, y in zip(bounds, bounds[1:])]
for m in models:
    assert m["evaluation"] == "eval.txt:9x200/bytes:301"
    assert math.isclose(m["nll_byte"], m["nll"] * m["tokens"] / m["bytes"])
for p in points:
    own = [w for w in windows if w["key"] == p["key"]]
    (m,) = [m for m in models if m["model"] == p["model"]]
    assert [w["bytes"] for w in own] == spans
    assert math.isclose(p["nll_byte"], sum(w["nll"] for w in own) / sum(spans))
    assert math.isclose(p["nll"], sum(w["nll"] for w in own) / m["tokens"])
    assert math.isclose(p["dnll"], p["nll"] - m["nll"], abs_tol=1e-9)
    assert 0 <= p["top1"] <= 1 and p["kl"] > 0
PY
pass "the same bytes of every window"
mpi 3 "$PTQSWEEP" run bytes.yaml "${one[@]}" -o c.h5 --quiet
export_all b.h5 alone
export_all c.h5 ranks
same_exports alone ranks
pass "the same numbers on two working ranks"
expect 1 "window 0 takes [0-9]+ tokens, more than 'length' 60" \
  "$PTQSWEEP" run bytes.yaml "${one[@]}" -o d.h5 --set data.evaluation.length=60
