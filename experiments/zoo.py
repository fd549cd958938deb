"""What does each net that is trained in steps cost? Parameters and training rows per second.

    python experiments/zoo.py            # or with the names of some nets

Batch 256, plain Adam, default configurations, the bundled beats, one CPU thread or the GPU. Rounds
of a few steps of each net in turn, because the machine's speed drifts; `resnet` always runs along:
its ratios to the others are steadier than the rates. The last line is one JSON object.
"""

import json
import sys
from dataclasses import replace
from functools import partial

from bench.beats import tiled_beats
from bench.timing import Spread, interleaved, ratio, shown, spread_cells
from bench.train import N_ROUNDS, ours, recipe_of

from hbcomp.nets.registry import NETS, build_net, count_parameters
from hbcomp.reporting.pages import Table, print_table
from hbcomp.system.command import console
from hbcomp.training.device import ComputeConfig, choose_compute
from hbcomp.training.loader import put_on_device

N_STEPS = 4  # of a round on a CPU: seconds for the largest net
N_STEPS_ON_A_GPU = 100
BASE = "resnet"
TRAINED = [name for name, kind in NETS.items() if not kind.is_fitted]


def measure(names: list[str]) -> dict[str, dict[str, object]]:
    recipes = {name: recipe_of(name) for name in names}
    asked = {
        name: choose_compute(ComputeConfig(), is_compute_bound=recipe.net.is_compute_bound)
        for name, recipe in recipes.items()
    }
    computes = {name: replace(compute, n_threads=1) for name, compute in asked.items()}
    device = computes[BASE].device
    n_steps = N_STEPS if device == "cpu" else N_STEPS_ON_A_GPU
    sample = tiled_beats(n_steps * recipes[BASE].train.batch_size)
    beats = put_on_device(sample.signals, sample.known_labels, device)
    epochs = {name: ours(recipes[name], beats, 1, computes[name]) for name in names}
    rates = interleaved({name: partial(next, each) for name, each in epochs.items()}, N_ROUNDS)
    shape = beats.shape, beats.n_classes
    return {
        name: {
            "n_parameters": count_parameters(
                build_net(recipes[name].net, *shape, 0, recipes[name].signals)
            ),
            "rows_per_second": Spread.of(rates[name]).to_json(),
            "seconds_of_resnet": ratio(rates[BASE], rates[name]).to_json(),
            "precision": computes[name].precision,
            "device": device,
        }
        for name in names
    }


def main(names: list[str]) -> None:
    found = measure(list(dict.fromkeys([BASE, *(names or TRAINED)])))
    rows = [
        [
            name,
            f"{numbers['n_parameters']:,}",
            *spread_cells(numbers["rows_per_second"]),
            shown(numbers["seconds_of_resnet"]["median"]),
        ]
        for name, numbers in found.items()
    ]
    header = ["net", "parameters", "rows/s", "low", "high", "seconds / resnet's"]
    print_table(Table("the zoo: training, batch 256", header, rows), console)
    print(json.dumps(found))


if __name__ == "__main__":
    main(sys.argv[1:])
