"""Real data sets, made of the packs in the folder that TANGENTIAL_DATA names."""

import os
from pathlib import Path

import pytest
from datapacks import CONVERTERS, cifar10_checksums, fingerprint, publish
from platformdirs import user_cache_path
from torchvision import datasets

PACKS = Path(os.environ["TANGENTIAL_DATA"]) if "TANGENTIAL_DATA" in os.environ else None
DATA = user_cache_path("tangential") / f"published-{fingerprint(PACKS)}" if PACKS else None
if DATA:
    DATA.mkdir(parents=True, exist_ok=True)


def needs(name):
    """Mark a test that needs a data set, named as its authors publish it."""
    return pytest.mark.real_data(name)


def provide(name):
    """Skip the test where the data set is missing; convert its pack if no test has done so."""
    if PACKS is None or not (PACKS / CONVERTERS[name][0]).is_dir():
        pytest.skip(f"needs TANGENTIAL_DATA with {CONVERTERS[name][0]}")
    publish(name, PACKS, DATA)


def accept_copies(monkeypatch):
    """Let torchvision accept our CIFAR-10, which is made of JPEG copies of the images."""
    sums = cifar10_checksums(DATA / "cifar-10-batches-py")
    for name in ("train_list", "test_list"):
        files = [[file, sums[file]] for file, _ in getattr(datasets.CIFAR10, name)]
        monkeypatch.setattr(datasets.CIFAR10, name, files)
    meta = datasets.CIFAR10.meta | {"md5": sums["batches.meta"]}
    monkeypatch.setattr(datasets.CIFAR10, "meta", meta)
