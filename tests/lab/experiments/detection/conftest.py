"""A cache for each test, and a tiny folder laid out as COCO's."""

import json

import numpy as np
import pytest
from coco_folder import sample
from PIL import Image


@pytest.fixture(autouse=True)
def cache(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
def tiny(tmp_path):
    """A folder laid out as COCO's, of six images and four."""
    home = tmp_path / "data" / "coco"
    (home / "annotations").mkdir(parents=True)
    for half, numbers in (("train2017", range(6)), ("val2017", range(10, 14))):
        said = sample(numbers)
        (home / "annotations" / f"instances_{half}.json").write_text(json.dumps(said))
        (home / half).mkdir()
        for image in said["images"]:
            noise = np.random.default_rng(0).integers(0, 256, (48, 64, 3), dtype=np.uint8)
            Image.fromarray(noise).save(home / half / image["file_name"])
    return tmp_path / "data"
