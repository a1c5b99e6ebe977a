"""Registers a model: leaves it with a card that says what it is."""

import argparse
import json
import shutil
from pathlib import Path

import joblib

parser = argparse.ArgumentParser()
parser.add_argument("--saved-model", type=Path)
parser.add_argument("--registered", type=Path)
args = parser.parse_args()

network = joblib.load(args.saved_model)
card = {
    "model": "model.joblib",
    "layers": list(network.hidden_layer_sizes),
    "batch_size": network.batch_size,
    "learning_rate": network.learning_rate_init,
}
args.registered.mkdir(exist_ok=True)
shutil.copyfile(args.saved_model, args.registered / card["model"])
(args.registered / "card.json").write_text(json.dumps(card, indent=1) + "\n")
print(f"registered {card}")
