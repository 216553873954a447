"""Before the learner: learning-rate schedules, functions of the share of training that is done.

Being a function of the step alone, a schedule has no state to save.
"""

from __future__ import annotations


class Linear:
    """Rise linearly from 0 to 1 over the first ``warmup`` of training, then fall linearly to 0 at its end.

    0.1 is what MAG and BERT fine-tuning use. 1.0 is what MAG's code did until December 2021, and WSA-BERT's and MIRD's still do:
    with the numbers of warm-up and of all steps interchanged, the rate rises for the whole run.

    Raises ValueError unless ``warmup`` is in [0, 1].
    """

    def __init__(self, warmup: float = 0.1):
        if not 0 <= warmup <= 1:
            raise ValueError(f"warmup is a share of training in [0, 1], but is {warmup}; set model.schedule.warmup.")
        self.warmup = warmup

    def __call__(self, progress: float) -> float:
        """``progress``: share of training done, in [0, 1)."""
        if progress < self.warmup:
            return progress / self.warmup
        return (1 - progress) / (1 - self.warmup)
