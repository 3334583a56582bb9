"""The command line as a person meets it: real processes, pipes and terminals."""

import json
import signal
import subprocess
import time
from pathlib import Path

import pytest

from tests.scripted_checkpoint import ANSWER, ENDLESS, write_scripted
from tests.terminal import Terminal, command, environment, ossature

HELP_MILLISECONDS = 300


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> str:
    return str(write_scripted(tmp_path_factory.mktemp("scripted") / "answer", ANSWER))


@pytest.fixture(scope="module")
def endless(tmp_path_factory) -> str:
    return str(write_scripted(tmp_path_factory.mktemp("scripted") / "endless", ENDLESS))


def prompt_tokens(*arguments: str, stdin: bytes = b"") -> int:
    done = ossature("run", "--json", *arguments, stdin=stdin)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)["usage"]["prompt_tokens"]


@pytest.mark.parametrize("words", [["--help"], ["run", "--help"], ["chat", "--help"], ["info", "--help"], []])
def test_help_answers_in_time(words):
    def seconds() -> float:
        start = time.perf_counter()
        subprocess.run(command(*words), capture_output=True, check=True, env=environment())
        return time.perf_counter() - start

    assert min(seconds() for _ in range(5)) * 1000 < HELP_MILLISECONDS


def test_the_answer_is_on_stdout_and_the_reasoning_on_stderr_without_colours(model):
    done = ossature("run", "-m", model, "What is 37 + 58?")
    assert (done.returncode, done.stdout, done.stderr) == (0, b"It is 95\n", b"Let me add them\n")


def test_the_prompt_may_come_from_a_pipe_or_from_both(model):
    by_argument = prompt_tokens("-m", model, "Add these:\n\n3\n4\n")
    assert prompt_tokens("-m", model, stdin=b"Add these:\n\n3\n4\n") == by_argument
    assert prompt_tokens("-m", model, "Add these:", stdin=b"3\n4\n") == by_argument


def test_the_model_may_come_from_the_environment_and_the_option_wins(model):
    assert ossature("run", "x", OSSATURE_MODEL=model).stdout == b"It is 95\n"
    assert ossature("run", "-m", model, "x", OSSATURE_MODEL="/nowhere").stdout == b"It is 95\n"


def test_json_is_one_object_with_every_part_of_the_reply(model):
    done = ossature("run", "-m", model, "--json", "x")
    reply = json.loads(done.stdout)
    assert done.stderr == b""
    assert list(reply) == ["analysis", "preamble", "final", "tool_calls", "finish_reason", "usage", "malformed"]
    assert (reply["analysis"], reply["final"], reply["finish_reason"]) == ("Let me add them", "It is 95", "stop")


def test_text_from_the_pipe_that_is_not_utf_8_is_wrong_use(model):
    done = ossature("run", "-m", model, stdin=b"caf\xe9")
    assert done.returncode == 2
    assert b"not UTF-8 (byte 3 is 0xe9)" in done.stderr


def test_a_closed_stdin_is_no_prompt_and_no_error(model):
    line = subprocess.list2cmdline(command("run", "-m", model, "x"))
    done = subprocess.run(["sh", "-c", f"{line} <&-"], capture_output=True, env=environment(), check=False)
    assert done.stdout == b"It is 95\n"


def test_an_answer_never_fails_on_where_it_goes(model, tmp_path):
    directory = write_scripted(tmp_path / "cafe", "<|channel|>final<|message|>café 漢<|return|>")
    assert ossature("run", "-m", str(directory), "x", PYTHONIOENCODING="latin-1").stdout == "café ?\n".encode("latin-1")
    line = subprocess.list2cmdline(command("run", "-m", model, "x"))
    done = subprocess.run(["sh", "-c", f"{line} 2>&-"], capture_output=True, env=environment(), check=False)
    assert (done.returncode, done.stdout) == (0, b"It is 95\n")


