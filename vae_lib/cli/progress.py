"""What a training run prints: a bar an epoch and a line after it."""

from __future__ import annotations

from tqdm import tqdm

from vae_lib.trainer import Row
from vae_lib.training import in_words


class EpochBars:
    """A bar with the running loss in nats on stderr, and a line with the test ELBO on stdout, each epoch."""

    def __init__(self, epochs: int) -> None:
        self._epochs = epochs
        self._bar: tqdm | None = None

    def report(self, epoch: int, done: int, steps: int, loss: float) -> None:
        """Show that ``done`` of the ``steps`` of ``epoch`` are over, with the mean loss so far."""
        if self._bar is None:
            title = f"epoch {epoch + 1}/{self._epochs}"
            # Nothing is drawn where stderr is not a terminal: a log keeps the line of each epoch. Reports come once in
            # half a second, so that each can be drawn.
            self._bar = tqdm(
                total=steps, desc=title, unit="step", leave=False, dynamic_ncols=True, disable=None, mininterval=0
            )
        self._bar.set_postfix_str(f"-ELBO {loss:.2f} nats", refresh=False)
        self._bar.update(done - self._bar.n)

    def abandon(self) -> None:
        """Take the bar away."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None

    def close(self, row: Row) -> None:
        """Show the numbers of a finished epoch."""
        self.abandon()
        print(f"epoch {row['epoch']:.0f}/{self._epochs}: {in_words(row)}", flush=True)
