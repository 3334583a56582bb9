"""JSON schema to the TypeScript types in which gpt-oss reads its tools.

Where openai-harmony writes a type, the text is equal to its text. Two differences are deliberate (docs/harmony.md):
what harmony calls `any` only because it does not look (anyOf, allOf, $ref, const, enum without type, null) is written
out, and no text of a schema can leave the comment or literal it stands in.
"""

from ossature.chat.fields import LINE_BREAK, Json, compact_json, json_value
from ossature.errors import MessageError

__all__ = ["comment_lines", "type_of"]

_MAX_DEPTH = 64  # of nested schemas
_MAX_EXPANSION = 1_000_000  # characters of JSON that all $refs of one schema may stand for


def type_of(schema: object, where: str) -> str:
    """The type for a whole parameter schema.

    Raises MessageError: not JSON, nested deeper than 64 levels, or $refs standing for more than 1 MB of schema.
    """
    root = json_value(schema, where)
    return _Writer(root, where).write(root, "", 0)


def comment_lines(text: str) -> list[str]:
    """`text` cut at every line break a reader might see, so that each line can carry its own comment mark."""
    lines = LINE_BREAK.split(text)
    return lines[:-1] if lines[-1] == "" else lines


class _Writer:
    """Writes the schemas below one root. `indent` opens comments and closing braces, `depth` counts the nesting."""

    def __init__(self, root: Json, where: str) -> None:
        self._root = root
        self._where = where
        self._expansion = 0
        self._open_references: list[str] = []

    def write(self, schema: Json, indent: str, depth: int) -> str:
        if depth > _MAX_DEPTH:
            raise MessageError(f"{self._where} is nested deeper than {_MAX_DEPTH} levels")
        if not isinstance(schema, dict):
            return "never" if schema is False else "any"
        if isinstance(variants := schema.get("oneOf"), list):
            return self._one_of(variants, indent, depth)
        kind = schema.get("type")
        if isinstance(kind, list) and (names := [_type_name(name) for name in kind if isinstance(name, str)]):
            return " | ".join(names)
        match kind:
            case "object":
                return self._object(schema, indent, depth)
            case "string":
                return " | ".join(map(_quoted, _strings(schema, "enum"))) or "string"
            case "number" | "integer":
                return "number"
            case "boolean":
                return "boolean"
            case "null":
                return "null"
            case "array":
                return self._array(schema, indent, depth)
            case _:
                return self._untyped(schema, indent, depth)

    def _one_of(self, variants: list[Json], indent: str, depth: int) -> str:
        out: list[str] = []
        for variant in variants:
            remarks = [] if (description := _string(variant, "description")) is None else [description]
            if isinstance(variant, dict) and "default" in variant:
                literal = _json(variant["default"]) if _list(variant, "enum") else _default(variant)
                remarks.append(f"default: {literal}")
            out.append(f"\n{indent} | {self._nullable(variant, indent + '   ', depth)}{_trailing(remarks)}")
        return "".join(out)

    def _array(self, schema: dict[str, Json], indent: str, depth: int) -> str:
        return f"{self._grouped(schema['items'], indent, depth)}[]" if "items" in schema else "Array<any>"

    def _object(self, schema: dict[str, Json], indent: str, depth: int) -> str:
        out = [*_comments(_string(schema, "description"), indent), "{"]
        properties = schema.get("properties")
        if isinstance(properties, dict):
            required = set(_strings(schema, "required"))
            for key, value in properties.items():
                name = _quoted(key) if LINE_BREAK.search(key) else key
                label = f"{indent}{name}{'' if key in required else '?'}:"
                out += self._property(label, value, indent, depth)
        return "\n".join([*out, f"{indent}}}"])

    def _property(self, label: str, value: Json, indent: str, depth: int) -> list[str]:
        title = _comments(_string(value, "title"), indent)
        out = [*title, f"{indent}//"] if title else []
        schema = value if isinstance(value, dict) else {}
        variants = schema.get("oneOf")
        if variants is None:
            out += _comments(_string(schema, "description"), indent)
        if _list(schema, "examples"):
            out.append(f"{indent}// Examples:")
            out += [f"{indent}// - {_quoted(text)}" for text in _strings(schema, "examples")]
        if isinstance(variants, list):
            return out + self._property_one_of(label, schema, variants, indent, depth)
        default = f" // default: {_default(schema)}" if variants is None and "default" in schema else ""
        return [*out, f"{label} {self._nullable(value, indent + '    ', depth)},{default}"]

    def _property_one_of(
        self, label: str, schema: dict[str, Json], variants: list[Json], indent: str, depth: int
    ) -> list[str]:
        description = _string(schema, "description")
        told = description is not None and not (variants and _string(variants[0], "description") == description)
        out = _comments(description, indent) if told else []
        if "default" in schema:
            out.append(f"{indent}// default: {_default(schema)}")
        out.append(label)
        for n, variant in enumerate(variants):
            remark = _string(variant, "description")
            untold = remark is not None and remark != description and not (n == 0 and told)
            remarks = [remark] if remark is not None and untold else []
            if isinstance(variant, dict) and "default" in variant:
                remarks.append(f"default: {_default(variant)}")
            out.append(f"{indent} | {self._nullable(variant, indent + '   ', depth)}{_trailing(remarks)}")
        return [*out, f"{indent},"]

    def _nullable(self, schema: Json, indent: str, depth: int) -> str:
        text = self.write(schema, indent, depth + 1)
        nullable = isinstance(schema, dict) and schema.get("nullable") is True
        return f"{text} | null" if nullable and "null" not in text else text

    def _untyped(self, schema: dict[str, Json], indent: str, depth: int) -> str:
        """What openai-harmony writes as `any`."""
        if isinstance(reference := schema.get("$ref"), str):
            return self._reference(reference, indent, depth)
        if "const" in schema:
            return _json(schema["const"])
        if literals := _list(schema, "enum"):
            return " | ".join(map(_json, literals))
        if options := _list(schema, "anyOf"):
            return " | ".join(dict.fromkeys(self.write(option, indent, depth + 1) for option in options))
        if parts := _list(schema, "allOf"):
            return " & ".join(dict.fromkeys(self._grouped(part, indent, depth) for part in parts))
        if "properties" in schema:
            return self._object(schema, indent, depth)
        return self._array(schema, indent, depth) if "items" in schema else "any"

    def _grouped(self, schema: Json, indent: str, depth: int) -> str:
        """The type, in parentheses if it is a union that only we write out; harmony's own unions have none."""
        text = self.write(schema, indent, depth + 1)
        ours = isinstance(schema, dict) and "oneOf" not in schema and "type" not in schema
        return f"({text})" if ours and " | " in text else text

    def _reference(self, reference: str, indent: str, depth: int) -> str:
        """The type a local $ref stands for; `any` inside itself and for anything outside this schema."""
        target: Json = self._root
        for step in reference.removeprefix("#").split("/")[1:]:
            name = step.replace("~1", "/").replace("~0", "~")
            target = target.get(name) if isinstance(target, dict) else None
        if not reference.startswith("#") or target is None or reference in self._open_references:
            return "any"
        self._expansion += len(_json(target))
        if self._expansion > _MAX_EXPANSION:
            raise MessageError(f"{self._where}: its $refs stand for more than {_MAX_EXPANSION} characters of schema")
        self._open_references.append(reference)
        text = self.write(target, indent, depth + 1)
        self._open_references.pop()
        return text


