"""JSON schema to the TypeScript types in which gpt-oss reads its tools.

Where openai-harmony writes a type, the text is equal to its text. Two differences are deliberate (docs/harmony.md): what
harmony calls `any` only because it does not look (anyOf, allOf, $ref, const, enum without type, null) is written out, and no
text of a schema can leave the comment or literal it stands in.
"""

import json
import re
from collections.abc import Mapping
from typing import cast

from ossature.chat import fields
from ossature.errors import MessageError

__all__ = ["comment_lines", "type_of"]

_MAX_DEPTH = 64  # of nested schemas
_MAX_EXPANSION = 1_000_000  # characters of JSON that all $refs of one schema may stand for
_LINE_BREAK = re.compile("\r\n|[\n\v\f\r\x85\u2028\u2029]")
_TYPE_NAMES = {"integer": "number"}

Schema = Mapping[str, object]


def type_of(schema: object, where: str) -> str:
    """The type for a whole parameter schema. Raises MessageError: deeper than 64 levels, or $refs standing for over 1 MB."""
    return _Writer(schema, where).write(schema, "", 0)


def comment_lines(text: str) -> list[str]:
    """`text` cut at every line break a reader might see, so that each line can carry its own comment mark."""
    lines = _LINE_BREAK.split(text)
    return lines[:-1] if lines[-1] == "" else lines


class _Writer:
    """Writes the schemas below one root: `indent` is the text before comments and closing braces, `depth` the nesting."""

    def __init__(self, root: object, where: str) -> None:
        self._root = root
        self._where = where
        self._expansion = 0
        self._open_refs: list[str] = []

    def write(self, value: object, indent: str, depth: int) -> str:
        if depth > _MAX_DEPTH:
            raise MessageError(f"{self._where} is nested deeper than {_MAX_DEPTH} levels")
        if not isinstance(value, Mapping):
            return "never" if value is False else "any"
        schema = cast(Schema, value)
        variants = schema.get("oneOf")
        if isinstance(variants, list):
            return self._one_of(cast(list[object], variants), indent, depth)
        kind = schema.get("type")
        if isinstance(kind, list):
            names = [_type_name(name) for name in cast(list[object], kind) if isinstance(name, str)]
            if names:
                return " | ".join(names)
        match kind:
            case "object":
                return self._object(schema, indent, depth)
            case "string":
                literals = [_quoted(text) for text in _list(schema, "enum") if isinstance(text, str)]
                return " | ".join(literals) or "string"
            case "number" | "integer":
                return "number"
            case "boolean" | "null":
                return kind
            case "array":
                return self._array(schema, indent, depth)
            case _:
                return self._untyped(schema, indent, depth)

    def _one_of(self, variants: list[object], indent: str, depth: int) -> str:
        out: list[str] = []
        for value in variants:
            remarks = [text for text in [_string(value, "description")] if text is not None]
            if _has(value, "default"):
                default = cast(Schema, value)["default"]
                remarks.append(f"default: {self._default(value) if not _enum(value) else self._json(default)}")
            out.append(f"\n{indent} | {self._nullable(value, indent + '   ', depth)}{_trailing(remarks)}")
        return "".join(out)

    def _array(self, schema: Schema, indent: str, depth: int) -> str:
        if "items" not in schema:
            return "Array<any>"
        return f"{self._grouped(schema['items'], indent, depth)}[]"

    def _object(self, schema: Schema, indent: str, depth: int) -> str:
        out = [*_comments(_string(schema, "description"), indent), "{"]
        properties = schema.get("properties")
        if isinstance(properties, Mapping):
            required = {name for name in _list(schema, "required") if isinstance(name, str)}
            for key, value in cast(Schema, properties).items():
                mark = "" if key in required else "?"
                out += self._property(f"{indent}{_key(key)}{mark}:", value, indent, depth)
        return "\n".join([*out, f"{indent}}}"])

    def _property(self, label: str, value: object, indent: str, depth: int) -> list[str]:
        title = _comments(_string(value, "title"), indent)
        out = [*title, f"{indent}//"] if title else []
        variants = cast(Schema, value).get("oneOf") if isinstance(value, Mapping) else None
        if variants is None:
            out += _comments(_string(value, "description"), indent)
        if examples := _list(value, "examples"):
            out.append(f"{indent}// Examples:")
            out += [f"{indent}// - {_quoted(text)}" for text in examples if isinstance(text, str)]
        if isinstance(variants, list):
            return out + self._property_one_of(label, value, cast(list[object], variants), indent, depth)
        default = f" // default: {self._default(value)}" if variants is None and _has(value, "default") else ""
        return [*out, f"{label} {self._nullable(value, indent + '    ', depth)},{default}"]

    def _property_one_of(self, label: str, value: object, variants: list[object], indent: str, depth: int) -> list[str]:
        description = _string(value, "description")
        told = description is not None and not (variants and _string(variants[0], "description") == description)
        out = _comments(description, indent) if told else []
        if _has(value, "default"):
            out.append(f"{indent}// default: {self._default(value)}")
        out.append(label)
        for n, variant in enumerate(variants):
            remark = _string(variant, "description")
            remarks = [remark] if remark is not None and remark != description and not (n == 0 and told) else []
            if _has(variant, "default"):
                remarks.append(f"default: {self._default(variant)}")
            out.append(f"{indent} | {self._nullable(variant, indent + '   ', depth)}{_trailing(remarks)}")
        return [*out, f"{indent},"]

    def _nullable(self, value: object, indent: str, depth: int) -> str:
        text = self.write(value, indent, depth + 1)
        nullable = isinstance(value, Mapping) and cast(Schema, value).get("nullable") is True
        return f"{text} | null" if nullable and "null" not in text else text

    def _untyped(self, schema: Schema, indent: str, depth: int) -> str:
        """What openai-harmony writes as `any`."""
        if isinstance(reference := schema.get("$ref"), str):
            return self._reference(reference, indent, depth)
        if "const" in schema:
            return self._json(schema["const"])
        if literals := _list(schema, "enum"):
            return " | ".join(self._json(literal) for literal in literals)
        for key, sign in (("anyOf", " | "), ("allOf", " & ")):
            if parts := _list(schema, key):
                written = [self._grouped(p, indent, depth) if sign == " & " else self.write(p, indent, depth + 1) for p in parts]
                return sign.join(dict.fromkeys(written))
        if "properties" in schema:
            return self._object(schema, indent, depth)
        return self._array(schema, indent, depth) if "items" in schema else "any"

    def _grouped(self, value: object, indent: str, depth: int) -> str:
        """The type, in parentheses if it is a union that only we write out (harmony's own unions stay as they are)."""
        text = self.write(value, indent, depth + 1)
        ours = isinstance(value, Mapping) and "oneOf" not in value and "type" not in value
        return f"({text})" if ours and " | " in text else text

    def _reference(self, reference: str, indent: str, depth: int) -> str:
        """The type a local $ref stands for; `any` inside itself and for anything outside this schema."""
        target = self._root
        for step in reference.removeprefix("#").split("/")[1:]:
            name = step.replace("~1", "/").replace("~0", "~")
            target = cast(Schema, target).get(name) if isinstance(target, Mapping) else None
        if not reference.startswith("#") or target is None or reference in self._open_refs:
            return "any"
        self._expansion += len(self._json(target))
        if self._expansion > _MAX_EXPANSION:
            raise MessageError(f"{self._where}: its $refs stand for more than {_MAX_EXPANSION} characters of schema")
        self._open_refs.append(reference)
        text = self.write(target, indent, depth + 1)
        self._open_refs.pop()
        return text

    def _default(self, value: object) -> str:
        default = cast(Schema, value)["default"]
        if not isinstance(default, str):
            return self._json(default)
        return _one_line(default) if _enum(value) else _quoted(default)

    def _json(self, value: object) -> str:
        return _escape_breaks(fields.compact_json(value, self._where))


