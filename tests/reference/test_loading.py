"""Reference files: what is refused and how it is said, and that a load never changes an earlier one."""

from __future__ import annotations

from pathlib import Path

import pytest

from reference.__main__ import main
from reference.kinds import KINDS
from reference.loading import load
from reference.reading import ReferenceFileError, read
from tests.reference.files import FUNDED_COLUMNS as FUNDED
from tests.reference.files import LGAS, POSTCODES, collection, funded, square, table, write_files
from warehouse.connection import REPOSITORY, Role, connect
from warehouse.object_store import open_store

RANGES = "state,first_postcode,last_postcode\n"
LOOKUP = "written_name,lga_name,lga_code\n"
DECISIONS = "asset_id,evse_ids,decided_by,decided_at,note\n"


def said(kind: str, content: str | bytes) -> list[str]:
    """All that is wrong with a file."""
    with pytest.raises(ReferenceFileError) as raised:
        read(KINDS[kind], content if isinstance(content, bytes) else content.encode())
    return raised.value.reasons


def here(latitude: object, longitude: object) -> str:
    return table([funded(latitude=latitude, longitude=longitude)], FUNDED)


@pytest.mark.parametrize(
    ("kind", "content", "reasons"),
    [
        (
            "postcode_ranges",
            RANGES + "NSW,2000,2599\nXX,26x,2618\nACT,2618,2600\nVIC,2599,3999\n",
            [
                "postcode_ranges.csv line 3, state: 'XX': Input should be 'NSW', 'VIC', 'QLD', 'SA', 'WA', 'TAS', 'NT' or 'ACT'",
                "postcode_ranges.csv line 3, first_postcode: '26x' is not a postcode",
                "postcode_ranges.csv line 4: last_postcode 2600 is before first_postcode 2618",
                "postcode_ranges.csv line 5, first_postcode: 2599 is also in the range of line 2",
            ],
        ),
        ("postcode_ranges", RANGES, ["postcode_ranges.csv: there is not a single row in it"]),
        ("postcode_ranges", "", [f"postcode_ranges.csv line 1, {name}: this column is missing" for name in RANGES.strip().split(",")]),
        (
            "required_states",
            "state,States\nNSW\nnsw,x\n",
            ["required_states.csv line 1, States: nobody knows this column"],
        ),
        ("required_states", "state\nNSW\n\nnsw\n", ["required_states.csv line 4, state: the same as in line 2"]),
        ("required_states", "state,state\nNSW,NSW\n", ["required_states.csv line 1: a column is there twice"]),
        ("required_states", b"state\nNSW\xff\n", ["required_states.csv: not UTF-8 at byte 9"]),
        ("required_states", 'state\n"NSW\n', ["required_states.csv line 2: unexpected end of data"]),
        ("required_states", "state\nNSW\nW\0A\n", ["required_states.csv line 3: there is a NUL in it"]),
        (
            "lga_lookup",
            LOOKUP + "Bilby,,10001\nBil by,Bilby,10003\nBILBY,Bilby,1000\n,Bilby,10001,\nBilby,Bilby,50001\nNumbat,Numbat,10002\nnumbat,Numbat,10004\n",
            [
                "lga_lookup.csv line 2, lga_name: is empty",
                "lga_lookup.csv line 4, lga_code: '1000' is not an ABS code of five digits",
                "lga_lookup.csv line 5: 4 fields, the header has 3",
                "lga_lookup.csv line 8, written_name: the same as in line 7",
            ],
        ),
        ("lga_lookup", LOOKUP + "A,Bilby,10001\nB,Bilbi,10001\n", ["lga_lookup.csv line 3, lga_name: another than in line 2 for 10001"]),
        ("government_funded", here(-33.5, ""), ["government_funded.csv line 2: of latitude and longitude one is missing"]),
        (
            "government_funded",
            here(150.5, -33.5),
            [
                "government_funded.csv line 2, latitude: '150.5': Input should be less than or equal to -8",
                "government_funded.csv line 2, longitude: '-33.5': Input should be greater than or equal to 96",
            ],
        ),
        (
            "government_funded",
            table([funded(cpo_name=" ", program="", round="", latitude="x", longitude="150.1")], FUNDED),
            [
                "government_funded.csv line 2, cpo_name: is empty",
                "government_funded.csv line 2, latitude: 'x': Input should be a valid number, unable to parse string as a number",
                "government_funded.csv line 2, program: is empty",
                "government_funded.csv line 2, round: is empty",
            ],
        ),
        ("cpo_names", "listed_name,cpo_id\nWat Tle,wattle\nWATTLE,wattle\n", ["cpo_names.csv line 3, listed_name: the same as in line 2"]),
        (
            "funding_decisions",
            DECISIONS + "a,none,Ann,2026-10-01T00:00:00Z,\na,,,2026-10-01T00:00:00,\n",
            [
                "funding_decisions.csv line 3, evse_ids: is empty",
                "funding_decisions.csv line 3, decided_by: is empty",
                "funding_decisions.csv line 3, decided_at: '2026-10-01T00:00:00': Input should have timezone info",
            ],
        ),
        (
            "funding_decisions",
            DECISIONS + "a,none,Ann,2026-10-01T00:00:00Z,\na,x,Ann,2026-10-01T00:00:00Z,\n",
            ["funding_decisions.csv line 3, asset_id: the same as in line 2"],
        ),
        ("lga_boundaries", "{}", ["lga_boundaries.geojson: not a GeoJSON FeatureCollection"]),
        ("lga_boundaries", collection([]), ["lga_boundaries.geojson: there is not a single feature in it"]),
        (
            "lga_boundaries",
            collection(
                [
                    LGAS[0],
                    LGAS[0],
                    ({"lga_code": "10003"}, square(150, -34, 151, -33)),
                    ({"lga_code": "10004", "lga_name": "Emu"}, None),
                    ({"lga_code": "10005", "lga_name": "Roo"}, {"type": "Point", "coordinates": [150, -33]}),
                    ({"lga_code": "10006", "lga_name": "Tas"}, square(-34, 150, -33, 151)),
                    ({"lga_code": "1000", "lga_name": "Ant"}, square(150, -34, 151, -33)),
                    ({"lga_code": "10008", "lga_name": "BIL BY"}, square(150, -34, 151, -33)),
                    ({"lga_code": "50008", "lga_name": "Bilby"}, square(115, -32, 116, -31)),
                    ({"lga_code": "10009", "lga_name": "Flat"}, square(150, -34, 151, -34)),
                ]
            ),
            [
                "lga_boundaries.geojson feature 3, lga_name: is empty",
                "lga_boundaries.geojson feature 4, geometry: Emu has none that can be read",
                "lga_boundaries.geojson feature 5, geometry: that of Roo is no polygon",
                "lga_boundaries.geojson feature 6, geometry: Tas is not in Australia; coordinates are degrees, longitude first",
                "lga_boundaries.geojson feature 7, lga_code: '1000' is not an ABS code of five digits",
                "lga_boundaries.geojson feature 10, geometry: that of Flat is no polygon",
                "lga_boundaries.geojson feature 2, lga_code: the same as in feature 1",
                "lga_boundaries.geojson feature 2, lga_name: the same as in feature 1",
                "lga_boundaries.geojson feature 8, lga_name: the same as in feature 1",
            ],
        ),
        (
            "lga_boundaries",
            '{"features": [{"properties": ["x"]}]}',
            ["lga_boundaries.geojson feature 1, lga_code: is empty", "lga_boundaries.geojson feature 1, lga_name: is empty"],
        ),
        ("postcode_boundaries", collection([POSTCODES[0]] * 2), ["postcode_boundaries.geojson feature 2, postcode: the same as in feature 1"]),
        ("postcode_boundaries", collection([({"postcode": ""}, LGAS[0][1])]), ["postcode_boundaries.geojson feature 1, postcode: is empty"]),
    ],
)  # fmt: skip
def test_a_file_is_refused_with_all_that_is_wrong(kind: str, content: str | bytes, reasons: list[str]) -> None:
    assert said(kind, content) == reasons


