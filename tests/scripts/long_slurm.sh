#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-3.0-or-later
# sweeps/slurm.sh on a real Slurm of this one machine: submitted, signalled,
# requeued, signalled again, finished; the exports are those of an undisturbed
# run. Needs root, slurm-wlm and munge; skipped (77) without.
for word in slurmctld slurmd munged sbatch; do
  command -v $word >/dev/null || { echo "not run: no $word"; exit 77; }
done
[ "$(id -u)" = 0 ] || { echo "not run: needs root"; exit 77; }
. "$(dirname "$0")/common.sh"
make_texts
ln -s "$PTQ_SOURCE_DIR/sweeps/zoo/llama-300k" llama-300k
cat >sweep.yaml <<'YAML'
name: slurm
models: [llama-300k]
data:
  calibration: {text: calib.txt, windows: 16, length: 64, seed: 1}
  selection: {text: select.txt, windows: 4, length: 64}
  evaluation: {text: eval.txt, windows: 80, length: 64}
grid:
  dtype: [int4, int3, mxint4, mxint3]
  method: [rtn, gptq, {name: gptq, true_sequential: true}]
  group: [16, 32, row]
YAML
tokens sweep.yaml
"$PTQSWEEP" run sweep.yaml -o whole.h5 --quiet
export_all whole.h5 whole

# --- One machine, no systemd, no cgroups --------------------------------------
S=$scratch/slurm H=$(hostname -s) daemons=()
mkdir -p "$S"/{state,spool,log,run}
dd if=/dev/urandom of="$S/munge.key" bs=1 count=1024 2>/dev/null
chmod 400 "$S/munge.key"
port=$((20000 + RANDOM % 20000))
cat >"$S/slurm.conf" <<CONF
ClusterName=test
SlurmctldHost=$H(127.0.0.1)
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket=$S/run/munge.socket
CredType=cred/munge
MpiDefault=none
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SwitchType=switch/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SchedulerParameters=sched_interval=2,bf_interval=2
ReturnToService=2
SlurmctldPort=$port
SlurmdPort=$((port + 1))
SlurmctldPidFile=$S/run/slurmctld.pid
SlurmdPidFile=$S/run/slurmd.pid
SlurmdSpoolDir=$S/spool
StateSaveLocation=$S/state
SlurmctldLogFile=$S/log/slurmctld.log
SlurmdLogFile=$S/log/slurmd.log
KillWait=5
JobRequeue=1
NodeName=$H NodeAddr=127.0.0.1 CPUs=$(nproc) RealMemory=1000 State=UNKNOWN
PartitionName=debug Nodes=$H Default=YES MaxTime=60 State=UP
CONF
export SLURM_CONF=$S/slurm.conf
stop_slurm() {
  local file
  scancel -u root >/dev/null 2>&1 || true
  for file in slurmd slurmctld munged; do
    [ ! -s "$S/run/$file.pid" ] || kill "$(cat "$S/run/$file.pid")" || true
  done
  sleep 1
}
trap 'stop_slurm; cleanup' EXIT
munged --key-file="$S/munge.key" --socket="$S/run/munge.socket" \
  --pid-file="$S/run/munged.pid" --log-file="$S/log/munged.log" \
  --seed-file="$S/munge.seed" --force
slurmctld -f "$SLURM_CONF"
slurmd -f "$SLURM_CONF"
for i in $(seq 60); do
  ! sinfo -h -o %T 2>/dev/null | grep -q idle || break
  sleep 0.5
done
sinfo -h -o %T | grep -q idle ||
  { cat "$S"/log/*.log >&2; fail "Slurm did not come up"; }

# --- The job ------------------------------------------------------------------
export PTQSWEEP MPIRUN_FLAGS="--oversubscribe"
complain() { cat job.log "$S/log/slurmctld.log" >&2; fail "$@"; }
state() { scontrol show job "$job" | sed -n 's/.*JobState=\([A-Z]*\).*/\1/p'; }
restarts() { scontrol show job "$job" | sed -n 's/.*Restarts=\([0-9]*\).*/\1/p'; }
finished() {
  "$PTQSWEEP" export s.h5 --table points 2>/dev/null | grep -c ',done,' || true
}
job=$(sbatch --parsable --ntasks=2 --time=10 --output=job.log --chdir="$scratch" \
  "$PTQ_SOURCE_DIR/sweeps/slurm.sh" sweep.yaml -o s.h5)
before=0
for signal in USR1 TERM; do
  for i in $(seq 300); do
    now=$(finished)
    [ "${now:-0}" -le $((before + 2)) ] || break
    sleep 0.1
  done
  before=$now
  [ "$(state)" = RUNNING ] || complain "not running when SIG$signal was due"
  scancel --signal=$signal --batch "$job"
  for i in $(seq 200); do
    [ "$(state)" != PENDING ] || break
    sleep 0.1
  done
  [ "$(state)" = PENDING ] || complain "SIG$signal: $(state), not requeued"
  pass "SIG$signal after $before points: requeued ($(restarts))"
  before=$(finished) # what ran when the signal came ended as well
  # Slurm would wait for two minutes; slurmd refuses a credential of the second
  # in which it revoked the last one.
  sleep 3
  for i in $(seq 50); do
    scontrol update JobId="$job" StartTime=now
    sleep 0.5
    [ "$(state)" = PENDING ] || break
  done
done
for i in $(seq 1200); do
  case $(state) in COMPLETED|FAILED|CANCELLED|TIMEOUT) break ;; esac
  sleep 0.1
done
[ "$(state)" = COMPLETED ] || complain "ended as $(state)"
grep -q 'of time from now (Slurm)' job.log || complain "no time limit from Slurm"
[ "$(grep -c 'stopping: signal' job.log)" = 2 ] || complain "not stopped twice"
export_all s.h5 s
same_exports whole s
pass "the same bytes after $(restarts) requeues"
