"""Archives are unpacked, and whatever could leave the folder is refused."""

import gzip
import io
import stat
import tarfile
import zipfile

import pytest

from tangential_lab.experiments.data.sources import DataError
from tangential_lab.experiments.downloads.archives import decompress, is_archive, unpack

FILES = {"set/a.txt": b"a", "set/deep/b.txt": b"b" * 5000, "other.txt": b"o"}


def packed(path, files):
    """Write an archive; the kind is that of the file's name."""
    if path.suffix == ".zip":
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, content in files.items():
                archive.writestr(name, content)
        return path
    with tarfile.open(path, "w" if path.suffix == ".tar" else "w:gz") as archive:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return path


def files_in(folder):
    paths = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "in/folder").mkdir(parents=True)
    return tmp_path / "in/folder"


@pytest.fixture(params=["a.zip", "a.tar", "a.tar.gz", "a.tgz"])
def archive(request, tmp_path):
    return tmp_path / request.param


def test_the_files_of_one_folder_are_unpacked(archive, folder):
    assert is_archive(archive.name)
    counted = []
    unpack(packed(archive, FILES), folder, "set", lambda: counted.append(1))
    assert files_in(folder) == {"a.txt": b"a", "deep/b.txt": b"b" * 5000}
    assert len(counted) == 2


def test_all_files_are_unpacked_by_default(archive, folder):
    unpack(packed(archive, {f"./{name}": content for name, content in FILES.items()}), folder)
    assert files_in(folder) == FILES


@pytest.mark.parametrize(
    "name",
    ["../x", "/x", "a/../../x", "set/../../../x", "..\\x", "a\\..\\..\\x", "C:\\x", "C:x", "\\x"],
)
@pytest.mark.parametrize("root", [".", "set"])
def test_a_path_outside_is_refused(name, root, archive, folder):
    packed(archive, {name: b"evil"})
    with pytest.raises(DataError, match="outside of its folder: refused"):
        unpack(archive, folder, root)
    assert set(folder.parent.parent.rglob("*")) == {archive, folder.parent, folder}


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE])
def test_links_and_devices_in_a_tar_are_refused(kind, tmp_path, folder):
    info = tarfile.TarInfo("link")
    info.type, info.linkname = kind, "../.."
    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        archive.addfile(info)
    with pytest.raises(DataError, match="'link', which is not a regular file: refused"):
        unpack(tmp_path / "a.tar", folder)
    assert not list(folder.iterdir())


def test_links_in_a_zip_are_refused(tmp_path, folder):
    info = zipfile.ZipInfo("link")
    info.create_system, info.external_attr = 3, (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr(info, "/etc/passwd")
    with pytest.raises(DataError, match="'link', which is not a regular file: refused"):
        unpack(tmp_path / "a.zip", folder)
    assert not list(folder.iterdir())


def test_no_file_is_overwritten(archive, folder):
    (folder / "a.txt").write_text("mine")
    with pytest.raises(DataError, match=r"'a\.txt' twice: refused"):
        unpack(packed(archive, {"a.txt": b"evil"}), folder)
    assert (folder / "a.txt").read_text() == "mine"


@pytest.mark.parametrize("damage", [lambda b: b[: len(b) // 2], lambda b: b"x" * len(b)])
def test_a_damaged_archive_is_a_data_error(damage, archive, folder):
    packed(archive, {"a.bin": bytes(range(256)) * 200})
    archive.write_bytes(damage(archive.read_bytes()))
    with pytest.raises(DataError, match=r"cannot unpack .*/a\."):
        unpack(archive, folder)


def test_a_compressed_file(tmp_path):
    (tmp_path / "a.gz").write_bytes(gzip.compress(b"text" * 1000))
    decompress(tmp_path / "a.gz", tmp_path / "a")
    assert (tmp_path / "a").read_bytes() == b"text" * 1000
    (tmp_path / "b.gz").write_bytes(gzip.compress(b"text" * 1000)[:-9])
    with pytest.raises(DataError, match=r"cannot unpack .*b\.gz: EOFError"):
        decompress(tmp_path / "b.gz", tmp_path / "b")
