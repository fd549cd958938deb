#!/bin/sh
# Everything that only a GPU can tell. Not run yet: no GPU could be had.
#   sh experiments/on_gpu.sh TRAIN TEST OUT [STEP...]
# TRAIN and TEST are the competition's files, OUT is a folder for logs, reports and submissions; what is
# in it goes into README and LOG.md. Without a STEP: tests, bench, small, reference and best-gpu. `ref500`
# must be asked for. WORK=FOLDER keeps the runs there, so that a step that was cut off goes on when it is
# given again. Nothing here writes into the repository.
set -u
train=$(realpath "$1") test=$(realpath "$2")
mkdir -p "$3" && out=$(realpath "$3")
shift 3
root=$(cd "$(dirname "$0")/.." && pwd)
export PYTHONPATH="$root${PYTHONPATH:+:$PYTHONPATH}"
work=${WORK:-$(mktemp -d)}
mkdir -p "$work" && cd "$work" || exit 1
nvidia-smi >"$out/gpu.txt" 2>&1

# A step's log and its last line, whose `seconds` is its time.
run() {
  name=$1
  shift
  python -m hbcomp "$@" --train "$train" --test "$test" >"$out/$name.json" 2>"$out/$name.txt"
}

# Captured steps train like eager ones, nobody waits within an epoch, one launch a step.
step_tests() { (cd "$root" && python -m pytest -q tests/training) >"$out/tests.txt" 2>&1; }

# The reference loop against ours; streams against stacked; fp32, tf32, bf16; the roofline.
step_bench() {
  python -m hbcomp.bench --save >"$out/bench.json" 2>"$out/bench.txt"
  cp experiments/bench/* "$out/"
}

# A 5-fold run over 100,000 rows: aimed at under 2 minutes with start-up.
step_small() { run small cv resnet --set 'folds.seeds=[0]' --name small --profile; }

# 500 epochs of the reference net: its rows/s times 500 x 100,000 rows are aimed at under 5 minutes.
step_reference() {
  run reference cv reference --name ref --profile --set train.n_epochs=20 --set folds.n_folds=2
}

# The reference solution as it was, 5 folds of 500 epochs, and its submission.
step_ref500() { run ref500 cv reference --name ref500; }

# The preset for a GPU: aimed at under 30 minutes and at most 80 per 20k.
step_best_gpu() { run best-gpu compete best-gpu; }

for step in ${*:-tests bench small reference best-gpu}; do
  echo "$step"
  "step_$(echo "$step" | tr - _)"
done
cp submissions/*.csv "$out/" 2>/dev/null
for report in experiments/*/report.json; do
  [ -e "$report" ] && cp "$report" "$out/$(basename "$(dirname "$report")").report.json"
done
[ -e experiments/best-gpu/recipe.json ] && cp experiments/best-gpu/recipe.json "$out/"
tail -n 3 "$out"/*.txt
