#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-3.0-or-later
# The front door: installs what is missing, builds, and runs.
set -euo pipefail
top=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
build=${PTQ_BUILD_DIR:-$top/build}
venv=$build/venv
program=$build/ptqsweep

usage() {
  cat <<'TEXT'
usage: ./run.sh [COMMAND]

  (none)                 build, run sweeps/quick.yaml, fit, report
  build                  install what is missing and build build/ptqsweep
  sweep SPEC [OPTIONS]   prepare tokens, run SPEC under mpirun on all cores;
                         OPTIONS go to `ptqsweep run`
  test [--all] [FILTER]  build and run the tests (--all: the long ones too)
  bench [engine|laws]    measure speed as ratios in one run; or the sweep
                         engine alone: scheduling, store, predictions; or
                         regression, forest and report of 100,000 points
  parity [--wikitext D] [--gptq D] [--microxcaling D]
                         compare live with transformers and the references
  clean                  remove what was built and cached

Environment: RANKS=n working ranks (default: the cores), PTQ_BUILD_DIR,
MPIRUN (the launcher), MPIRUN_FLAGS (more flags for it).
TEXT
}

die() { echo "run.sh: $*" >&2; exit 1; }
say() { echo "run.sh: $*" >&2; }

# --- What the build needs ----------------------------------------------------
# One row a requirement: test, Debian package, usual module name.
requirements() {
  cat <<'ROWS'
cmd:cc                  build-essential      gcc
cmd:make                build-essential      make
cmd:cmake               cmake                cmake
cmd:pkg-config          pkg-config           pkgconf
cmd:mpicc               libopenmpi-dev       openmpi
cmd:mpirun              openmpi-bin          openmpi
cmd:python3             python3              python
py:venv,ensurepip       python3-venv         python
hdf5                    libhdf5-openmpi-dev  hdf5-parallel
blas                    libopenblas-dev      openblas
onednn                  libdnnl-dev          onednn
pc:gsl                  libgsl-dev           gsl
xgboost                 libxgboost-dev       xgboost
pc:yaml-0.1             libyaml-dev          libyaml
pc:jansson              libjansson-dev       jansson
pc:libxxhash            libxxhash-dev        xxhash
header:zlib.h           zlib1g-dev           zlib
pc:cmocka               libcmocka-dev        cmocka
cmd:gnuplot             gnuplot-nox          gnuplot
ROWS
}

compiles() {  # compiles a line of C with the given compiler
  local cc=$1 text=$2 dir rc=0
  command -v "$cc" >/dev/null || return 1
  dir=$(mktemp -d)
  echo "$text" >"$dir/t.c"
  "$cc" -c "$dir/t.c" -o "$dir/t.o" ${3:-} >/dev/null 2>&1 || rc=1
  rm -rf "$dir"
  return $rc
}

has() {
  case $1 in
    cmd:*) command -v "${1#cmd:}" >/dev/null ;;
    py:*) python3 -c "import ${1#py:}" >/dev/null 2>&1 ;;
    pc:*) pkg-config --exists "${1#pc:}" 2>/dev/null ;;
    header:*) compiles cc "#include <${1#header:}>" ;;
    hdf5) command -v h5pcc >/dev/null || command -v h5pcc.openmpi >/dev/null ||
      [ -n "${HDF5_ROOT:-}" ] ;;
    xgboost) compiles cc "#include <xgboost/c_api.h>" ||
      [ -n "${XGBOOST_ROOT:-}" ] ;;
    onednn) compiles cc "#include <oneapi/dnnl/dnnl.h>" ||
      [ -n "${ONEDNN_ROOT:-}" ] ||
      [[ " ${PTQ_CMAKE_FLAGS:-} " == *" -DPTQ_ONEDNN=OFF "* ]] ;;
    blas) pkg-config --exists openblas 2>/dev/null || [ -n "${OPENBLAS_ROOT:-}" ] ;;
  esac
}

missing() {  # column 2 (packages) or 3 (modules) of what is missing
  local test package module
  while read -r test package module; do
    has "$test" || { [ "$1" = package ] && echo "$package" || echo "$module"; }
  done < <(requirements) | sort -u
}

as_root() {
  if [ "$(id -u)" = 0 ]; then "$@"; else sudo -n "$@"; fi
}

can_install() {
  command -v apt-get >/dev/null &&
    { [ "$(id -u)" = 0 ] || { command -v sudo >/dev/null && sudo -n true 2>/dev/null; }; }
}

