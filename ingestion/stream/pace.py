"""How long things may take with a stream. Tests make them short; nothing else changes them."""

from __future__ import annotations

import random
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Pace:
    """Times in seconds, and bounds."""

    open_seconds: float = 15.0
    """How long a connection may take to open, with TLS and handshake."""
    close_seconds: float = 3.0
    """How long the other side may take to say good-bye."""
    slice_seconds: float = 0.25
    """How often a waiting reader looks whether it is to stop."""
    ping_seconds: float = 10.0
    """Most time without a ping on a silent WebSocket; less where ``quiet_seconds`` is short."""
    backoff_seconds: float = 0.5
    """Upper end of the first pause before connecting again; doubled each time."""
    backoff_cap_seconds: float = 60.0
    """Most of any pause, also of one that the source asks for."""
    held_seconds: float = 30.0
    """A connection that lasted this long starts the pauses anew."""
    commit_seconds: float = 0.5
    """How long what was received may wait for others to be written with it."""
    turn_seconds: float = 0.2
    """How often a collector that waits for its turn asks for it."""
    handover_seconds: float = 1.0
    """How much later than the collector before it a new one may receive the same message."""
    stretch_seconds: float = 15.0
    """How often the time in which the connection was held is stored."""
    snapshot_seconds: float = 10.0
    """How long after connecting a message with every EVSE may take before a gap counts as lost."""
    snapshot_again_seconds: float = 60.0
    """Pause before a list that could not be had is asked for again."""
    report_seconds: float = 60.0
    """How often the log says what arrived."""
    join_seconds: float = 2.0
    """How long the end of a window waits for the reader to finish."""

    def backoff(self, tries: int, asked_for: float | None) -> float:
        """Pause before the next try: full jitter below a bound that doubles; at least what the source asks for, within the cap."""
        bound = min(self.backoff_cap_seconds, self.backoff_seconds * 2.0 ** min(tries, 32))
        return max(random.uniform(0, bound), min(asked_for or 0.0, self.backoff_cap_seconds))


MAX_MESSAGE_BYTES = 64 * 1024 * 1024
"""How long one message may be, unpacked."""
BUFFER_BYTES = 64 * 1024 * 1024
"""How much may wait to be written; then reading pauses, or, for a collector that waits for its turn, begins anew."""
BATCH_MESSAGES = 2000
"""Most messages in one transaction."""
