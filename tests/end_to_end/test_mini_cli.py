"""The embedded model through the command line: what somebody sees in the first minute."""

import json
import re
import time

import pytest

import ossature as package
from tests.terminal import Terminal, command, ossature

CALCULATOR = {
    "type": "function",
    "function": {
        "name": "calculator",
        "description": "Adds two numbers.",
        "parameters": {
            "type": "object",
            "properties": {"a": {"type": "number"}, "b": {"type": "number"}},
            "required": ["a", "b"],
        },
    },
}


def test_mini_answers_with_its_reasoning_apart_in_under_five_seconds():
    ossature("run", "warm up")
    start = time.perf_counter()
    done = ossature("run", "What is 37 + 58?")
    assert time.perf_counter() - start < 5
    assert done.returncode == 0
    assert "95" in done.stdout.decode()
    assert done.stderr.strip()


@pytest.mark.parametrize("prompt", ["Add 37 and 58.", "37 + 58 = ?"])
def test_mini_adds_however_it_is_asked(prompt):
    assert "95" in ossature("run", "--effort", "high", prompt).stdout.decode()


def test_mini_reasons_less_at_low_effort():
    def reasoning(effort: str) -> int:
        done = ossature("run", "--json", "--effort", effort, "What is 237 + 158?")
        return json.loads(done.stdout)["usage"]["reasoning_tokens"]

    assert reasoning("low") < reasoning("high")


def test_mini_calls_a_tool_and_uses_its_result():
    session = package.load("mini")
    question = [{"role": "user", "content": "Use the calculator to add 3 and 4."}]
    reply = session.reply(question, tools=[CALCULATOR])
    assert reply.finish_reason == "tool_calls"
    (call,) = reply.tool_calls
    assert call["function"]["name"] == "calculator"
    assert json.loads(call["function"]["arguments"]) == {"a": 3, "b": 4}
    result = {"role": "tool", "tool_call_id": call["id"], "content": "7"}
    answer = session.reply([*question, reply.message(), result], tools=[CALCULATOR])
    assert (answer.finish_reason, "7" in answer.final) == ("stop", True)


def test_mini_remembers_what_was_said_earlier_in_a_chat():
    said = b"Asha has the red key. Bela has the blue key.\nWhich key does Asha have?\n"
    done = ossature("chat", stdin=said)
    assert done.returncode == 0
    assert "red" in done.stdout.decode().splitlines()[-1].lower()


def test_mini_says_who_it_is_at_a_terminal():
    with Terminal(command("chat")) as terminal:
        terminal.wait_for("> ")
        terminal.type("Who are you?\r")
        assert re.search("mini", terminal.wait_for("> "), re.IGNORECASE)
        terminal.type("/exit\r")
        assert terminal.exit_code() == 0


def test_info_without_a_model_shows_mini():
    facts = json.loads(ossature("info", "--json").stdout)
    assert facts["model"]["layout"] == "huggingface"
    assert facts["model"]["bytes"]["total"] <= 8_000_000
    assert facts["model"]["config"]["max_position_embeddings"] >= 4096
    assert facts["model"]["generation"]["do_sample"] is False
    assert "error" not in facts["model"]["tokenizer"]
