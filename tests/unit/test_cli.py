"""The command line inside one process: exit codes, what is printed where, and the turns of a chat."""

import io
import json
from collections.abc import Iterator
from typing import Any

import pytest

import ossature
from ossature.chat import Parser
from ossature.checkpoint import open_checkpoint
from ossature.cli.answer import print_stream
from ossature.cli.chat import Conversation
from ossature.cli.info import licence_files, model_facts
from ossature.cli.main import main
from ossature.cli.terminal import has_colours, printable
from ossature.errors import CheckpointError
from ossature.session import ReplyStream
from tests.random_checkpoint import write_random
from tests.scripted_checkpoint import ANSWER, TOOL_CALL, write_scripted


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture(scope="module")
def session(tmp_path_factory) -> ossature.Session:
    return ossature.load(write_scripted(tmp_path_factory.mktemp("scripted") / "model", ANSWER))


@pytest.fixture(autouse=True)
def _plain_surroundings(monkeypatch):
    for name in ("NO_COLOR", "OSSATURE_MODEL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO()))


def error_of(capsys, *arguments: str) -> tuple[int, str]:
    code = main(arguments)
    shown = capsys.readouterr()
    assert shown.out == ""
    return code, shown.err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["walk"], "No such command 'walk'. `ossature --help` lists what it takes."),
        (["run", "--walk", "x"], "No such option: --walk"),
        (["run", "--temperature", "hot", "x"], "Invalid value for '--temperature'"),
        (["run", "--top-p", "2", "x"], "Invalid value for '--top-p'"),
        (["run", "--effort", "huge", "x"], "Invalid value for '--effort'"),
        (["run", "--max-new-tokens", "0", "x"], "Invalid value for '--max-new-tokens'"),
        (["run"], "there is nothing to answer; give a prompt"),
        (["run", "--tools", "/nowhere/tools.json", "x"], "/nowhere/tools.json: No such file"),
        (["chat", "surplus"], "unexpected extra argument"),
    ],
)
def test_wrong_use_is_one_line_and_exit_code_2(capsys, arguments, message):
    code, said = error_of(capsys, *arguments)
    assert code == 2
    assert said.startswith("ossature: error: ")
    assert said.count("\n") == 1
    assert message in said


@pytest.mark.parametrize("command", [["run", "-m", "/nowhere", "x"], ["chat", "-m", "/nowhere"], ["info", "/nowhere"]])
def test_a_failure_is_one_line_that_says_what_to_do_and_exit_code_1(capsys, command):
    code, said = error_of(capsys, *command)
    assert code == 1
    assert said.startswith("ossature: error: /nowhere: no such directory. A model is the directory of a checkpoint")
    assert said.count("\n") == 1


def test_an_error_of_several_lines_is_printed_as_one(capsys, monkeypatch):
    def fail(*_: object, **__: object) -> None:
        raise CheckpointError("first\n  second")

    monkeypatch.setattr("ossature.cli.options.open_session", fail)
    assert error_of(capsys, "run", "x") == (1, "ossature: error: first second\n")