def _comments(text: str | None, indent: str) -> list[str]:
    return [] if text is None else [f"{indent}// {line}" for line in comment_lines(text) or [""]]


def _trailing(remarks: list[str]) -> str:
    return f" // {' '.join(map(_one_line, remarks))}" if remarks else ""


def _one_line(text: str) -> str:
    return _LINE_BREAK.sub(" ", text)


def _quoted(text: str) -> str:
    return _escape_breaks(json.dumps(text, ensure_ascii=False)) if _LINE_BREAK.search(text) else f'"{text}"'


def _escape_breaks(literal: str) -> str:
    return _LINE_BREAK.sub(lambda found: f"\\u{ord(found[0]):04x}", literal)


def _key(key: str) -> str:
    return _quoted(key) if _LINE_BREAK.search(key) else key


def _type_name(name: str) -> str:
    return _TYPE_NAMES.get(name, name) if name.isidentifier() else "any"


def _string(value: object, key: str) -> str | None:
    found = cast(Schema, value).get(key) if isinstance(value, Mapping) else None
    return found if isinstance(found, str) else None


def _list(value: object, key: str) -> list[object]:
    found = cast(Schema, value).get(key) if isinstance(value, Mapping) else None
    return cast(list[object], found) if isinstance(found, list) else []


def _has(value: object, key: str) -> bool:
    return isinstance(value, Mapping) and key in value


def _enum(value: object) -> bool:
    return bool(_list(value, "enum"))
