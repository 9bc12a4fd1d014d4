"""An artifact that runs in a copy of this process: what crashes there does not end the run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from graphpress.backend import Artifact, Findings
from graphpress.forked import ForkedCall
from graphpress.runtime import renew

Feed = Mapping[str, np.ndarray]


class Apart(ForkedCall[Feed, Feed]):
    """An artifact that has no runner of its own, run where it can do no harm; closed after use.

    Args:
        artifact: what it has loaded it loads anew in the copy, where no threads are but the one that runs it.
        end: moment (``time.monotonic``) at which a run that is not done is given up.
    """

    def __init__(self, artifact: Artifact, end: float = float("inf")) -> None:
        self._artifact, self._is_fresh = artifact, False
        super().__init__(self._run_in_the_copy, end)

    @property
    def files(self) -> Sequence[Path]:
        """Those of the artifact."""
        return self._artifact.files

    @property
    def bytes(self) -> int:
        """The artifact's."""
        return self._artifact.bytes

    def findings(self) -> Findings:
        """The artifact's."""
        return self._artifact.findings()

    def run(self, feed: Feed) -> Feed:
        """Run once, there.

        Raises:
            CrashError: native code crashes.
            OutOfTimeError: the moment has come.
            GraphpressError: the artifact raises it.
        """
        return self(feed)

    def _run_in_the_copy(self, feed: Feed) -> Feed:
        if not self._is_fresh:
            renew(self._artifact)
            self._is_fresh = True
        return self._artifact.run(feed)
