"""What the marts that are computed beside uptime say, to be compared between runs."""

from __future__ import annotations

from typing import Any

from warehouse.connection import Role, connect

MARTS = (
    "dim_evse_funding", "dim_required_state", "dim_site", "fct_funding_match_review",
    "dim_connector_version", "fct_asset_suspicion", "fct_evse_absence", "fct_feed_flip", "fct_feed_health_daily",
    "fct_feed_last_failure", "fct_unmapped_status_word",
    "fct_evse_outage", "fct_evse_outage_monthly", "fct_charger_outage_monthly", "fct_site_outage_monthly",
    "fct_evse_session", "fct_evse_suspect",
    "fct_charger_overlap_daily", "fct_site_overlap_daily", "fct_site_hourly_profile",
)  # fmt: skip


def rows_of(mart: str, columns: str = "*", condition: str = "true") -> list[tuple[Any, ...]]:
    """Rows of one mart in a fixed order, as an analyst reads them."""
    with connect(Role.ANALYST) as connection:
        rows: list[tuple[Any, ...]] = connection.execute(
            f"select {columns} from marts.{mart} as it where {condition} order by it::text"  # type: ignore[call-overload]
        ).fetchall()
        return rows


def every_row() -> dict[str, list[tuple[Any, ...]]]:
    """All rows of all those marts."""
    return {mart: rows_of(mart) for mart in MARTS}
