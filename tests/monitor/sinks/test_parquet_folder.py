"""The folder of Parquet files: one data set at any time, foreign files, memory."""

import subprocess
import sys
import tracemalloc

import pyarrow.dataset
import pyarrow.parquet
import pytest
from sink_cases import expected, log, rows, same, values

from tangential.monitor import diagnose, sinks
from tangential.monitor.sinks.rows import COLUMNS, FIELDS


def test_the_folder_is_one_data_set_at_any_time(tmp_path):
    sink = sinks.parquet(tmp_path / "run", flush_every=2)
    for step in range(5):
        sink(values(step), step)
        whole = step + 1 - (step + 1) % 2
        assert pyarrow.dataset.dataset(tmp_path / "run").count_rows() == 2 * whole
    sink.close()
    table = pyarrow.parquet.read_table(tmp_path / "run")
    assert table.column_names == list(FIELDS)
    assert table["step"].to_pylist() == [0, 0, 1, 1, 2, 2, 3, 3, 4, 4]
    assert table["lr"].null_count == 10
    assert table["equilibrium_rad"].null_count == 5  # NaN is not null


@pytest.mark.slow
def test_pending_logs_are_written_when_a_run_ends_by_an_exception(tmp_path):
    code = f"""
from tangential.monitor import sinks
sinks.parquet({str(tmp_path / "run")!r})({{"all/norm": 1.0}}, 7)
raise SystemExit(3)"""
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 3
    assert rows(tmp_path / "run") == [{"step": 7, "label": "all", "norm": 1.0}]


def test_a_resumed_run_leaves_older_files_alone(tmp_path):
    sink = sinks.parquet(tmp_path / "run", flush_every=2)
    log(sink, *range(8))
    parts = sorted((tmp_path / "run").iterdir())
    before = [part.stat().st_mtime_ns for part in parts]
    sink = sinks.parquet(tmp_path / "run")
    log(sink, 5)
    assert same(rows(tmp_path / "run"), expected(*range(6)))
    assert [part.stat().st_mtime_ns for part in parts[:2]] == before[:2]


def test_a_foreign_folder_is_refused(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    for use in (sinks.parquet, rows):
        with pytest.raises(ValueError, match=r"notes\.txt was not written by Monitor"):
            use(tmp_path)
    (tmp_path / "notes.txt").unlink()
    table = pyarrow.table({"step": [1], "label": ["all"]})
    pyarrow.parquet.write_table(table, tmp_path / "part-000000.parquet")
    with pytest.raises(ValueError, match=r"part-000000\.parquet .* other columns"):
        sinks.parquet(tmp_path)


def test_a_file_is_refused(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match=r"path must be a folder, but .* is a file"):
        sinks.parquet(tmp_path / "file")


@pytest.mark.parametrize("flush_every", [0, -1, 1.5])
def test_flush_every_is_checked(flush_every, tmp_path):
    with pytest.raises(ValueError, match=r"flush_every must be an integer >= 1, got"):
        sinks.parquet(tmp_path, flush_every=flush_every)


def peak_mb(work):
    """The most megabytes that Python allocates at a time."""
    tracemalloc.start()
    try:
        work()
        return tracemalloc.get_traced_memory()[1] / 2**20
    finally:
        tracemalloc.stop()


@pytest.mark.slow
def test_long_files_take_little_memory(tmp_path):
    path, folder = tmp_path / "run.csv", tmp_path / "run"
    values_ = {f"{i}.weight/{c}": (i + 1) / 3 for i in range(200) for c in COLUMNS[:15]}
    csv_, parquet = sinks.csv(path), sinks.parquet(folder, flush_every=50)
    for step in range(100):
        csv_(values_, step)
        parquet(values_, step)
    parquet.close()
    size = path.stat().st_size / 2**20
    assert size > 4
    assert peak_mb(lambda: diagnose(path)) < 0.7 * size
    assert peak_mb(lambda: diagnose(folder)) < 3 * size  # a batch of 4,096 lines
    assert peak_mb(lambda: sinks.csv(path)({"all/norm": 1.0}, 90)) < 2
    assert rows(path)[-1] == {"step": 90, "label": "all", "norm": 1.0}
    assert peak_mb(lambda: log(sinks.parquet(folder), 90)) < 2
