#!/bin/sh
# A Slurm cluster of this one machine, to try studies on. Debian or Ubuntu, as root:
#
#     sh tests/slurm/one-node.sh          # install slurm-wlm and munge where missing, configure, start
#     sh tests/slurm/one-node.sh stop
#
# Jobs on the partition `urgent` preempt those on `main`. Jobs get CPUs only; there is no accounting (sacct) and no limit on memory.
set -e
stop() { for name in slurmd slurmctld munged; do pid=$(pidof $name) && kill $pid || true; done; }
if [ "$1" = stop ]; then stop; exit; fi

if ! command -v slurmctld >/dev/null || ! command -v munged >/dev/null; then
    apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq slurm-wlm munge
fi
mkdir -p /etc/slurm /run/munge /var/spool/slurmd /var/spool/slurmctld
chown munge:munge /run/munge
cat >/etc/slurm/slurm.conf <<CONF
ClusterName=one
SlurmctldHost=$(hostname -s)
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
StateSaveLocation=/var/spool/slurmctld
SlurmdSpoolDir=/var/spool/slurmd
SlurmctldLogFile=/var/log/slurmctld.log
SlurmdLogFile=/var/log/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
MpiDefault=none
ReturnToService=2
SlurmdTimeout=20
KillWait=5
MinJobAge=30
JobRequeue=1
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
NodeName=$(hostname -s) CPUs=$(nproc) State=UNKNOWN
PartitionName=main Nodes=ALL Default=YES MaxTime=INFINITE State=UP PriorityTier=1
PartitionName=urgent Nodes=ALL MaxTime=INFINITE State=UP PriorityTier=2
CONF
pidof munged >/dev/null || runuser -u munge -- munged
pidof slurmctld >/dev/null || slurmctld
pidof slurmd >/dev/null || slurmd
for _ in 1 2 3 4 5 6 7 8 9 10; do
    sinfo --noheader --format=%T 2>/dev/null | grep -qE 'idle|mixed|allocated' && break
    sleep 1
done
sinfo
