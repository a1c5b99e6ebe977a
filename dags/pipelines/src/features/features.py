"""Makes arrays of the rows: scaled pixels with the means of rows and columns, split into training and test data."""

import argparse
from pathlib import Path

import numpy as np


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--clean", type=Path)
    parser.add_argument("--features", type=Path)
    parser.add_argument("--holdout", type=int)
    args = parser.parse_args()

    rows = np.loadtxt(args.clean, delimiter=",", skiprows=1, dtype=np.int64)
    labels, pixels = rows[:, 0], rows[:, 1:] / 16
    images = pixels.reshape(-1, 8, 8)
    features = np.hstack([pixels, images.mean(axis=1), images.mean(axis=2)])

    # Every n-th row, so that a new month changes nothing about the rows before it.
    test = np.arange(len(rows)) % args.holdout == 0
    args.features.mkdir(parents=True, exist_ok=True)
    for name, part in (("train", ~test), ("test", test)):
        np.save(args.features / f"{name}_x.npy", features[part])
        np.save(args.features / f"{name}_y.npy", labels[part])
    print(f"{(~test).sum()} rows to train on, {test.sum()} to test on, {features.shape[1]} features")


if __name__ == "__main__":
    main()
