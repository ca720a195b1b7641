#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-3.0-or-later
# tests/fuzz/run.sh [RUNS [TARGET...]]: RUNS (default a million) inputs for each
# target by libFuzzer, with AddressSanitizer and UndefinedBehaviorSanitizer.
# Starts from the inputs kept in corpus/; what it finds stays in the build
# directory (PTQ_FUZZ_BUILD, default build-fuzz). Needs clang.
set -euo pipefail
runs=${1:-1000000}
[ $# -lt 1 ] || shift
targets=("$@")
[ ${#targets[@]} -gt 0 ] || targets=(safetensors index config)
top=$(cd "$(dirname "$0")/../.." && pwd)
build=${PTQ_FUZZ_BUILD:-$top/build-fuzz}
flags="-O1 -g -fsanitize=fuzzer-no-link,address,undefined"
cmake -S "$top" -B "$build" -DCMAKE_C_COMPILER=clang -DCMAKE_BUILD_TYPE=Debug \
  -DCMAKE_C_FLAGS_DEBUG="$flags -fno-sanitize-recover=undefined" \
  -DPTQ_FUZZ=ON >/dev/null
scratch=$(mktemp -d -p "$([ -w /dev/shm ] && echo /dev/shm || echo /tmp)")
trap 'rm -rf "$scratch"' EXIT
for target in "${targets[@]}"; do
  cmake --build "$build" --target "fuzz_$target" -j 2 >/dev/null
  mkdir -p "$build/found/$target"
  mkdir "$scratch/$target"
  (cd "$build/found" && PTQ_FUZZ_SCRATCH=$scratch/$target \
    "$build/tests/fuzz/fuzz_$target" -runs="$runs" -max_len=4096 \
    -timeout=10 -print_final_stats=1 -verbosity=0 "$target" \
    "$top/tests/fuzz/corpus/$target")
done
