"""Scores a model on images it has not seen."""

import os
from pathlib import Path

import joblib
import numpy as np
from mlpipe import Run

test = np.load(Path(os.environ["MLPIPE_INPUT_IMAGES"]) / "test.npz")
model = joblib.load(os.environ["MLPIPE_INPUT_MODEL"])
accuracy = model.score(test["x"], test["y"])
Run.get_context().log("accuracy", accuracy)
Path(os.environ["MLPIPE_OUTPUT_SCORE"]).write_text(f"{accuracy:.4f} with C={model.C}, gamma={model.gamma}\n")