install_missing() {
  local packages
  packages=$(missing package)
  [ -n "$packages" ] || return 0
  if can_install; then
    say "installing $(echo $packages)"
    as_root apt-get update -qq
    as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq \
      --no-install-recommends $packages openssh-client >/dev/null
    packages=$(missing package)
    [ -n "$packages" ] || return 0
  fi
  {
    echo "run.sh: missing, and not installable from here:"
    local test package module
    while read -r test package module; do
      has "$test" || printf '  %-22s Debian: %-20s module: %s\n' "$test" "$package" "$module"
    done < <(requirements)
    echo "Install the packages, or load the modules, and run again. Libraries in"
    echo "unusual places: HDF5_ROOT, OPENBLAS_ROOT, ONEDNN_ROOT, PKG_CONFIG_PATH,"
    echo "CMAKE_PREFIX_PATH. Without oneDNN: PTQ_CMAKE_FLAGS=-DPTQ_ONEDNN=OFF."
  } >&2
  exit 1
}

# --- Build -------------------------------------------------------------------
do_build() {
  install_missing
  cmake -S "$top" -B "$build" -DCMAKE_BUILD_TYPE=RelWithDebInfo \
    ${PTQ_CMAKE_FLAGS:-} >"$build.configure.log" 2>&1 ||
    { cat "$build.configure.log" >&2; die "cmake failed"; }
  rm -f "$build.configure.log"
  cmake --build "$build" -j "$(nproc)" -- ${1:-} >"$build/build.log" 2>&1 ||
    { tail -n 40 "$build/build.log" >&2; die "the build failed: $build/build.log"; }
}

# Python for tokenizing: its own environment, pinned versions.
do_python() {
  local pins=$top/sweeps/requirements.txt
  if ! cmp -s "$pins" "$venv/requirements.txt"; then
    say "installing the Python packages of sweeps/requirements.txt"
    python3 -m venv --clear "$venv" || die "python3 -m venv failed"
    "$venv/bin/python" -m pip install -q --disable-pip-version-check -r "$pins" ||
      die "pip could not install $pins"
    cp "$pins" "$venv/requirements.txt"
  fi
}

# Python for analysis/ptqsweep.py and its examples, which only tests run.
do_analysis_python() {
  local pins=$top/analysis/requirements.txt venv=$venv-analysis
  if ! cmp -s "$pins" "$venv/requirements.txt"; then
    say "installing the Python packages of analysis/requirements.txt"
    python3 -m venv --clear "$venv" || die "python3 -m venv failed"
    "$venv/bin/python" -m pip install -q --disable-pip-version-check -r "$pins" ||
      die "pip could not install $pins"
    cp "$pins" "$venv/requirements.txt"
  fi
}

# --- Running -----------------------------------------------------------------
mpi_flags() {
  local version
  version=$(${MPIRUN:-mpirun} --version 2>/dev/null | head -n 1)
  case $version in
    *"Open MPI"*|*OpenRTE*)
      echo "--oversubscribe --bind-to none"
      echo "-x PTQSWEEP_EXIT_FILE"
      [ ! -t 2 ] || echo "-x PTQSWEEP_TERMINAL"
      [ "$(id -u)" != 0 ] || echo "--allow-run-as-root"
      # A dead worker need not end the run.
      case $version in *" 4."*|*" 5."*) echo "--enable-recovery" ;; esac
      # Alone on this machine, mpirun needs no ssh to start.
      command -v ssh >/dev/null || echo "--mca plm_rsh_agent /bin/false" ;;
  esac
  echo "${MPIRUN_FLAGS:-}"
}

do_sweep() {
  [ $# -ge 1 ] || { usage >&2; exit 2; }
  local spec=$1; shift
  [ -f "$spec" ] || die "no sweep file '$spec'"
  local ranks=${RANKS:-$(nproc)} sets=() previous=""
  case $ranks in ''|*[!0-9]*|0) die "RANKS='$ranks' is not a number of ranks" ;; esac
  for word in "$@"; do  # prepare.py reads the same overrides
    case $word in --set=*) sets+=(--set "${word#--set=}") ;; esac
    [ "$previous" != --set ] || sets+=(--set "$word")
    previous=$word
  done
  do_python
  texts "$spec"
  "$venv/bin/python" "$top/sweeps/prepare.py" "$spec" ${sets[@]+"${sets[@]}"}
  local n=1
  [ "$ranks" = 1 ] || n=$((ranks + 1))
  launch "$n" "$program" run "$spec" "$@"
}

