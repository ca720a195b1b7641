#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-3.0-or-later
# Bad input at the command line: a clear message that names the file and the
# remedy, a nonzero exit, and no lost result.
. "$(dirname "$0")/common.sh"
make_study
run() { "$PTQSWEEP" run "$@"; }
plan() { "$PTQSWEEP" plan "$@"; }
one=(--set 'grid.dtype=[int4]' --set 'grid.method=[rtn]' --set 'grid.group=[32]')

# --- The command line ---------------------------------------------------------
expect 2 "unknown command 'rnu', did you mean 'run'" "$PTQSWEEP" rnu
expect 2 "unknown option '--ouput', did you mean --output" run sweep.yaml --ouput x
expect 2 "missing arguments" run
expect 2 "needs STORE" run sweep.yaml -o
expect 2 "memory" run sweep.yaml --memory lots
expect 2 "max-attempts" run sweep.yaml --max-attempts 0
expect 2 "time-limit" run sweep.yaml --time-limit soon
expect 2 "'grid' is not KEY=VALUE" run sweep.yaml --set grid
expect 1 "no-such.yaml" run no-such.yaml
for command in plan "run -o none.h5"; do
  # shellcheck disable=SC2086
  expect 1 "a rank may use; raise --memory" $command sweep.yaml --memory 1MiB
done
[ ! -e none.h5 ] || fail "a refused sweep left a store behind"
# mpirun may end with another status than its ranks: rank 0 leaves its own.
told() {  # told STATUS ARGUMENTS...: what rank 0 of two wrote
  local status=$1; shift
  rm -f exit
  MPI_RECOVERY=1 PTQSWEEP_EXIT_FILE=$PWD/exit mpi 2 "$PTQSWEEP" "$@" \
    >expect.out 2>&1 </dev/null || true
  [ "$(cat exit 2>/dev/null)" = "$status" ] ||
    { cat expect.out >&2; fail "not told $status: $*"; }
  pass "told $status: $*"
}
told 2 run sweep.yaml --bogus
told 2 rnu
told 2 run sweep.yaml --memory lots
told 0 run --help
told 1 run no-such.yaml
rm -f exit
for rank in OMPI_COMM_WORLD_RANK PMIX_RANK; do
  expect 2 "unknown option" env PTQSWEEP_EXIT_FILE="$PWD/exit" $rank=1 \
    "$PTQSWEEP" run sweep.yaml --bogus
  [ ! -e exit ] || fail "another rank than 0 wrote the exit file"
  expect 2 "unknown option" env PTQSWEEP_EXIT_FILE="$PWD/exit" $rank=0 \
    "$PTQSWEEP" run sweep.yaml --bogus
  [ "$(cat exit)" = 2 ] || fail "$rank: no status was left"
  rm exit
done

# --- The sweep file -----------------------------------------------------------
sed 's/dtype:.*/dtype: [mxint3, itn4]/' sweep.yaml >bad.yaml
expect 1 "bad.yaml:9:.*itn4.*int" run bad.yaml
sed 's/method:/methd:/' sweep.yaml >bad.yaml
expect 1 "bad.yaml:[0-9]+:.*methd.*method" run bad.yaml
sed 's/group:.*/group: [0.5]/' sweep.yaml >bad.yaml
expect 1 "bad.yaml:[0-9]+:.*0.5" run bad.yaml
sed 's/windows: 6/windows: six/' sweep.yaml >bad.yaml
expect 1 "bad.yaml:[0-9]+:.*six" run bad.yaml
sed 's/models:.*/models: [nothing-*]/' sweep.yaml >bad.yaml
expect 1 "bad.yaml:2:.*nothing-" run bad.yaml
sed 's/dtype:.*/dtype: ["int4:asym", mxint4]/; s/- rtn$/- hqq/' sweep.yaml >bad.yaml
expect 1 "bad.yaml:11: method 'hqq' cannot be combined with dtype 'mxint4' and group 16: .* zero point.*'exclude'" run bad.yaml
sed 's/- rtn$/- {name: eora, rnk: 8}/' sweep.yaml >bad.yaml
expect 1 "bad.yaml:11: .*eora.*rank.*no option 'rnk'" run bad.yaml
printf 'models: [a\n' >bad.yaml
expect 1 "bad.yaml:[0-9]+" run bad.yaml

# --- Texts and tokens ---------------------------------------------------------
sed 's/eval.txt, windows: 6/eval.txt, windows: 6000/' sweep.yaml >bad.yaml
expect 1 "eval.txt.*6000" run bad.yaml
expect 1 "eval.txt.*6000" plan bad.yaml
# lm-eval scores a document to its end, and needs no position for its last token.
cp -rL opt-25k named && "$PTQ_PYTHON" - <<'PY'
import json
vocab = json.load(open("named/tokenizer.json"))["model"]["vocab"]
config = json.load(open("named/tokenizer_config.json"))
config["eos_token"] = next(t for t, i in vocab.items() if i == 5)
json.dump(config, open("named/tokenizer_config.json", "w"))
PY
sed 's/eval.txt, windows: 6, length: 64/&, preset: lm-eval/
  s/models:.*/models: [named]/; /requests:/d' sweep.yaml >bad.yaml
