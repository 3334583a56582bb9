"""The tools a conversation offers: reading OpenAI function tools, and the `# Tools` section the model reads.

Source: openai/harmony (the layout, and the texts of the built-in tools, which the model was trained on).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ossature.chat import fields
from ossature.chat.typescript import comment_lines, type_of
from ossature.errors import MessageError

__all__ = ["BUILTIN_TOOLS", "FunctionTool", "builtin_section", "functions_section", "read_tools"]


@dataclass(frozen=True, slots=True)
class FunctionTool:
    """`parameters` is a JSON schema; None means the function takes nothing. `strict`: arguments are held to it."""

    name: str
    description: str
    parameters: Mapping[str, object] | None
    strict: bool = False


@dataclass(frozen=True, slots=True)
class _Namespace:
    name: str
    description: str
    tools: Sequence[FunctionTool]


def read_tools(tools: Sequence[Mapping[str, object]]) -> tuple[FunctionTool, ...]:
    """OpenAI chat tools, checked. Raises MessageError: not a function, an unknown key, a bad or repeated name."""
    read: dict[str, FunctionTool] = {}
    for n, value in enumerate(fields.items(tools, "tools")):
        tool = _read_tool(value, f"tools[{n}]")
        if tool.name in read:
            raise MessageError(f"tools[{n}]: there are two tools called {tool.name}")
        read[tool.name] = tool
    return tuple(read.values())


def _read_tool(value: object, where: str) -> FunctionTool:
    tool = fields.mapping(value, where)
    fields.check_keys(tool, {"type", "function"}, where)
    if tool.get("type") != "function":
        raise MessageError(f"{where}.type is {tool.get('type')!r}, but only tools of type 'function' can be offered")
    function = fields.member(tool, "function", where)
    where = f"{where}.function"
    fields.check_keys(function, {"name", "description", "parameters", "strict"}, where)
    parameters = function.get("parameters")
    return FunctionTool(
        name=fields.identifier(function.get("name"), f"{where}.name"),
        description=fields.optional_string(function, "description", where) or "",
        parameters=None if parameters is None else fields.mapping(parameters, f"{where}.parameters"),
        strict=function.get("strict") is True,
    )


def functions_section(tools: Sequence[FunctionTool]) -> str:
    return "\n\n".join(["# Tools", _namespace(_Namespace("functions", "", tools))])


def builtin_section(names: Sequence[str]) -> str:
    """The `# Tools` section of the system message. Raises MessageError for a name that is no built-in tool."""
    for name in names:
        if name not in BUILTIN_TOOLS:
            raise MessageError(f"builtin_tools has {name!r}; there are only {' and '.join(BUILTIN_TOOLS)}")
    return "\n\n".join(["# Tools", *(_namespace(BUILTIN_TOOLS[name]) for name in sorted(set(names)))])


def _namespace(namespace: _Namespace) -> str:
    out = [f"## {namespace.name}\n"]
    if not namespace.tools:
        return "\n".join([*out, namespace.description])
    out += [f"// {line}" for line in comment_lines(namespace.description)]
    out.append(f"namespace {namespace.name} {{\n")
    for tool in namespace.tools:
        out += [f"// {line}" for line in comment_lines(tool.description)]
        where = f"tool {tool.name}: parameters"
        parameters = "" if tool.parameters is None else f"_: {type_of(tool.parameters, where)}"
        out.append(f"type {tool.name} = ({parameters}) => any;\n")
    return "\n".join([*out, f"}} // namespace {namespace.name}"])


def _parameters(required: Sequence[str] = (), **properties: Mapping[str, object]) -> Mapping[str, object]:
    return {"type": "object", "properties": properties, "required": list(required)}


_STRING = {"type": "string"}
_COUNT = {"type": "number", "default": -1}

_BROWSER = _Namespace(
    "browser",
    "Tool for browsing.\n"
    "The `cursor` appears in brackets before each browsing display: `[{cursor}]`.\n"
    "Cite information from the tool using the following format:\n"
    "`【{cursor}†L{line_start}(-L{line_end})?】`, for example: `【6†L9-L11】` or `【8†L3】`.\n"
    "Do not quote more than 10 words directly from the tool output.\n"
    "sources=web (default: web)",
    (
        FunctionTool(
            "search",
            "Searches for information related to `query` and displays `topn` results.",
            _parameters(["query"], query=_STRING, topn={"type": "number", "default": 10}, source=_STRING),
        ),
        FunctionTool(
            "open",
            "Opens the link `id` from the page indicated by `cursor` starting at line number `loc`, "
            "showing `num_lines` lines.\n"
            "Valid link ids are displayed with the formatting: `【{id}†.*】`.\n"
            "If `cursor` is not provided, the most recent page is implied.\n"
            "If `id` is a string, it is treated as a fully qualified URL associated with `source`.\n"
            "If `loc` is not provided, the viewport will be positioned at the beginning of the document "
            "or centered on the most relevant passage, if available.\n"
            "Use this function without `id` to scroll to a new location of an opened page.",
            _parameters(
                id={"type": ["number", "string"], "default": -1},
                cursor=_COUNT,
                loc=_COUNT,
                num_lines=_COUNT,
                view_source={"type": "boolean", "default": False},
                source=_STRING,
            ),
        ),
        FunctionTool(
            "find",
            "Finds exact matches of `pattern` in the current page, or the page given by `cursor`.",
            _parameters(["pattern"], pattern=_STRING, cursor=_COUNT),
        ),
    ),
)

_PYTHON = _Namespace(
    "python",
    "Use this tool to execute Python code in your chain of thought. The code will not be shown to the user. "
    "This tool should be used for internal reasoning, but not for code that is intended to be visible to the user "
    "(e.g. when creating plots, tables, or files).\n\n"
    "When you send a message containing Python code to python, it will be executed in a stateful Jupyter notebook "
    "environment. python will respond with the output of the execution or time out after 120.0 seconds. "
    "The drive at '/mnt/data' can be used to save and persist user files. "
    "Internet access for this session is UNKNOWN. Depends on the cluster.",
    (),
)

BUILTIN_TOOLS: Mapping[str, _Namespace] = {"browser": _BROWSER, "python": _PYTHON}
