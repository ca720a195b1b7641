#!/bin/bash
# SPDX-License-Identifier: GPL-3.0-or-later
# A sweep under Slurm: sbatch sweeps/slurm.sh sweeps/quick.yaml -o quick.h5
#
# Prepare tokens first where there is a Python (sweeps/prepare.py SPEC). Five
# minutes before the wall time, and at pre-emption, Slurm sends SIGUSR1: the
# sweep hands out nothing more, ends with status 75, and the job requeues
# itself to go on. Whatever stands here can be given to sbatch instead.
#
# Environment: PTQSWEEP (the program), MPIRUN, MPIRUN_FLAGS (more flags),
# MAX_REQUEUES (1000).
#SBATCH --job-name=ptqsweep
#SBATCH --ntasks=65
#SBATCH --cpus-per-task=1
#SBATCH --time=04:00:00
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --signal=B:USR1@300
set -u
program=${PTQSWEEP:-build/ptqsweep}
launcher='' stop=''

# mpirun answers SIGTERM by killing the ranks, but hands SIGUSR1 on to them.
trap 'stop=1; [ -z "$launcher" ] || kill -USR1 "$launcher"' USR1 USR2 TERM

# With --enable-recovery, which lets the survivors of a dead rank finish, mpirun
# always ends with 0; rank 0 leaves the program's status in a file.
export PTQSWEEP_EXIT_FILE=$PWD/ptqsweep-$SLURM_JOB_ID.exit
: >"$PTQSWEEP_EXIT_FILE"

# `run` starts nothing that cannot end by then; newer Slurms say it themselves.
if [ -z "${SLURM_JOB_END_TIME:-}" ] &&
  end=$(squeue -h -j "$SLURM_JOB_ID" -o %e 2>/dev/null) &&
  end=$(date -d "$end" +%s 2>/dev/null); then
  export SLURM_JOB_END_TIME=$end
fi

root=''
[ "$(id -u)" != 0 ] || root=--allow-run-as-root
# shellcheck disable=SC2086  # flags are words
${MPIRUN:-mpirun} $root --enable-recovery --bind-to none \
  -x PTQSWEEP_EXIT_FILE ${MPIRUN_FLAGS:-} -n "$SLURM_NTASKS" \
  "$program" run "$@" &
launcher=$!
[ -z "$stop" ] || kill -USR1 "$launcher"
# `wait` returns when a trap runs: wait until the launcher is gone.
while kill -0 "$launcher" 2>/dev/null; do
  wait "$launcher"
done
status=$(cat "$PTQSWEEP_EXIT_FILE" 2>/dev/null)
# A stop that came before the ranks could answer it is a stop all the same.
[ -n "$status" ] || [ -z "$stop" ] || status=75
[ -n "$status" ] ||
  echo "slurm.sh: rank 0 ended without a status; where it was killed, the same" \
    "sbatch goes on" >&2
status=${status:-1}
rm -f "$PTQSWEEP_EXIT_FILE"
if [ "$status" -eq 75 ]; then
  if [ "${SLURM_RESTART_COUNT:-0}" -ge "${MAX_REQUEUES:-1000}" ]; then
    echo "slurm.sh: stopped early after $SLURM_RESTART_COUNT requeues, no more;" \
      "the same sbatch goes on" >&2
  elif scontrol requeue "$SLURM_JOB_ID"; then
    sleep 60 # Slurm ends this script
  else
    echo "slurm.sh: cannot requeue; the same sbatch goes on" >&2
  fi
fi
exit "$status"
