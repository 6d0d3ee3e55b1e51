"""The Triton kernels compile for GPUs, on a machine that has none."""

import pytest

pytest.importorskip("triton")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("form", "architecture"),
    [
        ("AdamP float32", 80),
        ("AdamP float32", 90),
        ("AdamP float32", 100),
        ("SGDP float32", 90),
        ("AdamP bfloat16, stochastic", 90),
    ],
)
def test_no_register_spills(form, architecture):
    import gpu_static

    usual = form == "AdamP float32"
    for kernel in ("guess", "advance", "judge", "amend") if usual else ("advance", "amend"):
        found = gpu_static.needs(kernel, gpu_static.FORMS[form], architecture)
        assert found.spilt_bytes == 0, (kernel, found)


@pytest.mark.slow
def test_no_register_spills_around_other_optimizers():
    import gpu_static

    for names in (("changes", "measure"), ("linear rules", "amend_changes")):  # the largest
        found = gpu_static.needs_around(names[1], 80, **gpu_static.AROUND[names])
        assert found.spilt_bytes == 0, (names, found)