def test_a_bug_of_ours_keeps_its_traceback(monkeypatch):
    def fail(*_: object, **__: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr("ossature.cli.options.open_session", fail)
    with pytest.raises(ZeroDivisionError):
        main(["run", "x"])


def test_tools_that_are_no_json_list_are_wrong_use(capsys, tmp_path):
    for text, message in (("{", "is not JSON"), ("{}", "holds no JSON list")):
        (tmp_path / "tools.json").write_text(text)
        code, said = error_of(capsys, "run", "--tools", str(tmp_path / "tools.json"), "x")
        assert code == 2
        assert message in said


def test_without_a_command_the_help_says_what_to_try_next(capsys):
    assert main([]) == 0
    said = capsys.readouterr().out
    assert "Usage: ossature" in said
    assert 'ossature run "What is 37 + 58?"' in said


def test_the_missing_extension_is_reported_before_anything_else(capsys, monkeypatch, session):
    monkeypatch.setattr("ossature.ops.cpu.available", False)
    monkeypatch.setattr("ossature.ops.cpu.reason", "no compiled kernels here")
    assert main(["run", "-m", str(session.checkpoint.directory), "hello"]) == 0
    shown = capsys.readouterr()
    assert shown.out == "It is 95\n"
    assert shown.err == "ossature: no compiled kernels here\nLet me add them\n"


def test_a_terminal_gets_control_characters_as_text_and_a_pipe_gets_them_as_they_are():
    text = "a\x1b]52;c;aGk=\x07b\tc\n\u202ed\x9b"
    assert printable(text, Terminal()) == "a\\x1b]52;c;aGk=\\x07b\tc\n\\u202ed\\x9b"
    assert printable(text, io.StringIO()) == text


def test_colours_need_a_terminal_that_wants_them(monkeypatch):
    assert has_colours(Terminal())
    assert not has_colours(io.StringIO())
    monkeypatch.setenv("NO_COLOR", "1")
    assert not has_colours(Terminal())
    monkeypatch.setenv("NO_COLOR", "")
    monkeypatch.setenv("TERM", "dumb")
    assert not has_colours(Terminal())


def test_reasoning_is_dimmed_on_its_own_stream(session):
    answer, reasoning = Terminal(), Terminal()
    print_stream(session.stream([{"role": "user", "content": "x"}]), answer=answer, reasoning=reasoning)
    assert answer.getvalue() == "It is 95\n"
    assert reasoning.getvalue() == "\x1b[2mLet me add them\x1b[0m\n"


def test_the_terminal_is_left_in_order_when_an_answer_breaks_off(session):
    def ids() -> Iterator[int]:
        special, encode = session.tokenizer.special, session.tokenizer.encode
        yield from [special["<|channel|>"], *encode("analysis"), special["<|message|>"], *encode("Let me")]
        raise KeyboardInterrupt

    stream = ReplyStream(ids(), Parser(session.tokenizer), prompt=[1], stop_ids=())
    reasoning = Terminal()
    with pytest.raises(KeyboardInterrupt):
        print_stream(stream, answer=io.StringIO(), reasoning=reasoning)
    assert reasoning.getvalue() == "\x1b[2mLet me\x1b[0m\n"


def test_tool_calls_are_printed_as_a_line_of_json_each(tmp_path, capsys):
    directory = write_scripted(tmp_path / "model", TOOL_CALL)
    tools = tmp_path / "tools.json"
    tools.write_text('[{"type": "function", "function": {"name": "add"}}]')
    assert main(["run", "-m", str(directory), "--tools", str(tools), "x"]) == 0
    (line,) = capsys.readouterr().out.splitlines()
    assert json.loads(line)["function"] == {"name": "add", "arguments": "{}"}


def test_an_answer_cut_off_is_said_to_be(session, capsys):
    assert main(["run", "-m", str(session.checkpoint.directory), "--max-new-tokens", "15", "x"]) == 0
    shown = capsys.readouterr()
    assert shown.out == "It is\n"
    assert "stops after 15 tokens" in shown.err


def test_a_chat_keeps_its_turns_and_obeys_its_commands(session, capsys):
    asked: list[tuple[list[dict[str, Any]], str]] = []

    def answer(messages: list[dict[str, Any]], *, reasoning_effort: str) -> ReplyStream:
        asked.append((messages, reasoning_effort))
        return session.stream(messages, reasoning_effort=reasoning_effort)

    chat = Conversation(answer, effort="low")
    for line in [
        "first",
        "",
        "/system Be brief.",
        "/effort high",
        "second",
        "/reset",
        "/system",
        "/effort no",
        " /third",
    ]:
        assert chat.take(line)
    contents = [([message["content"] for message in messages], effort) for messages, effort in asked]
    assert contents == [
        (["first"], "low"),
        (["Be brief.", "first", "It is 95", "second"], "high"),
        (["/third"], "high"),
    ]
    said = capsys.readouterr().err
    assert "error: effort is low, medium or high, not 'no'; it stays high" in said
    assert not chat.take("/exit")


def test_an_unknown_command_of_the_chat_is_an_error_that_names_help(session, capsys):
    chat = Conversation(session.stream)
    assert chat.take("/etc/passwd is what?")
    assert chat.take("/exit now")
    assert chat.turns == []
    assert capsys.readouterr().err.count("/help lists them") == 2
    chat.take("/help")
    assert "/reset" in capsys.readouterr().err


def test_an_interrupted_answer_stays_in_the_chat_and_one_without_words_is_taken_back(session):
    special, encode = session.tokenizer.special, session.tokenizer.encode

    def answer(head: list[int]) -> Any:
        def ids() -> Iterator[int]:
            yield from head
            raise KeyboardInterrupt

        return lambda *_, **__: ReplyStream(ids(), Parser(session.tokenizer), prompt=[1], stop_ids=())

    final = [special["<|channel|>"], *encode("final"), special["<|message|>"], *encode("It is")]
    chat = Conversation(answer(final))
    chat.take("question")
    assert [turn["content"] for turn in chat.turns] == ["question", "It is"]
    chat.answer = answer([special["<|channel|>"], *encode("analysis")])
    chat.take("another")
    assert len(chat.turns) == 2


def test_an_error_in_a_chat_at_the_keyboard_is_told_and_the_chat_goes_on(session, capsys, monkeypatch):
    monkeypatch.setattr("sys.stdin", Terminal())
    chat = Conversation(session.stream)
    assert chat.take("x" * 5000)
    assert "ossature: error: " in capsys.readouterr().err
    assert chat.take("short")
    assert capsys.readouterr().out == "It is 95\n"


def test_info_adds_up_and_says_why_there_is_no_tokenizer(tmp_path):
    facts: Any = model_facts(open_checkpoint(write_random(tmp_path / "model")))
    assert facts["bytes"].pop("total") == sum(facts["bytes"].values())
    assert facts["parameters"]["active"] < facts["parameters"]["total"]
    assert "tokenizer.json" in facts["tokenizer"]["error"]
    assert facts["licence_files"] == {}
    assert facts["config"]["num_local_experts"] == 5


def test_licence_files_are_found_beside_the_weights_and_above_the_original_layout(tmp_path):
    original = tmp_path / "original"
    original.mkdir()
    (tmp_path / "LICENSE").write_text("   Apache License\n   Version 2.0, January 2004\n")
    (tmp_path / "USAGE_POLICY").write_text("Be good.")
    (original / "LICENSE.txt").write_text("MIT License\n")
    (original / "license").mkdir()
    assert licence_files(original) == {"LICENSE.txt": "MIT", "LICENSE": "Apache-2.0", "USAGE_POLICY": "not recognised"}
