"""Scores the model on the test data."""

import argparse
import json
from pathlib import Path

import joblib
import numpy as np
from mlpipe import Run
from sklearn.metrics import accuracy_score, confusion_matrix, f1_score


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", type=Path)
    parser.add_argument("--features", type=Path)
    parser.add_argument("--scores", type=Path)
    args = parser.parse_args()

    x = np.load(args.features / "test_x.npy")
    y = np.load(args.features / "test_y.npy")
    found = joblib.load(args.model).predict(x)
    scores = {"accuracy": accuracy_score(y, found), "f1": f1_score(y, found, average="macro")}

    run = Run.get_context()
    for name, value in scores.items():
        run.log(name, value)
    confusion = confusion_matrix(y, found).tolist()
    args.scores.write_text(json.dumps({**scores, "rows": len(y), "confusion": confusion}) + "\n")
    print(scores)


if __name__ == "__main__":
    main()
