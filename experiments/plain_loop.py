"""Does a plain PyTorch loop score what hbcomp's engine scores? Paired, same folds, bundled beats.

    python experiments/plain_loop.py resnet 3 5      # net, seeds, folds of each

The plain loop is what people write: nn.Conv1d, TensorDataset and DataLoader, fp32, AdamW and
OneCycleLR, `loss.item()` every step. Both sides train as many epochs on the same rows without
augmentation, and answer by p > 0.5. The last line is one JSON object.
"""

import json
import sys
import time
from functools import partial
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from bench.plain import plain_net
from torch.utils.data import DataLoader, TensorDataset

from hbcomp.competitions.load import load_sample
from hbcomp.data.splits import FoldsConfig, make_folds
from hbcomp.experiment.config import Config
from hbcomp.nets.registry import config_class
from hbcomp.nets.signals import SignalsConfig
from hbcomp.scoring.decision import Half
from hbcomp.scoring.paired import RowScores, paired_difference
from hbcomp.scoring.row_metrics import abs_sum_of_rows
from hbcomp.system.config import read_toml, validate
from hbcomp.system.environment import n_cores
from hbcomp.training.augment import AugmentConfig
from hbcomp.training.device import ComputeConfig, choose_compute
from hbcomp.training.inference import predict_probs
from hbcomp.training.loader import put_on_device
from hbcomp.training.state import Recipe, Replica
from hbcomp.training.step import train_epochs

HERE = "experiments/quickstart/config.toml"
# The reference net has 60 times the parameters: fewer epochs, and a rate it can bear.
CHANGES = {"resnet": {}, "reference": {"n_epochs": 4, "lr": 1e-3}}


def recipe_of(name: str) -> Recipe:
    config = validate(Config, read_toml(Path(HERE)), HERE)
    net = config.net if name == config.net.name else config_class(name)(name=name)
    signals = SignalsConfig(scale="none" if name == "reference" else "min-max")
    return Recipe(net, config.train.model_copy(update=CHANGES[name]), AugmentConfig(), signals)


def train_with_a_plain_loop(recipe, signals, labels, seed):
    train = recipe.train
    torch.manual_seed(seed)
    torch.set_num_threads(n_cores())
    net = plain_net(recipe.net, signals.shape[2], int(labels.max()) + 1)
    beats = TensorDataset(torch.tensor(signals), torch.tensor(labels))
    loader = DataLoader(beats, train.batch_size, shuffle=True, drop_last=True)
    optimizer = torch.optim.AdamW(
        net.parameters(), train.lr, train.betas, weight_decay=train.weight_decay
    )
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer,
        train.lr,
        epochs=train.n_epochs,
        steps_per_epoch=len(loader),
        pct_start=train.schedule.warmup,
        cycle_momentum=False,
    )
    net.train()
    for _ in range(train.n_epochs):
        loss_sum = 0.0
        for batch, truth in loader:
            optimizer.zero_grad()
            loss = F.cross_entropy(net(batch), truth)
            loss.backward()
            optimizer.step()
            schedule.step()
            loss_sum += loss.item()
    return net


def train_with_hbcomp(recipe, beats, train_idx, seed, compute):
    compute.enter()
    *_, (last,) = train_epochs(recipe, beats, [Replica(torch.tensor(train_idx), seed)], compute)
    return last.net


def main(name: str, n_seeds: int, n_folds: int) -> None:
    recipe = recipe_of(name)
    train, _ = load_sample()
    signals, labels = train.signals, train.known_labels
    compute = choose_compute(ComputeConfig(device="cpu"), is_compute_bound=False)
    beats = put_on_device(signals, labels, "cpu")
    costs, seconds = {"plain": [], "ours": []}, {"plain": [], "ours": []}
    for seed in range(n_seeds):
        folds = make_folds(FoldsConfig(), train, seed)
        for fold in range(n_folds):
            rows, held_out = folds.train_idx(fold), folds.valid_idx(fold)
            ways = {
                "plain": partial(
                    train_with_a_plain_loop,
                    recipe,
                    signals[rows],
                    labels[rows],
                    100 * seed + fold,
                ),
                "ours": partial(train_with_hbcomp, recipe, beats, rows, (seed, fold), compute),
            }
            for way, make in ways.items():
                start = time.perf_counter()
                net = make()
                seconds[way].append(time.perf_counter() - start)
                probs = predict_probs(net, torch.tensor(signals[held_out]), compute)
                costs[way].append(abs_sum_of_rows(Half().apply(probs), labels[held_out]))
            print(
                f"seed {seed} fold {fold}: "
                + ", ".join(
                    f"{way} {20_000 * costs[way][-1].mean():.0f} in {seconds[way][-1]:.1f} s"
                    for way in ways
                ),
                file=sys.stderr,
            )
    difference = paired_difference(
        *(
            RowScores(20_000 * np.concatenate(costs[way]), greater_is_better=False)
            for way in ("ours", "plain")
        )
    )
    ratios = [plain / ours for plain, ours in zip(seconds["plain"], seconds["ours"], strict=True)]
    print(
        json.dumps(
            {
                "net": name,
                "n_nets": len(ratios),
                "n_rows_scored": sum(len(each) for each in costs["ours"]),
                "half_per_20k": {
                    way: round(20_000 * np.concatenate(each).mean(), 1)
                    for way, each in costs.items()
                },
                "ours_minus_plain": round(difference.value, 1),
                "standard_error": round(difference.standard_error, 1),
                "seconds": {way: round(sum(each), 1) for way, each in seconds.items()},
                "times_as_fast": {
                    "median": round(float(np.median(ratios)), 3),
                    "low": round(min(ratios), 3),
                    "high": round(max(ratios), 3),
                },
            }
        )
    )


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
