"""What a checkpoint keeps of how far a run is."""

from __future__ import annotations

from smoe_ds.train.progress import Progress


def test_tokens_and_time_in_steps_go_on_with_the_run() -> None:
    progress = Progress()
    progress.spent(1.5, 100)
    progress.spent(0.25)  # waiting for data
    again = Progress.restored(vars(progress))
    again.spent(1.0, 50)
    assert (again.tokens, again.step_seconds) == (150, 2.75)


def test_a_run_that_began_before_they_were_counted_never_has_them() -> None:
    state = {key: value for key, value in vars(Progress(step=7)).items() if key not in ("tokens", "step_seconds")}
    progress = Progress.restored(state)
    progress.spent(1.0, 50)
    assert (progress.step, progress.tokens, progress.step_seconds) == (7, None, None)
