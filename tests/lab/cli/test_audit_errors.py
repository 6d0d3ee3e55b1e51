"""`tangential audit` with wrong models, files and options: one line on standard error."""

import pytest
from audit_command import assert_one_line, run_audit, written


@pytest.fixture
def file(tmp_path):
    return written(tmp_path)


@pytest.mark.parametrize(
    ("factory", "words"),
    [
        ("raises", "raises in {file} failed: RuntimeError: no weights here"),
        ("raises_badly", "characters left out"),
        ("divides", "ZeroDivisionError: division by zero"),
        ("exits", "SystemExit: 0"),
        ("wants", "must be a function without arguments, got wants(width, depth=2)"),
        ("number", "(module, batches), got an object of type int"),
        ("none", "none must return a torch.nn.Module or (module, batches)"),
        ("kind", "got an object of type type"),
        ("three", "got an object of type tuple"),
        ("numbers", "batches must be an iterable of batches, got an object of type int"),
        ("no_batches", "batches must hold at least one batch, got none"),
        ("words", "got an object of type str"),
        ("one_batch", "got an object of type Tensor"),
        ("lambdas", "ZeroDivisionError: division by zero"),
        ("lines", "ValueError: one two\\x1b[31m one two"),
        ("long", "characters left out"),
        ("looks_up", "KeyError: 3"),
        ("silent", "AssertionError"),
        ("memory", "MemoryError"),
        ("exits_inside", "SystemExit: 0"),
        ("refuses", "copy.deepcopy failed: not to be copied"),
        ("weightless", "model must have weights, got one without"),
        ("meta", "weight is on the meta device"),
        ("lazy", "weight is not initialised"),
        ("returns_none", "no floating-point tensor, but an object of type NoneType"),
        ("inputs", "got an object of type list"),
        ("Raises", "must be a function without arguments, got Raises(error)"),
        ("torch", "has no function 'torch'"),
        ("", "has no function ''"),
    ],
)
def test_a_wrong_factory_is_explained(capsys, file, factory, words):
    assert_one_line(*run_audit(capsys, f"{file}:{factory}"), words.format(file=file))


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"def model(:", "SyntaxError"),
        (b"def model():\n\x00", "null bytes"),
        (b"\xff\xfe\xfa", "SyntaxError"),
        (b"raise RuntimeError('at import')", "at import"),
        (b"import sys; sys.exit(0)", "SystemExit"),
        (b"import no_such_package", "no_such_package"),
        (b"1/0", "division by zero"),
        (b"raise KeyError('x' * 3_000_000)", "left out"),
        (b"", "has no function 'model'"),
        (b"model = 3", "has no function 'model'"),
    ],
)
def test_a_wrong_file_is_explained(capsys, tmp_path, content, words):
    (tmp_path / "odd.py").write_bytes(content)
    assert_one_line(*run_audit(capsys, f"{tmp_path / 'odd.py'}:model"), words)


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("", "FILE.py:FACTORY, got ''"),
        (":", "got ':'"),
        ("os:system", "FILE.py:FACTORY, got 'os:system'"),
        (".py:model", "there is no file '.py'"),
        ("{folder}:model", "source must be torchvision:NAME"),
        ("{folder}/a\0b.py:model", "there is no file"),
        ("torchvision:", "torchvision has no model ''"),
        ("torchvision:resnet18:", "got 'torchvision:resnet18:'"),
        ("resnet50", "source must be torchvision:NAME, timm:NAME or FILE.py:FACTORY"),
        ("nowhere.py:model", "there is no file 'nowhere.py'"),
        ("{file}:modle", "has no function 'modle'. Did you mean 'model'?"),
        ("torchvision:resnet5O", "no model 'resnet5O'. Did you mean 'resnet50'?"),
        ("timm:convnext_tinny", "no model 'convnext_tinny'. Did you mean 'convnext_tiny'?"),
        ("torchvision:raft_small", "missing 1 required positional argument"),
        ("torchvision:fasterrcnn_mobilenet_v3_large_fpn", "targets should not be none"),
        ("timm:resnet18.none", "Invalid pretrained tag (none)"),
    ],
)
def test_a_wrong_source_is_explained(capsys, file, source, words):
    if source.startswith("t"):
        pytest.importorskip(source.partition(":")[0])
    size = ("--input-size", "3,8,8", "--batches", 1)
    assert_one_line(*run_audit(capsys, source.format(folder=file.parent, file=file), *size), words)


HUGE = 10**30


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--seed", HUGE), "seed"),
        (("--seed", -1), "seed"),
        (("--seed", "x"), "seed"),
        (("--batches", HUGE), "smaller --batches, --batch-size or --input-size"),
        (("--batches", 0), "batches"),
        (("--batch-size", HUGE), "10^12 GB"),
        (("--batch-size", -3), "batch-size"),
        (("--input-size", "1000000,1000000"), "2 batches of 2x1000000x1000000 numbers need"),
        (("--input-size", f"{HUGE},{HUGE}"), "10^12 GB"),
        (("--input-size", ",".join(["1"] * 100)), "RuntimeError"),
        (("--input-size", "9" * 5000), "digits"),
        (("--input-size", "0"), "input_size must be positive integers such as 3,224,224, got '0'"),
        (("--input-size", "nan"), "3,224,224, got 'nan'"),
        (("--input-size", ""), "3,224,224, got ''"),
        (("--input-size", "5,3"), "If the input is wrong, use --input-size, or"),
        (("--input-size", "3x8"), "3,224,224, got '3x8'"),
        (("--csv", "{folder}"), "Is a directory"),
        (("--csv", "{folder}/none/a.csv"), "No such file or directory"),
        (("--csv", "/proc/version"), "Invalid argument"),
        (("--csv", "/proc/none.csv"), "No such file or directory"),
        (("--json", "{folder}/none/a.json"), "No such file or directory"),
        (("--json", "a\0b"), "null byte"),
        (("--csv", "{folder}/a", "--json", "{folder}/a"), "must be two files"),
        (("--nothing", 3), "--nothing"),
    ],
)
def test_a_wrong_option_is_explained(capsys, file, options, words):
    options = [str(option).format(folder=file.parent) for option in options]
    arguments = ["--batches", 2] if "--batches" not in options else []
    assert_one_line(*run_audit(capsys, f"{file}:model", *options, *arguments), words)


def test_output_files_are_checked_before_the_audit(capsys, file, tmp_path, monkeypatch):
    monkeypatch.setattr("tangential_lab.cli.audit.audit", lambda *_, **__: pytest.fail("audited"))
    (tmp_path / "kept.json").write_text("kept")
    outputs = ("--json", tmp_path / "kept.json", "--csv", tmp_path / "none" / "a.csv")
    assert_one_line(*run_audit(capsys, f"{file}:good", *outputs), "No such file or directory")
    assert (tmp_path / "kept.json").read_text() == "kept"


def test_two_spellings_of_one_path_are_refused_and_nothing_is_written(
    capsys, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    outputs = ("--csv", "./x", "--json", tmp_path / "x")
    assert_one_line(*run_audit(capsys, "x.py:f", *outputs), "must be two files")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("option", ["--batches", "--batch-size", "--input-size"])
def test_options_of_noise_are_refused_if_the_factory_returns_batches(capsys, file, option):
    words = f"Stopped: {file}:good returns its own batches: leave out {option}\n"
    assert_one_line(*run_audit(capsys, f"{file}:good", option, 4), words)