def _comments(text: str | None, indent: str) -> list[str]:
    return [] if text is None else [f"{indent}// {line}" for line in comment_lines(text) or [""]]


def _trailing(remarks: list[str]) -> str:
    return f" // {LINE_BREAK.sub(' ', ' '.join(remarks))}" if remarks else ""


def _default(schema: dict[str, Json]) -> str:
    default = schema["default"]
    if not isinstance(default, str):
        return _json(default)
    return LINE_BREAK.sub(" ", default) if _list(schema, "enum") else _quoted(default)


def _quoted(text: str) -> str:
    """As openai-harmony quotes: nothing is escaped, unless a line break would end the line of the literal."""
    return _json(text) if LINE_BREAK.search(text) else f'"{text}"'


def _json(value: Json) -> str:
    return compact_json(value, "the schema")


def _type_name(name: str) -> str:
    if name == "integer":
        return "number"
    return name if name.isidentifier() else "any"


def _string(schema: Json, key: str) -> str | None:
    found = schema.get(key) if isinstance(schema, dict) else None
    return found if isinstance(found, str) else None


def _list(schema: dict[str, Json], key: str) -> list[Json]:
    found = schema.get(key)
    return found if isinstance(found, list) else []


def _strings(schema: dict[str, Json], key: str) -> list[str]:
    return [value for value in _list(schema, key) if isinstance(value, str)]
