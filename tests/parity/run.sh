#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-3.0-or-later
# ./run.sh parity [--wikitext DIR] [--gptq DIR]: live, with transformers and
# the references.
set -euo pipefail
build=$1; shift
top=$(cd "$(dirname "$0")/../.." && pwd)
. "$top/tests/parity/environment.sh"
make_model
exec "$parity_python" "$top/tests/parity/parity.py" --build "$build" \
  --model "$model" "$@"
