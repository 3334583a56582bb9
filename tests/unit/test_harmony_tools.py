"""Types that openai-harmony writes as `any`, and that are written out here."""

from typing import Any

import pytest

from ossature.chat.typescript import type_of

STRING = {"type": "string"}
NUMBER = {"type": "number"}
NULL = {"type": "null"}
POINT = {"type": "object", "properties": {"x": NUMBER}, "required": ["x"]}


@pytest.mark.parametrize(
    ("schema", "wanted"),
    [
        ({"anyOf": [STRING, NULL]}, "string | null"),
        ({"anyOf": [STRING, STRING, NUMBER]}, "string | number"),
        ({"allOf": [POINT]}, "{\nx: number,\n}"),
        ({"allOf": [{"anyOf": [STRING, NUMBER]}, STRING]}, "(string | number) & string"),
        ({"type": "array", "items": {"anyOf": [STRING, NUMBER]}}, "(string | number)[]"),
        ({"type": "array", "items": {"type": ["string", "number"]}}, "string | number[]"),  # as openai-harmony has it
        ({"const": "a"}, '"a"'),
        ({"const": None}, "null"),
        ({"enum": ["a", 1, None, True]}, '"a" | 1 | null | true'),
        ({"oneOf": [STRING, NULL]}, "\n | string\n | null"),
        ({"properties": {"a": STRING}}, "{\na?: string,\n}"),
        ({"items": STRING}, "string[]"),
        ({"type": "array", "items": True}, "any[]"),
        ({"type": "array", "items": False}, "never[]"),
        ({}, "any"),
        ({"not": STRING}, "any"),
        ({"type": "file"}, "any"),
    ],
)
def test_a_type_is_written_out(schema: Any, wanted: str) -> None:
    assert type_of(schema, "schema") == wanted


def test_references_are_followed() -> None:
    schema = {
        "$defs": {"Point": POINT, "a/b~c": STRING},
        "type": "object",
        "properties": {"p": {"$ref": "#/$defs/Point"}, "q": {"$ref": "#/$defs/a~1b~0c", "description": "Here."}},
    }
    assert type_of(schema, "schema") == "{\np?: {\n    x: number,\n    },\n// Here.\nq?: string,\n}"


@pytest.mark.parametrize("reference", ["#/$defs/Missing", "other.json#/a", "https://example.org/schema", "#/$defs/0"])
def test_a_reference_that_leads_nowhere_is_any(reference: str) -> None:
    assert type_of({"$defs": {"A": STRING}, "$ref": reference}, "schema") == "any"


def test_a_reference_to_itself_ends_in_any() -> None:
    node = {"type": "object", "properties": {"next": {"$ref": "#"}}}
    assert type_of(node, "schema") == "{\nnext?: {\n    next?: any,\n    },\n}"
    assert type_of({"$ref": "#"}, "schema") == "any"


def test_an_optional_field_reads_as_pydantic_means_it() -> None:
    field = {"anyOf": [{"type": "integer"}, NULL], "default": None, "title": "Count"}
    schema = {"type": "object", "properties": {"count": field}}
    assert type_of(schema, "schema") == "{\n// Count\n//\ncount?: number | null, // default: null\n}"


def test_tuples_are_read_as_lists() -> None:
    schema = {"type": "object", "properties": {"a": {"type": "string", "enum": ("x", "y")}}, "required": ("a",)}
    assert type_of(schema, "schema") == '{\na: "x" | "y",\n}'
