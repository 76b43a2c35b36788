"""``/openapi.json`` and ``/docs``: the page is made of the document here, so that it asks no other host for anything."""

from __future__ import annotations

from html import escape
from typing import Any

from fastapi import FastAPI, Response
from fastapi.openapi.utils import get_openapi

from ingestion.receiver.rest import record_schemas

_STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 56rem; margin: 2rem auto; padding: 0 1rem; color: #1b1f24; }
h2 { margin-top: 2.5rem; border-top: 1px solid #d0d7de; padding-top: 1rem; }
code, .method { font-family: ui-monospace, monospace; background: #eef1f4; padding: .1em .35em; border-radius: 4px; }
table { border-collapse: collapse; width: 100%; } td, th { text-align: left; vertical-align: top; padding: .3rem .6rem .3rem 0; border-bottom: 1px solid #eaeef2; }
"""


def add_pages(app: FastAPI) -> None:
    """Complete the app's OpenAPI document, and add the page that shows it."""

    def document() -> dict[str, Any]:
        if app.openapi_schema is None:
            made = get_openapi(title=app.title, version=app.version, description=app.description, routes=app.routes)
            made.setdefault("components", {}).setdefault("schemas", {}).update(record_schemas())
            app.openapi_schema = made
        return app.openapi_schema

    app.openapi = document  # type: ignore[method-assign]

    @app.get("/docs", include_in_schema=False)
    async def page() -> Response:
        return Response(rendered(app.openapi()), media_type="text/html; charset=utf-8")


def rendered(document: dict[str, Any]) -> str:
    """An OpenAPI document as one HTML page."""
    parts = [f"<h1>{escape(document['info']['title'])}</h1>", f"<p>{_text(document['info']['description'])}</p>"]
    parts.append('<p>As a document for programs: <a href="openapi.json">openapi.json</a>.</p>')
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            parts += _operation(document, method, path, operation)
    body = "\n".join(parts)
    title = escape(document["info"]["title"])
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{title}</title>'
        f"<style>{_STYLE}</style></head><body>\n{body}\n</body></html>\n"
    )


def _operation(document: dict[str, Any], method: str, path: str, operation: dict[str, Any]) -> list[str]:
    parts = [
        f'<h2><span class="method">{method.upper()} {escape(path)}</span></h2>',
        f"<p>{_text(operation.get('summary', ''))}</p>",
    ]
    if parameters := operation.get("parameters"):
        rows = [
            (one["name"], "needed" if one.get("required") else "", one.get("description", "")) for one in parameters
        ]
        parts += ["<h3>Headers</h3>", _table(rows)]
    if "requestBody" in operation:
        schema = operation["requestBody"]["content"]["application/json"]["schema"]
        parts += ["<h3>Body</h3>", *_schema(document, schema)]
    rows = [(code, "", answer.get("description", "")) for code, answer in operation["responses"].items()]
    parts += ["<h3>Answers</h3>", _table(rows)]
    succeeded = operation["responses"].get("200", {}).get("content", {}).get("application/json", {}).get("schema")
    if succeeded:
        parts += _schema(document, succeeded)
    return parts


def _schema(document: dict[str, Any], schema: dict[str, Any]) -> list[str]:
    """A table of an object's fields, and one for each object in its lists."""
    schema = _resolved(document, schema)
    if "properties" not in schema:
        return []
    needed = set(schema.get("required", ()))
    rows, below = [], []
    for name, found in schema["properties"].items():
        kind = _kind(found)
        example = f" For example `{found['examples'][0]}`." if found.get("examples") else ""
        rows.append((name, kind + (", needed" if name in needed else ""), found.get("description", "") + example))
        if found.get("type") == "array":
            below += _schema(document, found["items"])
    return [
        f"<h4>{escape(schema.get('title', ''))}</h4>",
        f"<p>{_text(schema.get('description', ''))}</p>",
        _table(rows),
        *below,
    ]


def _kind(found: dict[str, Any]) -> str:
    if "anyOf" in found:
        return " or ".join(_kind(one) for one in found["anyOf"] if one.get("type") != "null")
    kind = str(found.get("type", "object")).replace("array", "list")
    return f"{kind}, at most {found['maxItems']}" if "maxItems" in found else kind


def _resolved(document: dict[str, Any], schema: dict[str, Any]) -> dict[str, Any]:
    name = schema.get("$ref", "").rpartition("/")[2]
    found: dict[str, Any] = document["components"]["schemas"][name] if name else schema
    return found


def _table(rows: list[tuple[str, str, str]]) -> str:
    cells = "".join(
        f"<tr><td><code>{escape(name)}</code></td><td>{escape(kind)}</td><td>{_text(text)}</td></tr>"
        for name, kind, text in rows
    )
    return f"<table>{cells}</table>"


def _text(text: str) -> str:
    """Escaped, with what stands between backticks as code."""
    parts = escape(text).split("`")
    return "".join(f"<code>{part}</code>" if index % 2 else part for index, part in enumerate(parts))
