"""What recomputing by increments asks of raw: changes and contacts by their time, and feeds of virtual EVSEs."""

from __future__ import annotations

from alembic import op

revision = "0004"
down_revision = "0003"

# Rows come nearly in order of time: an index of a few pages finds those of a day, or those that are ahead of a cut-off.
STATEMENTS = """
create index on raw.status_change using brin (observed_at) with (autosummarize = on);
create index on raw.feed_contact using brin (contact_from) with (autosummarize = on);
alter table raw.feed add column has_virtual_evses boolean not null default false;
comment on column raw.feed.has_virtual_evses is
    'Each plug is told as an EVSE of its own, and the others of a charger as down while one of them is occupied.';
comment on column raw.feed.settings_changed_at is
    'When a setting that moves time or status (liveness, end, virtual EVSEs) last changed; null: never.';
"""


def upgrade() -> None:
    op.execute(STATEMENTS)
    # Where the marts are built a second time, to be compared and dropped: nobody else reads there.
    for schema in ("verify_staging", "verify_intermediate", "verify_marts"):
        op.execute(f"create schema {schema} authorization transform")


def downgrade() -> None:
    raise RuntimeError("raw data is never dropped by a migration: restore a backup, or drop the database by hand")
