#!/usr/bin/env bash
# A Slurm of one machine on the loopback interface, for tests: munged, slurmctld and slurmd, without systemd or cgroups.
#   up.sh FOLDER      then SLURM_CONF=FOLDER/slurm.conf; stop it with down.sh FOLDER
# Needs root, slurm-wlm and munge (`make test-slurm` installs them).
set -euo pipefail
S=$1
HOST=$(hostname -s)
CPUS=8                       # advertised; may exceed the real ones
mkdir -p "$S"/{munge,spool-ctld,spool-d,log,pid}
chmod 755 "$S" "$S/munge"
chown munge:munge "$S/munge"

dd if=/dev/urandom of="$S/munge/key" bs=1024 count=1 status=none
chown munge:munge "$S/munge/key"
chmod 400 "$S/munge/key"
setpriv --reuid munge --regid munge --clear-groups munged --force --key-file="$S/munge/key" --socket="$S/munge/sock" \
  --pid-file="$S/munge/munged.pid" --log-file="$S/munge/munged.log" --seed-file="$S/munge/seed"

# cred_expire is also how long a requeued job waits before it may start. Partition `urgent` puts jobs of `main` back into the queue.
cat > "$S/slurm.conf" <<CONF
ClusterName=test
SlurmctldHost=$HOST(127.0.0.1)
SlurmctldAddr=127.0.0.1
SlurmctldPort=16817
SlurmdPort=16818
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket=$S/munge/sock,cred_expire=5
CredType=cred/munge
StateSaveLocation=$S/spool-ctld
SlurmdSpoolDir=$S/spool-d
SlurmctldPidFile=$S/pid/slurmctld.pid
SlurmdPidFile=$S/pid/slurmd.pid
SlurmctldLogFile=$S/log/slurmctld.log
SlurmdLogFile=$S/log/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
MpiDefault=none
SwitchType=switch/none
SlurmdParameters=config_overrides
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SchedulerType=sched/backfill
SchedulerParameters=sched_interval=5,batch_sched_delay=0,sched_min_interval=0,bf_interval=1,bf_min_age_reserve=0,requeue_setup_env_fail
MinJobAge=86400
KillWait=5
OverTimeLimit=0
InactiveLimit=0
ReturnToService=2
JobRequeue=1
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
AccountingStorageType=accounting_storage/none
NodeName=$HOST NodeAddr=127.0.0.1 NodeHostname=$HOST CPUs=$CPUS Boards=1 SocketsPerBoard=1 CoresPerSocket=$CPUS ThreadsPerCore=1 RealMemory=16000 State=UNKNOWN
PartitionName=main   Nodes=$HOST Default=YES MaxTime=60 DefaultTime=10 PriorityTier=1  PreemptMode=REQUEUE GraceTime=${GRACE:-5} State=UP
PartitionName=urgent Nodes=$HOST Default=NO  MaxTime=60 DefaultTime=10 PriorityTier=10 PreemptMode=OFF State=UP
CONF
export SLURM_CONF="$S/slurm.conf"
slurmctld -f "$SLURM_CONF"
slurmd -f "$SLURM_CONF" -N "$HOST"
for _ in $(seq 150); do
  sinfo -h -o %T 2>/dev/null | grep -qE 'idle|mix|alloc' && exit 0
  sleep 0.1
done
echo "Slurm did not come up; see $S/log" >&2
exit 1
