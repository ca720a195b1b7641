#!/bin/bash
# SPDX-License-Identifier: GPL-3.0-or-later
# A sweep under Slurm: sbatch sweeps/slurm.sh sweeps/quick.yaml -o quick.h5
#
# Prepare tokens first where there is a Python (sweeps/prepare.py SPEC). Two
# minutes before the wall time Slurm sends SIGUSR1: the sweep hands out nothing
# more, ends with status 75, and the job requeues itself to go on.
#SBATCH --job-name=ptqsweep
#SBATCH --ntasks=65
#SBATCH --cpus-per-task=1
#SBATCH --time=04:00:00
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --signal=B:USR1@120
set -u
program=${PTQSWEEP:-build/ptqsweep}

# With --enable-recovery, which lets the survivors of a dead rank finish, mpirun
# always ends with 0; rank 0 leaves the program's status in a file.
export PTQSWEEP_EXIT_FILE=$PWD/ptqsweep-$SLURM_JOB_ID.exit
rm -f "$PTQSWEEP_EXIT_FILE"
mpirun --enable-recovery -x PTQSWEEP_EXIT_FILE -n "$SLURM_NTASKS" \
  "$program" run "$@" &
launcher=$!
trap 'kill -USR1 $launcher' USR1 TERM
# `wait` returns when a trap runs: wait until the launcher is gone.
while kill -0 $launcher 2>/dev/null; do
  wait $launcher
done
status=$(cat "$PTQSWEEP_EXIT_FILE" 2>/dev/null)
status=${status:-1}
rm -f "$PTQSWEEP_EXIT_FILE"
if [ "$status" -eq 75 ]; then
  scontrol requeue "$SLURM_JOB_ID"
fi
exit "$status"
