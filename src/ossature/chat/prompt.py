"""The texts of the system and the developer message.

In harmony the system message is the model's own setting (identity, dates, effort, built-in tools, channels). What an
API calls the system prompt goes into the developer message, with the function tools and the response format.
"""

import datetime
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypedDict

from ossature.chat import fields
from ossature.chat.tools import FunctionTool, builtin_section, functions_section, read_tools
from ossature.chat.typescript import comment_lines
from ossature.errors import MessageError

__all__ = ["EFFORTS", "IDENTITY", "Options", "Setting", "developer_text", "read_setting", "system_text"]

IDENTITY = "You are ChatGPT, a large language model trained by OpenAI."
EFFORTS = ("low", "medium", "high")


class Options(TypedDict, total=False):
    """What a prompt says besides its messages; each may be left out.

    tools             OpenAI function tools
    builtin_tools     of "browser", "python"
    reasoning_effort  "low" | "medium" (default) | "high"; None leaves the line out
    current_date      date, or text like "2025-06-28"; default: not said
    knowledge_cutoff  default "2024-06"; None leaves the line out
    model_identity    the first line; None leaves it out. A persona belongs into a system or developer message
    response_format   OpenAI's text, json_object or json_schema; shown to the model; `Grammars` holds it to it
    """

    tools: Sequence[Mapping[str, object]]
    builtin_tools: Sequence[str]
    reasoning_effort: str | None
    current_date: str | datetime.date | None
    knowledge_cutoff: str | None
    model_identity: str | None
    response_format: Mapping[str, object] | None


@dataclass(frozen=True, slots=True)
class Setting:
    """Options that have been checked."""

    model_identity: str | None
    knowledge_cutoff: str | None
    current_date: str | None
    reasoning_effort: str | None
    tools: tuple[FunctionTool, ...]
    builtin_tools: tuple[str, ...]
    response_section: str | None


def read_setting(
    *,
    tools: Sequence[Mapping[str, object]] = (),
    builtin_tools: Sequence[str] = (),
    reasoning_effort: str | None = "medium",
    current_date: str | datetime.date | None = None,
    knowledge_cutoff: str | None = "2024-06",
    model_identity: str | None = IDENTITY,
    response_format: Mapping[str, object] | None = None,
) -> Setting:
    """Check `Options`. Raises MessageError."""
    if reasoning_effort is not None and reasoning_effort not in EFFORTS:
        raise MessageError(f"reasoning_effort is {reasoning_effort!r}; the model knows {', '.join(EFFORTS)}")
    if isinstance(current_date, str):
        try:
            current_date = datetime.date.fromisoformat(current_date)
        except ValueError:
            raise MessageError(f"current_date is {current_date!r}, but must be a date like 2025-06-28") from None
    if knowledge_cutoff is not None and len(comment_lines(knowledge_cutoff)) > 1:
        raise MessageError(f"knowledge_cutoff must be one line, but is {knowledge_cutoff!r}")
    return Setting(
        model_identity=model_identity,
        knowledge_cutoff=knowledge_cutoff,
        current_date=None if current_date is None else f"{current_date:%Y-%m-%d}",
        reasoning_effort=reasoning_effort,
        tools=read_tools(tools),
        builtin_tools=tuple(builtin_tools),
        response_section=None if response_format is None else _response_section(response_format),
    )


def system_text(setting: Setting) -> str:
    head = [
        setting.model_identity,
        setting.knowledge_cutoff and f"Knowledge cutoff: {setting.knowledge_cutoff}",
        setting.current_date and f"Current date: {setting.current_date}",
    ]
    channels = "# Valid channels: analysis, commentary, final. Channel must be included for every message."
    if setting.tools:
        channels += "\nCalls to these tools must go to the commentary channel: 'functions'."
    sections = [
        "\n".join(line for line in head if line),
        f"Reasoning: {setting.reasoning_effort}" if setting.reasoning_effort else "",
        builtin_section(setting.builtin_tools) if setting.builtin_tools else "",
        channels,
    ]
    return "\n\n".join(section for section in sections if section)


def developer_text(instructions: Sequence[str], setting: Setting) -> str | None:
    """The developer message that opens a conversation; None if there is nothing to say."""
    sections = ["# Instructions", *instructions] if instructions else []
    if setting.tools:
        sections.append(functions_section(setting.tools))
    if setting.response_section:
        sections.append(setting.response_section)
    return "\n\n".join(sections) if sections else None


def _response_section(response_format: Mapping[str, object]) -> str | None:
    where = "response_format"
    fields.mapping(response_format, where)
    match response_format.get("type"):
        case "text":
            fields.check_keys(response_format, {"type"}, where)
            return None
        case "json_object":
            fields.check_keys(response_format, {"type"}, where)
            return _format_section("json_object", "", {"type": "object"})
        case "json_schema":
            fields.check_keys(response_format, {"type", "json_schema"}, where)
            form = fields.member(response_format, "json_schema", where)
            where = f"{where}.json_schema"
            fields.check_keys(form, {"name", "description", "schema", "strict"}, where)
            return _format_section(
                fields.identifier(form.get("name"), f"{where}.name"),
                fields.optional_string(form, "description", where) or "",
                fields.member(form, "schema", where),
            )
        case other:
            raise MessageError(f"{where}.type is {other!r}; known are text, json_object and json_schema")


def _format_section(name: str, description: str, schema: Mapping[str, object]) -> str:
    comments = "".join(f"// {line}\n" for line in comment_lines(description))
    return f"# Response Formats\n\n## {name}\n\n{comments}{fields.compact_json(schema, 'response_format')}"
