"""A trial: its record, its resume from a checkpoint, its batches."""

import math
import os

import pytest
import torch
from digits_study import INVARIANT, SPEC, trained, without_times

from tangential_lab.studies import study
from tangential_lab.training import (
    OPTIMIZERS,
    ProcessShare,
    checkpoint,
    steps_per_epoch,
    training_batches,
)
from tangential_lab.training.trial import Trial, TrialOptions, TrialStopped

pytestmark = pytest.mark.usefixtures("one_thread")


class TestTrial:
    @pytest.mark.slow
    def test_record_says_what_was_done(self, digits):
        record = trained(digits)
        assert record["steps"] == 32
        assert record["scores"]["step"] == [8, 16, 24, 32]
        assert record["score"] == record["metrics"]["accuracy"] == record["scores"]["score"][-1]
        assert record["score"] > 0.6
        assert record["curves"]["step"] == [1, 11, 21, 31]
        losses = record["curves"]["loss"]
        assert losses[-1] < losses[0]
        assert record["layers"]["names"] == sorted(INVARIANT)
        assert [len(row) for row in record["layers"]["norm"]] == [3] * 4
        assert record["norm"] == record["curves"]["norm"][-1] > 0
        total = sum(v for k, v in record["seconds"].items() if k != "total")
        assert record["seconds"]["total"] == pytest.approx(total)

    @pytest.mark.slow
    def test_norm_and_effective_step_are_the_models(self, digits):
        """Recomputed outside, from the weights around every step."""
        seen = []

        def spy(groups, **point):
            optimizer = OPTIMIZERS["sgdp"].build(groups, **point)
            kernels = [w for group in groups for w in group["params"] if w.ndim == 4]
            look = lambda *_: seen.append([w.detach().clone().double() for w in kernels])
            optimizer.register_step_pre_hook(look)
            optimizer.register_step_post_hook(look)
            return optimizer

        optimizer = OPTIMIZERS["sgdp"]._replace(build=spy)
        spec = SPEC._replace(point=(("lr", 0.5), ("weight_decay", 1e-3)))
        record = Trial(digits, optimizer, spec, TrialOptions(2, INVARIANT)).train()
        for i, step in enumerate(record["curves"]["step"]):
            before, after = seen[2 * step], seen[2 * step + 1]
            norm = sum(w.norm().item() for w in after) / 3
            rows = [
                (b.flatten(1) / b.flatten(1).norm(dim=1, keepdim=True)
                 - a.flatten(1) / a.flatten(1).norm(dim=1, keepdim=True)).norm(dim=1)
                for a, b in zip(before, after, strict=True)
            ]  # fmt: skip
            turn = sum(row.square().mean().sqrt().item() for row in rows) / 3
            assert record["curves"]["norm"][i] == pytest.approx(norm, rel=0.02)
            assert record["curves"]["effective_step"][i] == pytest.approx(turn, rel=1e-3)

    def test_divergence_is_recorded_and_scores_as_a_guess(self, digits):
        point = (("lr", 1e12), ("weight_decay", 1e-3))
        record = trained(digits, SPEC._replace(optimizer="sgd", point=point))
        assert record["diverged"] is True
        assert record["score"] == digits.metric.chance_score == 0.1
        assert record["loss"] == float("inf")

    @pytest.mark.parametrize("optimizer", OPTIMIZERS)
    @pytest.mark.slow
    def test_a_resumed_trial_is_the_uninterrupted_one(self, optimizer, digits, tmp_path):
        spec = SPEC._replace(optimizer=optimizer)
        whole = trained(digits, spec)
        left = iter([3, 1, 9, 6, 99])
        while True:
            steps = iter(range(next(left), -1, -1))
            try:
                record = trained(digits, spec, folder=tmp_path, stop=lambda s=steps: not next(s))
                break
            except TrialStopped:
                assert list(tmp_path.glob("*.checkpoint"))
        assert without_times(record) == without_times(whole)

    def test_a_diverged_trial_is_not_left_to_be_resumed(self, digits, tmp_path):
        spec = SPEC._replace(optimizer="sgd", point=(("lr", 1e12), ("weight_decay", 1e-3)))
        whole = trained(digits, spec)
        steps = iter(range(1, whole["steps"] + 1))  # stops at the step that is seen to diverge
        stop = lambda: next(steps) == whole["steps"]
        record = trained(digits, spec, folder=tmp_path, stop=stop)
        assert record["diverged"]
        assert without_times(record) == without_times(whole)

    @pytest.mark.slow
    def test_a_model_that_diverges_between_logs_is_not_scored(self, digits):
        def breaks(groups, **point):
            optimizer = OPTIMIZERS["adamp"].build(groups, **point)
            steps = iter(range(99))

            def last(*_):
                if next(steps) == 31:
                    groups[0]["params"][0].data.fill_(math.nan)

            optimizer.register_step_post_hook(last)
            return optimizer

        task = digits._replace(score=lambda predictions: pytest.fail("scored"))
        optimizer = OPTIMIZERS["adamp"]._replace(build=breaks)
        record = Trial(task, optimizer, SPEC, TrialOptions(2, INVARIANT)).train()
        assert record["diverged"] is True
        assert record["score"] == 0.1
        assert record["steps"] == 32

    @pytest.mark.slow
    def test_steps_that_a_scaler_skips_are_logged_as_not_known(self, digits):
        def skips(groups, **point):
            optimizer = OPTIMIZERS["sgdp"].build(groups, **point)
            plainly, calls = optimizer.step, iter(range(99))

            def step(*args):
                if next(calls) in (0, 11):
                    return None
                return plainly(*args)

            optimizer.step = step
            return optimizer

        optimizer = OPTIMIZERS["sgdp"]._replace(build=skips)
        record = Trial(digits, optimizer, SPEC, TrialOptions(2, INVARIANT, layers=True)).train()
        assert record["curves"]["step"] == [1, 11, 21, 31]
        known = [not math.isnan(x) for x in record["curves"]["norm"]]
        assert known == [True, False, True, True]
        rows = record["layers"]["norm"]
        assert [len(row) for row in rows] == [3] * 4
        assert [not any(map(math.isnan, row)) for row in rows] == known

    def test_batches_depend_on_seed_and_step_alone(self, digits):
        steps = steps_per_epoch(digits)
        first = [
            b
            for b, _ in zip(
                training_batches(digits, 5, 0, ProcessShare()), range(2 * steps), strict=False
            )
        ]
        later = training_batches(digits, 5, steps + 3, ProcessShare())
        assert torch.equal(next(later)[0], first[steps + 3][0])
        halves = [
            next(training_batches(digits, 5, 4, ProcessShare(rank, 2)))[1] for rank in range(2)
        ]
        assert torch.equal(torch.cat(halves), first[4][1])
        other = next(training_batches(digits, 6, 0, ProcessShare()))
        assert not torch.equal(other[1], first[0][1])

    def test_splits_do_not_overlap(self, digits):
        together = torch.cat([split.inputs for split in digits.splits.values()]).flatten(1)
        assert len(together.unique(dim=0)) == 1797

    def test_the_audit_finds_what_batch_norm_makes_invariant(self, digits):
        assert set(study.scale_invariant_weights(digits)) == INVARIANT


