#!/usr/bin/env bash
# Stop what up.sh started in FOLDER.
S=$1
for file in "$S"/pid/slurmd.pid "$S"/pid/slurmctld.pid "$S"/munge/munged.pid; do
  [ -s "$file" ] || continue
  pid=$(cat "$file")
  kill "$pid" 2>/dev/null
  for _ in $(seq 100); do kill -0 "$pid" 2>/dev/null || break; sleep 0.1; done
done