# launch N PROGRAM...: under mpirun, with the program's own exit status. With
# --enable-recovery mpirun always ends with 0, so rank 0 leaves its status in a
# file; an empty one means that it died. mpirun answers SIGTERM and Ctrl-C by
# killing the ranks, but hands SIGUSR1 on: so it runs in a session of its own,
# and what ends this script asks the sweep to stop in order (status 75).
launch() {
  local n=$1 status launcher; shift
  local file
  file=$(mktemp)
  export PTQSWEEP_EXIT_FILE=$file
  [ ! -t 2 ] || export PTQSWEEP_TERMINAL=1
  local stop=''
  launcher=''
  trap 'stop=1; say "stopping; once more to stop at once"
    [ -z "$launcher" ] || kill -USR1 $launcher 2>/dev/null || true' INT TERM HUP USR1 USR2
  setsid ${MPIRUN:-mpirun} $(mpi_flags) -n "$n" "$@" </dev/null &
  launcher=$!
  [ -z "$stop" ] || kill -USR1 $launcher 2>/dev/null || true
  while kill -0 "$launcher" 2>/dev/null; do
    wait "$launcher" || true
  done
  trap - INT TERM HUP USR1 USR2
  status=$(cat "$file")
  # A stop that came before the ranks could answer it is a stop all the same.
  [ -n "$status" ] || [ -z "$stop" ] || status=75
  [ -n "$status" ] ||
    say "rank 0 ended without a status; where it was killed, the same command goes on"
  rm -f "$file"
  return "${status:-1}"
}

# The texts of the shipped sweeps come from a Debian package; sound ones that
# are there are left alone.
texts() {
  grep -q 'austen/' "$1" || return 0
  local dir
  dir=$(cd "$(dirname "$1")" && pwd)/austen
  "$venv/bin/python" "$top/sweeps/austen.py" -o "$dir"
}

do_quick() {
  do_build
  local status=0
  do_sweep "$top/sweeps/quick.yaml" -o "$top/quick.h5" || status=$?
  case $status in
    0) ;;
    3) say "some points failed: build/ptqsweep status quick.h5" ;;
    75) say "stopped early; ./run.sh goes on"; exit 75 ;;
    *) die "the sweep ended with status $status" ;;
  esac
  "$program" fit "$top/quick.h5"
  "$program" report "$top/quick.h5" -o "$top/report"
  echo "The results are in quick.h5, the report is report/index.html."
}

# Other readers of stores, and a Slurm of this one machine; a test that lacks
# its own says so.
for_long_tests() {
  can_install || return 0
  say "installing what the long tests need"
  as_root apt-get update -qq || true
  as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq \
    --no-install-recommends slurm-wlm munge hdf5-tools python3-h5py >/dev/null ||
    say "some of slurm-wlm, munge, hdf5-tools, python3-h5py are missing"
}

do_test() {
  local filter=() label=(-LE long)
  for word in "$@"; do
    case $word in
      --all) label=(); for_long_tests ;;
      *) filter=(-R "$word") ;;
    esac
  done
  do_build
  do_python
  do_analysis_python
  cmake -S "$top" -B "$build" -DPTQ_PYTHON="$venv/bin/python" \
    -DPTQ_ANALYSIS_PYTHON="$venv-analysis/bin/python" >/dev/null
  cmake --build "$build" -j "$(nproc)" >"$build/build.log" 2>&1 ||
    { tail -n 40 "$build/build.log" >&2; die "the build failed"; }
  # Two at a time: many wait. Those with MPI ranks exclude one another.
  (cd "$build" && ctest -j 2 --output-on-failure --no-tests=error \
    ${label[@]+"${label[@]}"} ${filter[@]+"${filter[@]}"})
}

case ${1:-} in
  "") do_quick ;;
  build) do_build; say "built $program" ;;
  sweep) shift; do_build; do_sweep "$@" ;;
  test) shift; do_test "$@" ;;
  bench) shift; do_build; do_python
    export PTQ_PYTHON="$venv/bin/python"  # for tokens
    exec bash "$top/tests/bench/run.sh" "$build" "$@" ;;
  parity) shift; do_build; do_python
    export PTQ_PYTHON="$venv/bin/python"  # for tokens
    exec bash "$top/tests/parity/run.sh" "$build" "$@" ;;
  clean) rm -rf "$top"/build "$top"/build-* "$top"/sweeps/.tokens "$top"/sweeps/austen "$top"/report
         rm -f "$top/quick.h5" "$top/quick.h5.lock" ;;
  -h|--help|help) usage ;;
  *) usage >&2; exit 2 ;;
esac
