#!/bin/sh
# The plans of study.toml: per task from all its probes, at a quarter of their parameters; and one shuffled for each seed.
#
#     sh figures/plan/plans.sh runs/probes
set -e
probes=$1 plans=$(dirname "$0")/plans
for task in stsb mrpc sst2; do
    msplora-analyze plan "$probes/$task"-lora-r8-seed* --mean-rank 2 -o "$plans/planned/$task"
    for seed in 3 4 5; do
        msplora-analyze plan "$probes/$task"-lora-r8-seed* --mean-rank 2 --shuffle "$seed" -o "$plans/shuffled/$task-$seed"
    done
done
