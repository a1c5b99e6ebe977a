"""Trains a small network on handwritten digits, as one of the processes that torchrun starts.

Without torchrun it is the only one: python train.py --digits FOLDER --model FILE
"""

import argparse
import csv
import os
from pathlib import Path

import torch
import torch.distributed as dist
from mlpipe import Run
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader, TensorDataset
from torch.utils.data.distributed import DistributedSampler

HELD_OUT = 5  # every fifth image is kept for the test
BATCH = 64


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--digits", type=Path)
    parser.add_argument("--model", type=Path)
    parser.add_argument("--epochs", type=int, default=15)
    args = parser.parse_args()

    if "RANK" not in os.environ:
        os.environ |= {"RANK": "0", "WORLD_SIZE": "1", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29500"}
    dist.init_process_group("gloo")  # nccl, where each process has a GPU
    torch.manual_seed(0)  # the same weights to begin with, in every process
    images, labels = read(args.digits)
    test = torch.arange(len(labels)) % HELD_OUT == 0
    network = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))
    train(network, TensorDataset(images[~test], labels[~test]), args.epochs)
    if dist.get_rank() == 0:
        accuracy = (network(images[test]).argmax(1) == labels[test]).float().mean()
        Run.get_context().log("accuracy", accuracy)
        print(f"{dist.get_world_size()} processes, {args.epochs} epochs, accuracy {accuracy:.3f}")
        torch.save(network.state_dict(), args.model)
    dist.destroy_process_group()


def read(folder):
    """Return images and labels, without the rows whose label is missing."""
    rows = []
    for file in sorted(folder.glob("*.csv")):
        with file.open(newline="") as stream:
            rows += [list(map(float, row.values())) for row in csv.DictReader(stream) if row["label"]]
    table = torch.tensor(rows)
    return table[:, 1:] / 16, table[:, 0].long()


def train(network, data, epochs):
    run = Run.get_context()
    model = DistributedDataParallel(network)  # adds up the gradients of all processes
    sampler = DistributedSampler(data)  # deals the images out
    batches = DataLoader(data, BATCH // dist.get_world_size(), sampler=sampler)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    for epoch in range(epochs):
        sampler.set_epoch(epoch)
        for images, labels in batches:
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(model(images), labels)
            loss.backward()
            optimizer.step()
        run.log("loss", loss, step=epoch)  # that of the first process is kept


if __name__ == "__main__":
    main()
