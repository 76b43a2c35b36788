"""In what the versions of OCPI differ for somebody who reads Locations.

What a version renamed and senders mix up (``voltage`` or ``max_voltage``, a party at the Location) is read in every version, by `ingestion.ocpi.models`.
What a status word means is data: the status profiles ``ocpi_2_1_1``, ``ocpi_2_2_1``, ``ocpi_2_3_0``.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Dialect:
    """How one version says it."""

    is_token_raw: bool
    """The token stands in its header as it is; otherwise in base64. Many get it wrong: this is what is tried first."""
    has_roles: bool
    """Version details say of each endpoint whether it is the sender's or the receiver's."""
    parking_type: str
    """The Location's key for what kind of parking it is."""


DIALECTS = {
    "2.1.1": Dialect(is_token_raw=True, has_roles=False, parking_type="type"),
    "2.2.1": Dialect(is_token_raw=False, has_roles=True, parking_type="parking_type"),
    "2.3.0": Dialect(is_token_raw=False, has_roles=True, parking_type="parking_type"),
}
"""By version, as of ``feed.version``."""