rm -f .tokens/*.special.npy
expect 0 "long enough is known after" plan bad.yaml
tokens bad.yaml
expect 0 "lm-eval scores 378 tokens of '.*eval.txt' and leaves [0-9]+ out" \
  plan bad.yaml
sed -i 's/windows: 6, length: 64, preset/windows: 1, length: 513, preset/' bad.yaml
expect 0 "" run bad.yaml "${one[@]}" -o whole.h5
sed 's/eval.txt/absent.txt/' sweep.yaml >bad.yaml
expect 1 "absent.txt" run bad.yaml
echo "Another text." >fresh.txt
sed 's/eval.txt/fresh.txt/' sweep.yaml >bad.yaml
expect 1 "prepare.py" run bad.yaml
cp -rL opt-25k small && "$PTQ_PYTHON" - <<'PY'
import json
config = json.load(open("small/config.json"))
config["vocab_size"] = 300
json.dump(config, open("small/config.json", "w"))
PY
sed 's/models:.*/models: [small]/' sweep.yaml >bad.yaml
expect 1 "small" run bad.yaml

# --- Checkpoints --------------------------------------------------------------
broken() { rm -rf broken; cp -rL llama-25k broken; }
sed 's/models:.*/models: [broken]/' sweep.yaml >bad.yaml
broken; rm broken/config.json
expect 1 "broken/config.json" run bad.yaml
broken; truncate -s 20000 broken/model.safetensors
expect 1 "broken/model.safetensors" run bad.yaml
broken; printf '\377\377\377\377\377\377\377\177' | dd of=broken/model.safetensors conv=notrunc 2>/dev/null
expect 1 "broken/model.safetensors" run bad.yaml
broken; sed -i 's/"model_type": *"llama"/"model_type": "mamba"/' broken/config.json
expect 1 "mamba.*llama" run bad.yaml
broken; sed -i 's/"hidden_size": *32/"hidden_size": 64/' broken/config.json
expect 1 "broken/.*(shape|64)" run bad.yaml

# NaN in one model's weights: its points fail, the other model's are done.
broken; "$PTQ_PYTHON" - <<'PY'
import json, struct
path = "broken/model.safetensors"
data = bytearray(open(path, "rb").read())
n = struct.unpack("<Q", data[:8])[0]
header = json.loads(data[8:8 + n])
name = "model.layers.0.mlp.down_proj.weight"
start = 8 + n + header[name]["data_offsets"][0]
data[start:start + 2] = b"\xc0\x7f"  # bfloat16 NaN
open(path, "wb").write(data)
PY
sed 's/models:.*/models: [broken, opt-25k]/' sweep.yaml >nan.yaml
tokens nan.yaml
expect 3 "1 points done, 1 failed" run nan.yaml "${one[@]}" -o nan.h5
expect 0 "down_proj.weight" "$PTQSWEEP" status nan.h5
expect 3 "1 failed points are left alone" run nan.yaml "${one[@]}" -o nan.h5
expect 3 "1 of 2 points to do" run nan.yaml "${one[@]}" -o nan.h5 --retry-failed

# --- Stores -------------------------------------------------------------------
run sweep.yaml "${one[@]}" -o store.h5 --quiet
expect 1 "store.h5.*another" run sweep.yaml -o store.h5
expect 0 "0 of 2 points to do" run sweep.yaml "${one[@]}" -o store.h5
expect 0 "all 2 points are there already" run sweep.yaml "${one[@]}" -o store.h5
echo "not a store" >text.h5
expect 1 "text.h5" run sweep.yaml "${one[@]}" -o text.h5
expect 1 "text.h5" "$PTQSWEEP" status text.h5
expect 1 "absent.h5" "$PTQSWEEP" fit absent.h5
expect 1 "no/such" run sweep.yaml "${one[@]}" -o no/such/dir.h5
grep -q "not a store" text.h5 || fail "a file that is no store was overwritten"

# A full disk: refused at creation, and nothing is left behind.
if [ "$(id -u)" = 0 ] && mkdir tiny && mount -t tmpfs -o size=64k tmpfs tiny 2>/dev/null; then
  got=0
  run sweep.yaml -o tiny/full.h5 >full.out 2>&1 || got=$?
  left=$(ls -A tiny | grep -vc lock || true)
  umount tiny
  [ "$got" = 1 ] || { cat full.out >&2; fail "full disk: exit $got"; }
  grep -q "tiny/full.h5" full.out || { cat full.out >&2; fail "full disk: no file named"; }
  [ "$left" = 0 ] || fail "full disk: something was left behind"
  pass "a full disk"
else
  echo "not run: a full disk (needs root and tmpfs)"
fi
