#!/usr/bin/env bash
# Everything that only a GPU can tell, in minutes that may be cut off.
#   bash experiments/on_gpu.sh smoke|full|bench TRAIN TEST OUT [OTHER_TEST]
# `smoke` takes at most 3 minutes: the tests of training and nets, and every run of best-gpu for 2
# epochs. `full` takes at most 10: best-gpu (8 min 10 s on an H200) and its answers to OTHER_TEST. `bench`
# takes at most 3: rows per second against the loops that people write. Each step has a limit of its own, and what it leaves lies in OUT, as few files, before the next
# begins. WORK=FOLDER keeps the runs there, so that the same call continues them. WHEELS=FOLDER
# installs the wheels in it, for a machine without a network.
set -u
mode=$1 train=$(realpath "$2") test=$(realpath "$3")
mkdir -p "$4" && out=$(realpath "$4")
other=${5:+$(realpath "$5")}
root=$(cd "$(dirname "$0")/.." && pwd)
work=${WORK:-$(mktemp -d)}
mkdir -p "$work"
export PYTHONPATH=$root PYTHONUNBUFFERED=1 HBCOMP_CACHE=${HBCOMP_CACHE:-$work/cache}
if [ -n "${WHEELS:-}" ]; then
  python3 -m pip install -q --no-index --no-deps --no-compile --target "$work/site" "$WHEELS"/*.whl || exit 1
  PYTHONPATH=$work/site:$PYTHONPATH
fi
cd "$work" || exit 1
nvidia-smi >"$out/gpu.txt" 2>&1
began=$SECONDS

# Reports and submissions, probabilities, and the logs of all steps, in three files. What can be made
# of them again (tables, pages, pictures), weights and folds stay behind: a file may have its limit.
collect() {
  tar -czf "$out/runs.tgz.partial" --exclude=folds --exclude='*.lock' --exclude='*.html' --exclude=pictures \
    --exclude='*.npz' --exclude=oof.csv --exclude=test.csv experiments submissions 2>/dev/null
  mv "$out/runs.tgz.partial" "$out/runs.tgz"
  tar -cf "$out/probabilities.tar.partial" experiments/*/predictions.npz 2>/dev/null
  mv "$out/probabilities.tar.partial" "$out/probabilities.tar"
  tar -czf "$out/logs.tgz.partial" ./*.log && mv "$out/logs.tgz.partial" "$out/logs.tgz"
}

# step NAME SECONDS COMMAND...: the last lines of its log are shown.
step() {
  local name=$1 limit=$2 start=$SECONDS
  shift 2
  timeout --signal=INT --kill-after=10 "$limit" "$@" >"$name.log" 2>&1
  echo "== $name: exit code $?, $((SECONDS - start)) s, at $((SECONDS - began)) s"
  tail -n 3 "$name.log" | cut -c 1-600
  collect
}

hb() { local name=$1 limit=$2; shift 2; step "$name" "$limit" python3 -m hbcomp "$@"; }

tests() {
  # pytest-benchmark, where it is installed, warns beside xdist, and here warnings are errors.
  (cd "$root" && timeout 100 python3 -m pytest -q -n 8 -p no:cacheprovider -p no:benchmark \
    tests/training tests/nets) >tests.log 2>&1
}

case $mode in
  smoke)
    tests
    tail -n 12 tests.log
    for run in best-gpu-lines best-gpu-reference best-gpu-resnet; do
      hb "$run" 40 cv "$run" --name "smoke-$run" --train "$train" --test "$test" \
        --set train.n_epochs=2 --set folds.n_folds=2 --set 'folds.seeds=[0]'
    done
    ;;
  full)
    hb best-gpu 530 compete best-gpu --train "$train" --test "$test"
    [ -n "$other" ] && hb predict 60 predict best-gpu --data "$other"
    ;;
  bench)
    for net in reference resnet; do
      step "bench-$net" 75 python3 "$root/experiments/run_bench.py" --only train --net "$net"
      sed -n '/batch/,$p' "bench-$net.log" | cut -c 1-200
    done
    ;;
  *)
    echo "the first argument must be smoke, full or bench, but is $mode" >&2
    exit 2
    ;;
esac
