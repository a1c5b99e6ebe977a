"""Finds clusters by k-means, as one of the processes that mpirun starts; each reads the images and keeps its share."""

import argparse
import csv
from pathlib import Path

import numpy as np
from mlpipe import Run
from mpi4py import MPI

MOST_ITERATIONS = 100
TOLERANCE = 1e-6

everybody = MPI.COMM_WORLD


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--digits", type=Path)
    parser.add_argument("--centres", type=Path)
    parser.add_argument("--clusters", type=int)
    args = parser.parse_args()

    images = read(args.digits)
    centres = images[np.linspace(0, len(images) - 1, args.clusters).astype(int)].copy()
    mine = images[everybody.rank :: everybody.size]
    print(f"process {everybody.rank} of {everybody.size} has {len(mine)} of {len(images)} images")
    run = Run.get_context()
    for iteration in range(MOST_ITERATIONS):
        centres, moved, distance = step(mine, centres)
        run.log("mean_distance", distance / len(images), step=iteration)  # that of the first process is kept
        if moved < TOLERANCE:
            break
    if everybody.rank == 0:
        np.savetxt(args.centres, centres, delimiter=",", fmt="%.6f")
        run.log("iterations", iteration + 1)


def read(folder):
    rows = []
    for file in sorted(folder.glob("*.csv")):
        with file.open(newline="") as stream:
            rows += [list(row.values())[1:] for row in csv.DictReader(stream)]
    return np.array(rows, dtype=float)


def step(mine, centres):
    """Return the new centres, how far they moved, and the sum of all distances to the old ones, the same in every process."""
    distances = np.linalg.norm(mine[:, None] - centres, axis=2)
    nearest = distances.argmin(axis=1)
    belongs = np.eye(len(centres))[nearest]
    sums, counts = belongs.T @ mine, belongs.sum(axis=0)
    everybody.Allreduce(MPI.IN_PLACE, sums)
    everybody.Allreduce(MPI.IN_PLACE, counts)
    found = np.where(counts[:, None] > 0, sums / np.maximum(counts, 1)[:, None], centres)
    return found, np.abs(found - centres).max(), everybody.allreduce(distances.min(axis=1).sum())


if __name__ == "__main__":
    main()