STATE = {"step": 3, "model": {"w": torch.ones(3)}}


class TestCheckpoint:
    def test_a_corrupt_checkpoint_falls_back_to_the_previous_one(self, tmp_path):
        for step in (1, 2, 3):
            checkpoint.save(tmp_path, {**STATE, "step": step})
        paths = sorted(tmp_path.iterdir())
        assert len(paths) == 2
        content = bytearray(paths[1].read_bytes())
        content[len(content) // 2] ^= 1
        paths[1].write_bytes(content)
        with pytest.warns(UserWarning, match="is not used: its checksum"):
            assert checkpoint.load(tmp_path)["step"] == 2
        paths[0].write_bytes(b"")
        with pytest.warns(UserWarning, match="is not used"):
            assert checkpoint.load(tmp_path) is None

    def test_no_code_is_run(self, tmp_path):
        class Evil:
            def __reduce__(self):
                return (os.mkdir, (str(tmp_path / "run"),))

        checkpoint.save(tmp_path, {**STATE, "evil": Evil()})
        with pytest.warns(UserWarning, match="is not used"):
            assert checkpoint.load(tmp_path) is None
        assert not (tmp_path / "run").exists()

    @pytest.mark.slow
    def test_a_full_disk_keeps_the_old_checkpoint_and_training_continues(
        self, digits, tmp_path, monkeypatch
    ):
        checkpoint.save(tmp_path, STATE)

        def full(_):
            raise OSError(28, "No space left on device")

        with monkeypatch.context() as patch:
            patch.setattr(os, "fsync", full)
            with pytest.raises(OSError, match="No space left"):
                checkpoint.save(tmp_path, {**STATE, "step": 9})
            with pytest.warns(UserWarning, match="No space left"):
                record = trained(digits, folder=tmp_path / "other", checkpoint_s=0)
        assert checkpoint.load(tmp_path)["step"] == 3
        assert len(list(tmp_path.glob("*.checkpoint*"))) == 1
        assert without_times(record) == without_times(trained(digits))
