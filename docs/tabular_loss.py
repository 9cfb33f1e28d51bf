"""Focal loss without a picture: a table of payments of which one in a thousand is a fraud.

    python docs/tabular_loss.py

`focal_loss` takes any logits. Here a small network scores the rows of a table that this file draws, trained with plain
cross-entropy, with cross-entropy weighted by alpha, and with focal loss; everything else is the same. Printed are, over
three seeds of the training, on rows that were not trained on:

AP     average precision, the area under the precision-recall curve: are frauds listed before the rest?
ECE    expected calibration error: how far is a score from the share of frauds among rows of that score? (15 bins of
       equally many rows, Guo et al. 2017, arXiv:1706.04599)
mean   the mean score, which should be the share of frauds.
"""

from __future__ import annotations

import argparse

import numpy as np
import torch

from focalcli.training.loss import BACKGROUND, focal_loss

FRAUDS = 0.001  # share of the rows
COLUMNS = 12
LOSSES = {  # name -> alpha, gamma
    "cross-entropy": (0.5, 0.0),  # both weights 0.5: half of plain cross-entropy
    "cross-entropy, alpha 0.9": (0.9, 0.0),
    "focal, alpha 0.25, gamma 2": (0.25, 2.0),
    "focal, alpha 0.5, gamma 1": (0.5, 1.0),
}


def draw(rows: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """(rows, COLUMNS) features, and (rows,) labels: 0 for a fraud, BACKGROUND for a payment like any other.

    Frauds are of three kinds, each a cloud at some distance of the rest, which overlaps with it.
    """
    clouds = 1.6 * np.random.default_rng(0).standard_normal((3, COLUMNS)) / np.sqrt(2)
    rng = np.random.default_rng(seed)
    fraud = rng.random(rows) < FRAUDS
    features = rng.standard_normal((rows, COLUMNS))
    features[fraud] = 0.7 * features[fraud] + clouds[rng.integers(0, 3, int(fraud.sum()))]
    return torch.from_numpy(features.astype(np.float32)), torch.from_numpy(np.where(fraud, 0, BACKGROUND))


def train(features: torch.Tensor, labels: torch.Tensor, alpha: float, gamma: float, seed: int, epochs: int):
    """A network of one hidden layer. Its first scores are the share of frauds (Lin et al. 2017, sec. 4.1)."""
    torch.manual_seed(seed)
    network = torch.nn.Sequential(torch.nn.Linear(COLUMNS, 32), torch.nn.ReLU(), torch.nn.Linear(32, 1))
    torch.nn.init.constant_(network[2].bias, float(np.log(FRAUDS / (1 - FRAUDS))))
    optimizer = torch.optim.AdamW(network.parameters(), lr=0.003)
    for _ in range(epochs):
        for rows in torch.randperm(len(features)).split(2048):
            positives = max(1, int((labels[rows] >= 0).sum()))
            loss = focal_loss(network(features[rows]), labels[rows], alpha, gamma, positives)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return network


def average_precision(scores: np.ndarray, fraud: np.ndarray) -> float:
    """Mean, over the frauds, of the precision among the rows that score at least as high; ties count in file order."""
    listed = fraud[np.argsort(-scores, kind="stable")]
    return float((np.cumsum(listed) / np.arange(1, len(listed) + 1))[listed].mean())


def calibration_error(scores: np.ndarray, fraud: np.ndarray) -> float:
    """Expected calibration error, 0..1."""
    bins = np.array_split(np.argsort(scores, kind="stable"), 15)
    return float(sum(len(rows) * abs(scores[rows].mean() - fraud[rows].mean()) for rows in bins) / len(scores))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=200_000)
    parser.add_argument("--epochs", type=int, default=10)
    options = parser.parse_args()
    features, labels = draw(options.rows, seed=1)
    unseen, truth = draw(options.rows, seed=2)
    fraud = (truth >= 0).numpy()
    print(f"{options.rows:,} rows with {int((labels >= 0).sum())} frauds; {int(fraud.sum())} among as many unseen rows")
    print(f"\n{'loss':<28}{'AP of three seeds':>23}{'ECE':>10}{'mean':>10}")
    for name, (alpha, gamma) in LOSSES.items():
        precisions, errors, means = [], [], []
        for seed in range(3):
            network = train(features, labels, alpha, gamma, seed, options.epochs)
            with torch.inference_mode():
                scores = network(unseen).sigmoid().flatten().numpy().astype(np.float64)
            precisions.append(average_precision(scores, fraud))
            errors.append(calibration_error(scores, fraud))
            means.append(scores.mean())
        aps = " ".join(f"{value:.3f}" for value in precisions)
        print(f"{name:<28}{aps:>23}{np.mean(errors):>10.5f}{np.mean(means):>10.5f}", flush=True)


if __name__ == "__main__":
    main()
