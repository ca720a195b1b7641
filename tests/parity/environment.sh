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

# The architectures that came later, and lm-evaluation-harness: transformers in
# an environment of its own that finds PyTorch in the first.
newer=${PTQ_PARITY_NEWER_VENV:-$cache/parity-newer-venv}
newer_python=$newer/bin/python
make_newer() {
  if [ -z "${PTQ_PARITY_NEWER_VENV:-}" ] &&
     ! cmp -s "$top/tests/parity/requirements-newer.txt" \
       "$newer/requirements.txt"; then
    python3 -m venv --clear "$newer"
    "$parity_python" -c 'import site; print(site.getsitepackages()[0])' > \
      "$("$newer_python" -c 'import site; print(site.getsitepackages()[0])')/torch.pth"
    "$newer_python" -m pip install -q --disable-pip-version-check \
      -r "$top/tests/parity/requirements-newer.txt"
    cp "$top/tests/parity/requirements-newer.txt" "$newer/requirements.txt"
  fi
}

# The formats' own tools, in an environment that finds PyTorch in the first.
formats=${PTQ_PARITY_FORMATS_VENV:-$cache/parity-formats-venv}
formats_python=$formats/bin/python
make_formats() {
  if [ -z "${PTQ_PARITY_FORMATS_VENV:-}" ] &&
     ! cmp -s "$top/tests/parity/requirements-formats.txt" \
       "$formats/requirements.txt"; then
    python3 -m venv --clear "$formats"
    "$formats_python" -m pip install -q --disable-pip-version-check \
      --no-deps -r "$top/tests/parity/requirements-formats.txt"
    "$parity_python" -c 'import site; print(site.getsitepackages()[0])' > \
      "$("$formats_python" -c 'import site; print(site.getsitepackages()[0])')/torch.pth"
    cp "$top/tests/parity/requirements-formats.txt" "$formats/requirements.txt"
  fi
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

# curvlinops, in an environment that finds PyTorch in the first.
curvature=${PTQ_PARITY_CURVATURE_VENV:-$cache/parity-curvature-venv}
curvature_python=$curvature/bin/python
make_curvature() {
  if [ -z "${PTQ_PARITY_CURVATURE_VENV:-}" ] &&
     ! cmp -s "$top/tests/parity/requirements-curvature.txt" \
       "$curvature/requirements.txt"; then
    python3 -m venv --clear "$curvature"
    "$curvature_python" -m pip install -q --disable-pip-version-check \
      --no-deps -r "$top/tests/parity/requirements-curvature.txt"
    "$parity_python" -c 'import site; print(site.getsitepackages()[0])' > \
      "$("$curvature_python" -c 'import site; print(site.getsitepackages()[0])')/torch.pth"
    cp "$top/tests/parity/requirements-curvature.txt" "$curvature/requirements.txt"
  fi
}

make_model() {
  [ -f "$model/model.safetensors" ] ||
    "$parity_python" "$top/sweeps/smollm2.py" -o "$model" --keep-gguf "$gguf"
}

make_gemma() {
  [ -f "$gemma/config.json" ] ||
    "$parity_python" "$top/sweeps/gemma3.py" -o "$gemma"
}
