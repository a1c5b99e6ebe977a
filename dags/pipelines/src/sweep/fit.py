"""Fits a support vector machine, and logs how well it does on the images that the trials compare themselves by."""

import argparse
import os
from pathlib import Path

import joblib
import numpy as np
from mlpipe import Run
from sklearn.svm import SVC

parser = argparse.ArgumentParser()
parser.add_argument("--c", type=float)
parser.add_argument("--gamma", type=float)
args = parser.parse_args()

images = Path(os.environ["MLPIPE_INPUT_IMAGES"])
train, validate = np.load(images / "train.npz"), np.load(images / "validate.npz")
model = SVC(C=args.c, gamma=args.gamma).fit(train["x"], train["y"])
Run.get_context().log("accuracy", model.score(validate["x"], validate["y"]))
joblib.dump(model, os.environ["MLPIPE_OUTPUT_MODEL"])
