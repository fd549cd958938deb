#!/bin/sh
# Everything that only a GPU can tell, in one go. Not run yet: no GPU could be had.
#   sh experiments/on_gpu.sh TRAIN TEST OUT     # the competition's files, a folder for the logs
# Nothing here writes into the repository; what is in OUT goes into README and LOG.md.
set -u
train=$(realpath "$1") test=$(realpath "$2")
mkdir -p "$3" && out=$(realpath "$3")
root=$(cd "$(dirname "$0")/.." && pwd)
export PYTHONPATH="$root${PYTHONPATH:+:$PYTHONPATH}"
nvidia-smi >"$out/gpu.txt" 2>&1

# Captured steps train like eager ones, nobody waits within an epoch, one launch a step.
(cd "$root" && python -m pytest -q tests/training) >"$out/tests.txt" 2>&1

work=$(mktemp -d) && cd "$work" || exit 1
# The reference loop against ours; streams against stacked; fp32, tf32, bf16; the roofline.
python -m hbcomp.bench --save >"$out/bench.json" 2>"$out/bench.txt"
cp experiments/bench/* "$out/" 2>/dev/null
# A 5-fold run over 100,000 rows: aimed at under 2 minutes with start-up.
/usr/bin/time -v python -m hbcomp.cv resnet --train "$train" --test "$test" --set 'folds.seeds=[0]' \
  --name small --profile >"$out/small.json" 2>"$out/small.txt"
# 500 epochs of the reference net: its rows/s times 500 x 100,000 rows are aimed at under 5 minutes.
timeout 300 python -m hbcomp.cv reference --train "$train" --test "$test" --name ref --profile \
  --set train.n_epochs=20 --set folds.n_folds=2 >"$out/reference.json" 2>"$out/reference.txt"
# The preset for a GPU: aimed at under 30 minutes and at most 80 per 20k.
/usr/bin/time -v python -m hbcomp.compete best-gpu --train "$train" --test "$test" \
  >"$out/best-gpu.json" 2>"$out/best-gpu.txt"
cp experiments/best-gpu/recipe.json submissions/best-gpu.csv "$out/" 2>/dev/null
for report in experiments/*/report.json; do cp "$report" "$out/$(basename "$(dirname "$report")").json"; done
tail -n 3 "$out"/*.txt
