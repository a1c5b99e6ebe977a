"""Trains a linear classifier of handwritten digits; started by mpirun, as one of the processes that share the images."""

import argparse
import os
from pathlib import Path

import numpy as np
from mlpipe import Run

BATCH = 60
RATE = 0.5


class Alone:
    """Stands for the other processes where there are none."""

    rank, size = 0, 1

    def allreduce(self, mine):
        return mine


def together():
    """Return what the processes of mpirun speak to each other by."""
    if "OMPI_COMM_WORLD_SIZE" not in os.environ and "PMI_SIZE" not in os.environ:
        return Alone()
    from mpi4py import MPI

    return MPI.COMM_WORLD


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--images", type=Path)
    parser.add_argument("--model", type=Path)
    parser.add_argument("--epochs", type=int, default=24)
    args = parser.parse_args()

    everybody = together()
    train, test = np.load(args.images / "train.npz"), np.load(args.images / "test.npz")
    weights = np.zeros((65, 10))
    for _ in range(args.epochs):
        for start in range(0, len(train["y"]), BATCH):
            mine = slice(start + everybody.rank, start + BATCH, everybody.size)  # a share of each batch
            weights -= RATE / BATCH * everybody.allreduce(gradient(weights, train["x"][mine], train["y"][mine]))

    if everybody.rank == 0:
        accuracy = (chances(weights, test["x"]).argmax(axis=1) == test["y"]).mean()
        run = Run.get_context()
        run.log("accuracy", accuracy)
        run.log("processes", everybody.size)
        print(f"{everybody.size} processes, {args.epochs} epochs, accuracy {accuracy:.3f}")
        np.savetxt(args.model, weights, fmt="%.6f", delimiter=",")


def chances(weights, images):
    """Return how likely each image is each of the digits."""
    scores = np.exp(with_one(images) @ weights)
    return scores / scores.sum(axis=1, keepdims=True)


def gradient(weights, images, labels):
    """Return in which direction the loss of some images grows, summed up over them."""
    return with_one(images).T @ (chances(weights, images) - np.eye(10)[labels])


def with_one(images):
    return np.hstack([images / 16, np.ones((len(images), 1))])


if __name__ == "__main__":
    main()
