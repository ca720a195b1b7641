#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-3.0-or-later
# ./run.sh parity [--wikitext DIR] [--gptq DIR] [--microxcaling DIR]: live, with
# transformers, the references and the number formats' tools.
# PTQ_GPTQMODEL_PYTHON: a Python that can import gptqmodel 7.7.0;
# PTQ_AUTOROUND_PYTHON: one that can import auto-round 0.16.1.
set -euo pipefail
build=$1; shift
top=$(cd "$(dirname "$0")/../.." && pwd)
. "$top/tests/parity/environment.sh"
make_newer
make_formats
make_curvature
make_model
make_gemma
wikitext=()
for ((i = 1; i < $#; i++)); do
  next=$((i + 1))
  if [ "${!i}" = --wikitext ]; then wikitext=(--text "${!next}/test.txt"); fi
done
failed=0
# Other models and sizes each day.
seed=${PTQ_PARITY_SEED:-$(date +%Y%m%d)}
echo "random models of every architecture and matrices, PTQ_PARITY_SEED=$seed"
each="$top/tests/parity/architectures.py --build $build --seed $seed"
# shellcheck disable=SC2086
{
  "$parity_python" $each || failed=1
  "$newer_python" $each --without $("$parity_python" $each --list) || failed=1
}
echo "changed configs: refused, or computed as transformers does"
each="$top/tests/parity/configs.py --build $build"
# shellcheck disable=SC2086
{
  "$parity_python" $each || failed=1
  "$newer_python" $each --without $("$parity_python" \
    "$top/tests/parity/architectures.py" --build "$build" --list) || failed=1
}
echo "products of bfloat16"
each="$top/tests/parity/bf16.py --build $build --seed $seed"
# shellcheck disable=SC2086
{
  "$parity_python" -W ignore $each --model "$model" \
    ${wikitext[0]:+--text "${wikitext[1]}"} || failed=1
  "$newer_python" -W ignore $each --without $("$parity_python" \
    "$top/tests/parity/architectures.py" --build "$build" --list) || failed=1
}
echo "derivatives: operations, then every architecture, float64 and float32"
operations=$(mktemp -d)
"$parity_python" -W ignore "$top/tests/golden/gradients/make_operations.py" \
  --salt "$seed" -o "$operations"
for precision in "" _64; do
  PTQ_OPERATIONS="$operations/operations" \
    "$build/tests/test_operations$precision" >/dev/null || failed=1
done
rm -rf "$operations"
each="$top/tests/parity/gradients.py --build $build --seed $seed"
# shellcheck disable=SC2086
{
  "$parity_python" $each || failed=1
  "$newer_python" $each --without $("$parity_python" $each --list) || failed=1
}
echo "curvature, curvlinops"
"$curvature_python" -W ignore "$top/tests/parity/curvature.py" \
  --build "$build" || failed=1
# dmx-compressor builds its kernels with the ninja beside this Python.
PATH=$formats/bin:$PATH "$formats_python" "$top/tests/parity/formats.py" \
  --build "$build" --seed "$seed" "$@" || failed=1
"$newer_python" "$top/tests/parity/presets.py" --build "$build" || failed=1
"$newer_python" "$top/tests/parity/requests_reference.py" --build "$build" \
  --seed "$seed" --prepare "${PTQ_PYTHON:-$newer_python}" || failed=1
"$newer_python" "$top/tests/parity/materialized.py" --build "$build" \
  --prepare "${PTQ_PYTHON:-$newer_python}" ||
  failed=1
"$newer_python" "$top/tests/parity/published.py" --build "$build" \
  --model "$gemma" "${wikitext[@]}" || failed=1
"$parity_python" "$top/tests/parity/parity.py" --build "$build" \
  --model "$model" "$@" || failed=1
echo "HQQ, layer by layer"
"$formats_python" "$top/tests/parity/hqq_reference.py" \
  --tool "$build/tests/parity/quantize_layer" || failed=1
echo "QuaRot, models that are rotated for good"
"$parity_python" "$top/tests/parity/quarot_reference.py" --build "$build" ||
  failed=1
if [ -n "${PTQ_GPTQMODEL_PYTHON:-}" ]; then
  echo "GPTAQ and act_group_aware, GPTQModel"
  "$PTQ_GPTQMODEL_PYTHON" "$top/tests/parity/gptqmodel_reference.py" \
    --tool "$build/tests/parity/quantize_layer" || failed=1
else
  echo "GPTQModel: not run (PTQ_GPTQMODEL_PYTHON is not set)"
fi
if [ -n "${PTQ_AUTOROUND_PYTHON:-}" ]; then
  echo "AutoRound, blocks' errors"
  "$PTQ_AUTOROUND_PYTHON" "$top/tests/parity/autoround_reference.py" \
    --build "$build" --prepare "${PTQ_PYTHON:-$newer_python}" || failed=1
else
  echo "auto-round: not run (PTQ_AUTOROUND_PYTHON is not set)"
fi
exit $failed
