"""Fits a logistic regression."""

import argparse
from pathlib import Path

import joblib
import numpy as np
from mlpipe import Run
from sklearn.linear_model import LogisticRegression

ITERATIONS = 20


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--features", type=Path)
    parser.add_argument("--model", type=Path)
    parser.add_argument("--c", type=float)
    args = parser.parse_args()

    x = np.load(args.features / "train_x.npy")
    y = np.load(args.features / "train_y.npy")
    # The same data gives the same bytes: this solver draws no random numbers.
    model = LogisticRegression(C=args.c, max_iter=ITERATIONS).fit(x, y)

    joblib.dump(model, args.model)
    Run.get_context().log("training_accuracy", model.score(x, y))
    print(f"fitted to {len(x)} rows in {model.n_iter_.max()} iterations")


if __name__ == "__main__":
    main()