def test_a_spreadsheet_s_marks_and_lost_zeros_are_no_error() -> None:
    rows = read(KINDS["postcode_ranges"], b"\xef\xbb\xbfstate,last_postcode,first_postcode\r\nnt , 899,800\r\n,,\r\n")
    assert [(one.number, *one.row.model_dump().values()) for one in rows] == [(2, "NT", "0800", "0899")]


def test_a_part_of_a_boundary_without_extent_does_not_spoil_the_others() -> None:
    parts = [square(150, -34, 151, -33)["coordinates"], square(152, -34, 153, -34)["coordinates"]]
    content = collection([({"lga_code": "10001", "lga_name": "Bilby"}, {"type": "MultiPolygon", "coordinates": parts})])
    assert [one.row.name for one in read(KINDS["lga_boundaries"], content.encode())] == ["Bilby"]


def counts() -> dict[str, int]:
    """Rows of every table that a load writes."""
    tables = ("load", *sorted({kind.table for kind in KINDS.values()}), "located")
    with connect(Role.TRANSFORM) as connection:
        found = {}
        for name in tables:
            row = connection.execute(f"select count(*) from reference.{name}").fetchone()  # type: ignore[call-overload]
            assert row is not None
            found[name] = row[0]
        return found


SHIPPED = {
    "load": 1, "area": 0, "cpo_name": 0, "funded_asset": 0, "funding_decision": 0, "lga_name": 0, "postcode_range": 11,
    "required_state": 0, "located": 0,
}  # fmt: skip


