"""Leaves the images of handwritten digits that scikit-learn brings, in three parts."""

import os
from pathlib import Path

import numpy as np
from sklearn.datasets import load_digits

images = Path(os.environ["MLPIPE_OUTPUT_IMAGES"])
images.mkdir(exist_ok=True)
x, y = load_digits(return_X_y=True)
part = np.arange(len(x)) % 3
for number, name in enumerate(("train", "validate", "test")):
    np.savez(images / f"{name}.npz", x=x[part == number], y=y[part == number])
