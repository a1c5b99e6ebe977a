"""Registers a model that beats the champion."""

import argparse
import json
import shutil
from pathlib import Path

from mlpipe import Run


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", type=Path)
    parser.add_argument("--scores", type=Path)
    parser.add_argument("--champion", type=Path)
    parser.add_argument("--registered", type=Path)
    parser.add_argument("--margin", type=float)
    args = parser.parse_args()

    accuracy = json.loads(args.scores.read_text())["accuracy"]
    champion = json.loads(args.champion.read_text())
    better = accuracy > champion["accuracy"] + args.margin

    # The folder holds a model only if there is a new one to be used; the card always says how it was decided.
    args.registered.mkdir(parents=True, exist_ok=True)
    card = {"model": "model.joblib" if better else None, "accuracy": accuracy, "champion": champion, "margin": args.margin}
    (args.registered / "card.json").write_text(json.dumps(card, indent=1) + "\n")
    if better:
        shutil.copyfile(args.model, args.registered / "model.joblib")

    Run.get_context().log("registered", int(better))
    verdict = "registered" if better else "not registered"
    print(f"{verdict}: accuracy {accuracy:.4f}, the champion has {champion['accuracy']:.4f}, margin {args.margin}")


if __name__ == "__main__":
    main()