@pytest.mark.usefixtures("warehouse")
def test_a_missing_file_is_named_with_its_place_and_purpose_and_nothing_is_loaded(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_files(tmp_path, required_states=None, lga_lookup="written_name\n")
    assert main(["load", "--url", str(tmp_path)]) == 1
    assert capsys.readouterr().err.splitlines() == [
        f"required_states.csv is not there: looked for it at {tmp_path}/required_states.csv;"
        " it is for the states whose governments receive an extract",
        "lga_lookup.csv line 1, lga_name: this column is missing",
        "lga_lookup.csv line 1, lga_code: this column is missing",
    ]
    assert main(["load", "--url", str(tmp_path / "nowhere"), "--kind", "cpo_names"]) == 1
    assert f"looked for it at {tmp_path}/nowhere/cpo_names.csv" in capsys.readouterr().err
    assert not (tmp_path / "nowhere").exists()
    assert main(["load", "--url", str(tmp_path / "lga_lookup.csv"), "--kind", "cpo_names"]) == 1
    assert capsys.readouterr().err.startswith(
        f"cpo_names.csv cannot be read at {tmp_path}/lga_lookup.csv/cpo_names.csv:"
    )
    assert counts() == SHIPPED


@pytest.mark.usefixtures("warehouse")
def test_files_are_stored_once_with_who_and_what(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    twice = funded(latitude="-33.50001", longitude="150.5")
    write_files(tmp_path, government_funded=table([twice, twice], FUNDED))
    assert main(["load", "--url", tmp_path.as_uri(), "--by", "Ann"]) == 0
    assert "lga_boundaries: 3 rows, load 4" in capsys.readouterr().out
    first = counts()
    assert first == SHIPPED | {
        "load": 7, "area": 5, "lga_name": 2, "funded_asset": 2, "postcode_range": 13, "required_state": 2, "located": 2,
    }  # fmt: skip
    assert main(["load", "--url", str(tmp_path), "--by", "Ann"]) == 0
    assert capsys.readouterr().out.count("as it was") == 6
    assert counts() == first
    # Who goes back to an earlier content has loaded something new.
    earlier = (tmp_path / "required_states.csv").read_text(encoding="utf-8")
    for content in ("state\nWA\n", earlier):
        write_files(tmp_path, required_states=content)
        assert main(["load", "--url", str(tmp_path), "--kind", "required_states", "--by", "Bob"]) == 0
    with connect(Role.TRANSFORM) as connection:
        loads = connection.execute(
            "select loaded_by, row_count, length(content_sha256) from reference.load where kind = 'required_states' order by load_key"
        ).fetchall()
        ids = connection.execute("select asset_id from reference.funded_asset order by line").fetchall()
    assert loads == [("Ann", 2, 64), ("Bob", 1, 64), ("Bob", 2, 64)]
    assert len(ids) == 2
    assert ids[1] == (f"{ids[0][0]}-2",)


@pytest.mark.usefixtures("warehouse")
def test_the_object_store_is_where_files_are_looked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("OBJECT_STORE_URL", tmp_path.as_uri())
    assert main(["load", "--kind", "required_states"]) == 1
    assert f"looked for it at {tmp_path}/reference/required_states.csv;" in capsys.readouterr().err
    open_store().create("reference/required_states.csv", b"state\nNSW\n")
    assert main(["load", "--kind", "required_states"]) == 0
    assert f"1 rows, load 2 ({tmp_path}/reference/required_states.csv)" in capsys.readouterr().out


@pytest.mark.usefixtures("warehouse")
def test_files_must_agree_with_each_other_also_when_they_are_loaded_one_by_one(tmp_path: Path) -> None:
    def refused(**changed: str) -> list[str]:
        write_files(tmp_path, **changed)
        with connect(Role.REGISTRAR) as connection, pytest.raises(ReferenceFileError) as raised:
            load(connection, url=str(tmp_path), kinds=list(changed), loaded_by="Ann")
        return raised.value.reasons

    with connect(Role.REGISTRAR) as connection:
        load(connection, url=str(write_files(tmp_path)), loaded_by="Ann")
    before = counts()
    assert refused(lga_lookup=LOOKUP + "Bilby City,Bilby City,50001\nNUMBAT,Bilby,10001\n") == [
        "lga_lookup.csv, written_name 'Bilby City': means 50001 'Bilby City'; lga_boundaries.geojson has 50001 'Bilby'",
        "lga_lookup.csv, written_name 'NUMBAT': means 10001 'Bilby'; lga_boundaries.geojson has 10002 'Numbat'",
    ]
    assert refused(funding_decisions=DECISIONS + "0123456789,none,Ann,2026-10-01T00:00:00Z,\n") == [
        "funding_decisions.csv, asset_id 0123456789: no row of government_funded.csv has this id"
    ]
    assert counts() == before


def test_a_warehouse_that_is_not_there_is_said_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("WAREHOUSE_URL", "WAREHOUSE_URL_FILE", "WAREHOUSE_REGISTRAR_URL", "WAREHOUSE_REGISTRAR_URL_FILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("VAR_DIR", str(tmp_path))
    assert main(["locate"]) == 2
    assert capsys.readouterr().err.startswith("no warehouse: ")
    monkeypatch.setenv("WAREHOUSE_URL", "postgresql://nobody@127.0.0.1:1/nothing")
    assert main(["locate"]) == 2
    assert capsys.readouterr().err.startswith("the warehouse does not answer: ")


def test_the_documentation_names_every_file_and_column() -> None:
    text = (REPOSITORY / "docs" / "reference.md").read_text(encoding="utf-8")
    named = [kind.file for kind in KINDS.values()]
    named += [name for kind in KINDS.values() if kind.row for name in kind.row.model_fields]
    assert [name for name in named if f"`{name}`" not in text] == []
