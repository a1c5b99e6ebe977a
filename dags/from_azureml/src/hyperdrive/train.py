"""Trains a network of two hidden layers on handwritten digits, and logs after each epoch how good it is."""

import argparse
from pathlib import Path

import joblib
import numpy as np
from mlpipe import Run
from sklearn.neural_network import MLPClassifier

EPOCHS = 10

parser = argparse.ArgumentParser()
parser.add_argument("--data-folder", type=Path)
parser.add_argument("--batch-size", type=int)
parser.add_argument("--first-layer-neurons", type=int)
parser.add_argument("--second-layer-neurons", type=int)
parser.add_argument("--learning-rate", type=float)
parser.add_argument("--saved-model", type=Path)
args = parser.parse_args()

train, validate = np.load(args.data_folder / "train.npz"), np.load(args.data_folder / "validate.npz")
network = MLPClassifier(
    hidden_layer_sizes=(args.first_layer_neurons, args.second_layer_neurons),
    batch_size=args.batch_size,
    learning_rate_init=args.learning_rate,
    solver="sgd",
    random_state=0,  # the same parameters make the same network
)
run = Run.get_context()
for epoch in range(EPOCHS):
    network.partial_fit(train["x"] / 16, train["y"], classes=range(10))
    accuracy = network.score(validate["x"] / 16, validate["y"])
    run.log("validation_acc", accuracy, step=epoch)  # the last one counts
print(f"validation accuracy {accuracy:.3f} after {EPOCHS} epochs")
joblib.dump(network, args.saved_model)
