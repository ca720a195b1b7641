#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-3.0-or-later
# ./run.sh bench [--no-rivals | engine | laws]: speed as ratios measured in one
# run.
#
#   engine alone: tests/bench/engine.sh; laws alone: the 100,000 points below
#   GPTQ of a 4096 x 4096 layer, beside the matrix products of that size
#   36 MX formats of it by static GPTQ, beside 36 single runs
#   rounding of a 4096 x 4096 matrix to every number format, beside memcpy
#   a point on two threads of a rank, and on a team of two ranks, beside one
#   100,000 points: a regression on 40 columns, a forest, the report
#   the forward pass on SmolLM2-135M at 512 and 2048 tokens, in float32 and in
#   bf16: the share of what the same two processes reach multiplying matrices,
#   and, turn by turn, transformers in both and llama.cpp, on two threads
#   gradients and Hessian-vector products there: their cost in forward passes,
#   and, turn by turn, PyTorch's
#
# OPENBLAS_CORETYPE and OPENBLAS_L2_SIZE are unset, so OpenBLAS picks the CPU's
# own kernel; each program prints which one ran.
set -euo pipefail
build=$1; shift
top=$(cd "$(dirname "$0")/../.." && pwd)
rivals=1
unset OPENBLAS_CORETYPE OPENBLAS_L2_SIZE

bench_laws() {
  local dir TIMEFORMAT='report   %U s of CPU and %S s of the system, %R s of time'
  dir=$(mktemp -d)
  "$build/tests/bench/bench_laws" "$dir/laws.h5"
  time "$build/ptqsweep" report "$dir/laws.h5" -o "$dir/report" >/dev/null
  rm -rf "$dir"
}

case ${1:-} in
  laws)
    cmake --build "$build" --target bench_laws >/dev/null
    bench_laws
    exit ;;
  --no-rivals) rivals=0 ;;
  engine)
    cmake --build "$build" --target bench >/dev/null
    exec bash "$top/tests/bench/engine.sh" "$build" ;;
  "") ;;
  *) echo "usage: ./run.sh bench [--no-rivals | engine | laws]" >&2; exit 2 ;;
esac

cmake --build "$build" --target bench >/dev/null
. "$top/tests/parity/environment.sh"
make_model

echo "== one layer =="
"$build/tests/bench/bench_gptq" 4096 2
echo
echo "== one layer, 36 formats =="
"$build/tests/bench/bench_sharing" 4096 2
echo
echo "== rounding =="
"$build/tests/bench/bench_round"
echo
echo "== the sweep engine =="
bash "$top/tests/bench/engine.sh" "$build"
echo
echo "== threads of a rank =="
bash "$top/tests/bench/threads.sh" "$build"
echo
echo "== teams of ranks =="
bash "$top/tests/bench/teams.sh" "$build"
echo
echo "== laws: 100,000 points =="
bench_laws
echo
echo "== forward pass, SmolLM2-135M =="
if [ "$rivals" = 1 ]; then
  make_llama_cpp
  "$parity_python" "$top/tests/bench/rivals.py" \
    --bench "$build/tests/bench/bench_forward" --model "$model" \
    --llama-python "$llama_python" --gguf "$gguf"
else
  "$build/tests/bench/bench_forward" "$model" 512 2048
  "$build/tests/bench/bench_forward" --bf16 "$model" 512 2048
  echo "transformers, llama.cpp: not run (--no-rivals)"
fi
echo
echo "== gradient and Hessian-vector products, SmolLM2-135M =="
bounds="--max-gradient 3.2 --max-product 7"
if [ "$rivals" = 1 ]; then
  # shellcheck disable=SC2086
  "$parity_python" "$top/tests/bench/rivals_gradient.py" \
    --bench "$build/tests/bench/bench_gradient" --model "$model" $bounds
else
  # shellcheck disable=SC2086
  "$build/tests/bench/bench_gradient" $bounds "$model" 512
  echo "PyTorch: not run (--no-rivals)"
fi
