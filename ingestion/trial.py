"""What a feed's settings make of its answer, without storing anything: for whoever adds a CPO."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

from ingestion.config import CpoConfig, OcpiPullFeed, RestPullFeed, secret
from ingestion.feeds import open_polled
from ingestion.mapping import NoListError, join, records, translate_records, translate_status_records
from ingestion.model import Asset, Poll, Translated
from ingestion.settings import status_profiles
from ingestion.values import parse_json
from warehouse.strict_yaml import ConfigError


def ask_once(config: CpoConfig, find_secret: Callable[[str], str] = secret) -> Poll:
    """Ask the feed once. Raises ``FeedError`` when it does not answer in full, ``ConfigError`` when it is not one that is polled."""
    feed = open_polled(config, find_secret)
    try:
        return feed.poll()
    finally:
        feed.close()


def read_files(config: CpoConfig, files: Sequence[Path]) -> Poll:
    """Read a captured answer as the feed's own: of statuses that stand apart, descriptions first. Raises ``ConfigError``."""
    feed = config.feed
    if isinstance(feed, RestPullFeed):
        wanted = 1 if feed.status_mapping is None else 2
        if len(files) != wanted:
            raise ConfigError(
                f"{config.cpo_id}: name {wanted} file(s): " + ("the list", "descriptions, then statuses")[wanted - 1]
            )
        made = translate_records(_list(files[0], feed.mapping.sites), feed.mapping, feed, files[0].name)
        if feed.status_mapping is not None:
            items = _list(files[1], feed.status_mapping.items)
            made = join(made, translate_status_records(items, feed.status_mapping, feed, files[1].name))
    elif isinstance(feed, OcpiPullFeed):
        from ingestion.ocpi.translate import translate_locations

        made = Translated()
        for file in files:
            told = translate_locations(_list(file, "data || items || @"), feed, file.name)
            made = Translated(made.assets + told.assets, made.statuses | told.statuses, made.rejected + told.rejected)
    else:
        raise ConfigError(f"{config.cpo_id}: files of a feed of kind {feed.kind} cannot be tried")
    return Poll(None, assets=made.assets, statuses=made.statuses, rejected=made.rejected)


def _list(file: Path, expression: str) -> list[object]:
    try:
        return records(parse_json(file.read_bytes()), expression)
    except NoListError as error:
        raise ConfigError(f"{file}: {error}") from error
    except OSError as error:
        raise ConfigError(f"{file}: cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise ConfigError(f"{file}: is not JSON: {error}") from error


def describe(config: CpoConfig, poll: Poll) -> Iterator[str]:
    """Lines for people: counts, words and what the profile makes of them, what was rejected and why, the first record as it was read."""
    assets = poll.assets
    counted = (
        ("sites", {a.site_ref for a in assets}),
        ("chargers", {a.charger_ref for a in assets}),
        ("EVSEs", {a.evse_ref for a in assets}),
        ("connectors", {(a.evse_ref, a.connector_ref) for a in assets}),
    )
    yield f"{config.cpo_id}: " + ", ".join(f"{len(found)} {name}" for name, found in counted)
    profile = config.feed.status_profile
    meanings = status_profiles()[profile]
    yield f"statuses, by profile {profile}:"
    for word, count in Counter(word for word, _ in poll.statuses.values()).most_common():
        meaning = meanings.get(word.strip().casefold(), "NOT IN THE PROFILE, counts as unknown")
        yield f"  {count:>6}  {word} -> {meaning}"
    silent = len({a.evse_ref for a in assets} - poll.statuses.keys())
    if silent:
        yield f"  {silent:>6}  described without a status -> missing"
    yield f"rejected, or noted: {len(poll.rejected)}"
    places = defaultdict(list)
    for one in poll.rejected:
        places[one.source, one.field or "the record", one.reason].append(one.record_ref)
    for (source, field, reason), refs in sorted(places.items(), key=lambda item: -len(item[1])):
        yield f"  {len(refs):>6}  {source} {field}: {reason}; the first is {refs[0]}"
    yield from _first(assets, poll)


def _first(assets: Sequence[Asset], poll: Poll) -> Iterator[str]:
    if not assets:
        yield "no record could be read"
        return
    yield "the first record, as it is read:"
    for name, value in asdict(assets[0]).items():
        if value is not None and not name.endswith("_ref"):
            yield f"  {name}: {value}"
    word, updated_at = poll.statuses.get(assets[0].evse_ref, (None, None))
    yield f"  status: {word}" + (f", since {updated_at.isoformat()}" if updated_at else "")
