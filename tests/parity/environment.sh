# SPDX-License-Identifier: GPL-3.0-or-later
# Sourced by parity and bench: PyTorch in an environment of its own outside the
# repository (PTQ_PARITY_VENV names one that is there), a newer transformers
# beside it (PTQ_PARITY_NEWER_VENV), the number formats' tools
# (PTQ_PARITY_FORMATS_VENV), curvlinops (PTQ_PARITY_CURVATURE_VENV), llama.cpp
# (PTQ_LLAMA_CPP_VENV), and the checkpoints of SmolLM2-135M and Gemma-3-270m.
# Sets parity_python, newer_python, formats_python, curvature_python,
# llama_python, cache, model, gguf and gemma.
cache=${XDG_CACHE_HOME:-$HOME/.cache}/ptqsweep
model=$cache/smollm2-135m
gemma=$cache/gemma3-270m
venv=${PTQ_PARITY_VENV:-$cache/parity-venv}
parity_python=$venv/bin/python

if [ -z "${PTQ_PARITY_VENV:-}" ] &&
   ! cmp -s "$top/tests/parity/requirements.txt" "$venv/requirements.txt"; then
  echo "installing PyTorch and transformers into $venv (gigabytes)" >&2
  mkdir -p "$cache"
  python3 -m venv --clear "$venv"
  "$parity_python" -m pip install -q --disable-pip-version-check \
    -r "$top/tests/parity/requirements.txt"
  cp "$top/tests/parity/requirements.txt" "$venv/requirements.txt"
fi

# beside_torch GIVEN VENV REQUIREMENTS [PIP-OPTION...]: an environment of its own
# that finds PyTorch in the first, unless the caller GIVEN one.
beside_torch() {
  local given=$1 venv=$2 pins=$top/tests/parity/$3 site; shift 3
  [ -z "$given" ] || return 0
  ! cmp -s "$pins" "$venv/requirements.txt" || return 0
  python3 -m venv --clear "$venv"
  site='import site; print(site.getsitepackages()[0])'
  "$parity_python" -c "$site" >"$("$venv/bin/python" -c "$site")/torch.pth"
  "$venv/bin/python" -m pip install -q --disable-pip-version-check "$@" \
    -r "$pins"
  cp "$pins" "$venv/requirements.txt"
}

# The architectures that came later, and lm-evaluation-harness.
newer=${PTQ_PARITY_NEWER_VENV:-$cache/parity-newer-venv}
newer_python=$newer/bin/python
make_newer() {
  beside_torch "${PTQ_PARITY_NEWER_VENV:-}" "$newer" requirements-newer.txt
}

# The formats' own tools.
formats=${PTQ_PARITY_FORMATS_VENV:-$cache/parity-formats-venv}
formats_python=$formats/bin/python
make_formats() {
  beside_torch "${PTQ_PARITY_FORMATS_VENV:-}" "$formats" \
    requirements-formats.txt --no-deps
}

# curvlinops.
curvature=${PTQ_PARITY_CURVATURE_VENV:-$cache/parity-curvature-venv}
curvature_python=$curvature/bin/python
make_curvature() {
  beside_torch "${PTQ_PARITY_CURVATURE_VENV:-}" "$curvature" \
    requirements-curvature.txt --no-deps
}

# llama.cpp, which pip compiles, and the file that our model is made of.
llama=${PTQ_LLAMA_CPP_VENV:-$cache/llama-cpp-venv}
llama_python=$llama/bin/python
gguf=$cache/smollm2-135m.gguf
make_llama_cpp() {
  if [ -z "${PTQ_LLAMA_CPP_VENV:-}" ] &&
     ! "$llama_python" -c 'import llama_cpp' >/dev/null 2>&1; then
    echo "compiling llama.cpp into $llama" >&2
    python3 -m venv --clear "$llama"
    "$llama_python" -m pip install -q --disable-pip-version-check \
      llama-cpp-python==0.3.36
  fi
  [ -f "$gguf" ] ||
    "$parity_python" "$top/sweeps/smollm2.py" -o "$model" --keep-gguf "$gguf"
}

make_model() {
  [ -f "$model/model.safetensors" ] ||
    "$parity_python" "$top/sweeps/smollm2.py" -o "$model" --keep-gguf "$gguf"
}

make_gemma() {
  [ -f "$gemma/config.json" ] ||
    "$parity_python" "$top/sweeps/gemma3.py" -o "$gemma"
}
