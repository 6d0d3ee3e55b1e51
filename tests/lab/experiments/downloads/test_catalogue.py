"""The catalogue has every data set of every experiment, with all that users need to know."""

import pkgutil
import re
from importlib import import_module

import pytest
from datapacks import CONVERTERS, publish
from realdata import PACKS

from tangential_lab import experiments
from tangential_lab.experiments.data.sources import DataError, DataFolder
from tangential_lab.experiments.downloads import check_files, data_set, data_sets

MINI = tuple(CONVERTERS)  # what the presets `mini` read


def test_every_data_set_is_listed():
    known = set(data_sets())
    modules = pkgutil.walk_packages(experiments.__path__, f"{experiments.__name__}.")
    for module in modules:
        for value in vars(import_module(module.name)).values():
            assert not isinstance(value, DataFolder) or value in known, module.name


@pytest.mark.parametrize("folder", data_sets(), ids=lambda folder: folder.name)
def test_every_data_set_is_described(folder):
    assert all((folder.title, folder.publisher, folder.licence, folder.used_by))
    assert folder.download_hint.startswith("Get ")
    for download in folder.downloads:
        assert download.url.startswith(("https://", "http://"))
    for value in (folder.sha256, *(download.sha256 for download in folder.downloads)):
        assert value is None or re.fullmatch("[0-9a-f]{64}", value)


@pytest.mark.parametrize("name", MINI)
def test_the_data_of_every_mini_preset_can_be_fetched(name, home):
    folder = data_set(name)
    assert folder.downloads
    command = f"Run `tangential data fetch {name} --data DIR`, or get "
    with pytest.raises(DataError, match=re.escape(command)):
        folder.require(home)


def test_an_unknown_name_suggests_a_known_one():
    with pytest.raises(ValueError, match=r"data set 'wikitext2'\. Did you mean 'wikitext-2'"):
        data_set("wikitext2")


@pytest.mark.real_data("MNIST")
@pytest.mark.parametrize("name", ["MNIST", "tinyshakespeare", "wikitext-2"])
def test_published_checksums_are_those_of_the_real_files(name, home):
    """The packs of these data sets have the original bytes."""
    publish(name, PACKS, home)
    assert "published files" in check_files(data_set(name), home).text