def test_wrong_use_and_failure_have_their_exit_codes_and_one_line(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    for arguments, code in ((["run", "--nonsense"], 2), (["run"], 2), (["run", "-m", str(tmp_path), "x"], 1)):
        done = ossature(*arguments)
        assert (done.returncode, done.stdout) == (code, b"")
        assert done.stderr.startswith(b"ossature: error: ")
        assert done.stderr.count(b"\n") == 1


def test_a_reader_that_leaves_ends_the_run_quietly(endless):
    with subprocess.Popen(
        command("run", "-m", endless, "x"),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment(),
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.read(8) == b" on and "
        process.stdout.close()
        assert process.stderr.read() == b"Let me add them\n"
        assert process.wait(timeout=60) != 0


def test_a_full_disk_is_one_line_and_not_a_traceback(model):
    with open("/dev/full", "wb") as full:
        done = subprocess.run(
            command("info", model), stdout=full, stderr=subprocess.PIPE, env=environment(), check=False
        )
    assert done.returncode == 1
    assert done.stderr == b"ossature: error: the output cannot be written: No space left on device\n"


def test_ctrl_c_ends_a_run_with_130_and_no_traceback(endless):
    with subprocess.Popen(
        command("run", "-m", endless, "x"),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment(),
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.read(40)
        process.send_signal(signal.SIGINT)
        rest = process.stdout.read()
        assert process.stderr.read() == b"Let me add them\n"
        assert process.wait(timeout=60) == 130
        assert rest.endswith(b"\n")


def test_a_terminal_shows_the_reasoning_dimmed_and_then_the_answer(model):
    with Terminal(command("run", "-m", model, "x")) as terminal:
        assert terminal.exit_code() == 0
        assert terminal.seen == "\x1b[2mLet me add them\x1b[0m\r\nIt is 95\r\n"


def test_no_color_is_honoured(model):
    with Terminal(command("run", "-m", model, "x"), NO_COLOR="1") as terminal:
        assert terminal.exit_code() == 0
        assert terminal.seen == "Let me add them\r\nIt is 95\r\n"


def test_a_chat_at_a_terminal_survives_ctrl_c_and_ends_with_ctrl_d(endless):
    with Terminal(command("chat", "-m", endless)) as terminal:
        terminal.wait_for("> ")
        terminal.type("first\r")
        terminal.wait_for(" on and on and on")
        terminal.type("\x03")
        terminal.wait_for("ossature: stopped")
        terminal.wait_for("> ")
        terminal.type("second\r")
        terminal.wait_for(" on and on and on")
        terminal.type("\x03")
        terminal.wait_for("> ")
        terminal.type("half a line")
        terminal.wait_for("half a line")
        time.sleep(0.3)  # readline notices a signal only while it waits for a key
        terminal.type("\x03")
        terminal.wait_for("Ctrl-D or /exit leaves the chat.")
        terminal.wait_for("> ")
        terminal.type("/effort high\r")
        terminal.wait_for("effort is high")
        terminal.wait_for("> ")  # before it, the terminal would read Ctrl-D as the end of an empty line
        terminal.type("\x04")
        assert terminal.exit_code() == 0
        assert "Traceback" not in terminal.seen


def test_a_chat_reads_its_turns_from_a_pipe(model):
    done = ossature("chat", "-m", model, stdin=b"first\n\nsecond\n/exit\nnever\n")
    assert (done.returncode, done.stdout) == (0, b"It is 95\nIt is 95\n")
    assert done.stderr == b"Let me add them\nLet me add them\n"


def test_a_chat_from_a_pipe_fails_on_a_turn_that_cannot_be_answered(model):
    done = ossature("chat", "-m", model, stdin=b"x" * 5000 + b"\nnever\n")
    assert (done.returncode, done.stdout) == (1, b"")
    assert b"context holds 4096" in done.stderr


def test_a_model_without_a_tokenizer_is_refused_before_the_first_question(tmp_path, model):
    directory = tmp_path / "model"
    directory.mkdir()
    for file in Path(model).iterdir():
        if file.name != "tokenizer.json":
            (directory / file.name).write_bytes(file.read_bytes())
    done = ossature("chat", "-m", str(directory))
    assert done.returncode == 1
    assert b"has no tokenizer.json" in done.stderr


def test_info_shows_the_model_the_machine_and_who_computes_what(model):
    shown = ossature("info", model)
    assert shown.returncode == 0
    text = shown.stdout.decode()
    for words in (
        "huggingface layout, 1 file",
        "LICENSE (Apache-2.0)",
        "1 of 3 for a token, stored as MXFP4",
        "greedy",
    ):
        assert words in text
    for op in ("embed", "rmsnorm", "linear", "rope", "attention", "route", "experts"):
        assert f"\n{op} " in text


def test_info_as_json_can_verify_a_model(model):
    done = ossature("info", model, "--verify", "--json")
    facts = json.loads(done.stdout)
    assert facts["verified"] == "2 tensors of scales hold only numbers"
    assert facts["model"]["config"]["model_type"] == "gpt_oss"
    assert {backend["op"] for backend in facts["backends"]} >= {"rmsnorm", "experts"}
    assert facts["machine"]["cores"] >= 1


def test_info_names_a_damaged_scale(tmp_path, model):
    directory = tmp_path / "model"
    directory.mkdir()
    for file in Path(model).iterdir():
        data = file.read_bytes()
        if file.suffix == ".safetensors":
            data = data.replace(b"\x7f" * 64, b"\xff" * 64)
        (directory / file.name).write_bytes(data)
    done = ossature("info", str(directory), "--verify")
    assert done.returncode == 1
    assert b"scale byte 255" in done.stderr
