"""The text that mini learns from is true, its halves are apart, and its vocabulary can spell anything."""

import json
import re
from collections.abc import Iterator
from pathlib import Path

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st
from transformers import PreTrainedTokenizerFast

from ossature.chat import Tokenizer, load_tokenizer, render, render_training
from recipes.mini import words
from recipes.mini.conversation import EFFORTS, Answer, Conversation
from recipes.mini.generate import TASKS, Stage, generate, mixture
from recipes.mini.score import is_right, judge, questions
from recipes.mini.tasks import arithmetic
from recipes.mini.tokenizer import SIZE, SPECIAL, write

STAGES: tuple[Stage, ...] = ("A", "B", "C")


def samples(task: str, count: int, *, stage: Stage = "C", heldout: bool = False) -> Iterator[Conversation]:
    for index in range(count):
        yield generate(3, index, split="heldout" if heldout else "train", stage=stage, weights={task: 1.0})


def asked(sample: Conversation) -> str:
    return [message["content"] for message in sample.messages if message["role"] == "user"][-1]


def told(sample: Conversation) -> str:
    """Everything the prompt says."""
    return "\n".join(message["content"] for message in sample.messages[:-1] if message["content"])


def final(sample: Conversation) -> str:
    return sample.messages[-1]["content"]


def thinking(sample: Conversation) -> str:
    return sample.messages[-1]["thinking"]


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("mini")).parent


@pytest.fixture(scope="module")
def tokenizer(directory: Path) -> Tokenizer:
    return load_tokenizer(directory)


def test_the_same_seed_and_index_give_the_same_conversation():
    first = [generate(1, index) for index in range(300)]
    assert first == [generate(1, index) for index in range(300)]
    assert first != [generate(2, index) for index in range(300)]


@pytest.mark.parametrize("heldout", [False, True])
@pytest.mark.parametrize("task", TASKS)
def test_the_generator_gives_itself_full_marks(task: str, heldout: bool):
    for sample in samples(task, 200, heldout=heldout):
        for question in questions(sample):
            expected = question.expected
            calls = expected.get("tool_calls", ())
            verdict = judge(
                sample, question, analysis=expected["thinking"], final=expected["content"], tool_calls=calls
            )
            assert verdict.right, (sample, verdict)


def test_sums_and_differences_are_those_of_the_question():
    for sample in samples("arithmetic", 2000):
        question = asked(sample)
        first, second = map(int, re.findall(r"\d+", question))
        if re.search(r"\bfrom \d|away from", question):
            first, second = second, first
        subtracting = re.search(r"-|minus|[Ss]ubtract|[Tt]ake", question)
        result = first - second if subtracting else first + second
        assert re.findall(r"-?\d+", final(sample))[-1] == str(result), sample


def test_every_equation_and_comparison_of_the_reasoning_holds():
    holds = {"<": int.__lt__, ">": int.__gt__, "=": int.__eq__}
    seen = 0
    for task in ("arithmetic", "order"):
        for sample in samples(task, 1500):
            text = thinking(sample)
            for x, y, carry, total in re.findall(r"\b(\d)\+(\d)\+(\d)=(\d\d)\b", text):
                assert int(x) + int(y) + int(carry) == int(total), sample
                seen += 1
            for x, y, borrow, digit, ten in re.findall(r"\b(\d)-(\d)-(\d)=(\d)-(\d\d)\b", text):
                assert int(x) - int(y) - int(borrow) == int(digit) - int(ten), sample
                seen += 1
            for left, sign, right in re.findall(r"(?<![\d+-])(\d+) ?([<>=]) ?(\d+)(?![\d-])", text):
                assert holds[sign](int(left), int(right)), sample
                seen += 1
    assert seen > 8_000


def test_more_effort_reasons_more_about_the_same_problem():
    for a, b in ((37, 58), (5, 812), (640, 641), (12, 45)):
        for sign in "+-":
            low, medium, high = (arithmetic.reasoning(a, sign, b, effort) for effort in EFFORTS)
            assert len(low) < len(medium) < len(high)


def test_comparing_and_sorting_are_right():
    for sample in samples("order", 1500):
        question = asked(sample)
        numbers = [int(number) for number in re.findall(r"\d+", question)]
        found = [int(number) for number in re.findall(r"\d+", final(sample))]
        if sample.kind == "sort":
            downwards = re.search(
                r"descending|decreasing|high to low|largest to smallest|largest first|biggest first", question
            )
            assert found == sorted(numbers, reverse=downwards is not None), sample
        else:
            small = re.search(r"smaller|less|lower|smallest|minimum|min\b|lowest", question.lower())
            assert found == [min(numbers) if small else max(numbers)], sample


def test_letters_are_copied_reversed_and_counted_right():
    for sample in samples("letters", 2000):
        question, said = asked(sample), final(sample)
        if match := re.fullmatch(r"The word (\w+) has (\d+) letters?\.", said):
            word, truth = match[1], len(match[1]) == int(match[2])
        elif match := re.fullmatch(r"The letter (\w) occurs (\d+) times? in (\w+)\.", said):
            word, truth = match[3], match[3].count(match[1]) == int(match[2])
            assert re.search(rf"\b{match[1]}\b", question), sample
        elif match := re.fullmatch(r"The (\w+) letter of (\w+) is (\w)\.", said):
            places = {"first": 0, "second": 1, "third": 2, "fourth": 3, "fifth": 4, "sixth": 5, "last": -1}
            word, truth = match[2], match[2][places[match[1]]] == match[3]
            assert match[1] in question, sample
        else:
            made_of = {"copy": said, "spell": said.replace("-", ""), "reverse": said[::-1], "upper": said.lower()}
            word, truth = made_of[sample.kind], True
        assert truth, sample
        assert re.search(rf"\b{re.escape(word)}\b", question), sample


def test_who_has_what_is_what_the_prompt_says():
    seen = 0
    for sample in samples("recall", 3000):
        match = re.fullmatch(r"(.+) has the (\w+) (\w+)\.", final(sample))
        if match is None:
            continue
        facts = re.findall(r"((?:\w+ )?\w+) has the (\w+) (\w+)(?=[.,]| and )", told(sample))
        told_of = {(name.split()[-1], value) for name, value, _ in facts}
        told_of = {(name, value) for name, value in told_of if name.lower() not in ("who", "person")}
        assert (match[1].split()[-1], match[2]) in told_of, sample
        assert sum(value == match[2] for _, value in told_of) == 1, sample
        question = asked(sample)
        assert match[1] in question or f"{match[2]} {match[3]}" in question, sample
        seen += 1
    assert seen > 800


def test_recalled_facts_stand_in_the_prompt_word_for_word():
    for sample in samples("recall", 2000):
        if sample.kind in ("forward", "backward"):
            fact = final(sample)[:-1].removeprefix("The ")
            assert fact in told(sample), sample


def test_looked_up_values_stand_right_after_their_keys():
    for sample in samples("induction", 1500):
        if sample.kind == "repeat":
            assert final(sample) in asked(sample)
        else:
            key_and_value = re.split(r"Find .*?\. | So: ", thinking(sample))
            pair = next(part for part in key_and_value if part).strip().removesuffix(".")
            assert pair in asked(sample), sample
            assert pair.endswith(final(sample).removesuffix(".")), sample


def test_calls_follow_the_offered_schema_with_values_from_the_request():
    for sample in samples("tools", 2000):
        call_message, result_message = sample.messages[-3:-1]
        function = call_message["tool_calls"][0]["function"]
        offered = {tool["function"]["name"]: tool["function"] for tool in sample.tools}
        assert len(offered) == len(sample.tools), "two functions of one name"
        arguments = json.loads(function["arguments"])
        schema = offered[function["name"]].get("parameters", {"type": "object", "properties": {}})
        jsonschema.validate(arguments, {**schema, "additionalProperties": False, "required": list(arguments)})
        assert set(schema.get("required", ())) <= set(arguments)
        for key, value in arguments.items():
            if "enum" not in schema["properties"][key] and not re.search(r" [*+-] ", str(value)):
                assert str(value).lower() in asked(sample).lower(), sample
        assert sample.answer.value.split(", ")[0] in result_message["content"], sample


def test_every_kind_of_tool_is_named_in_many_ways():
    names = {sample.messages[-3]["tool_calls"][0]["function"]["name"] for sample in samples("tools", 2000)}
    assert len(names) > 300


def test_no_held_out_problem_is_in_the_training_text():
    def problems(heldout: bool) -> dict[str, set[object]]:
        arithmetic = [(asked(s), final(s)) for s in samples("arithmetic", 4000, heldout=heldout)]
        return {
            "arithmetic": {whole_and_parts(*pair) for pair in arithmetic},
            "order": {tuple(re.findall(r"\d+", asked(s))) for s in samples("order", 3000, heldout=heldout)},
            "letters": {(s.kind, final(s)) for s in samples("letters", 3000, heldout=heldout) if len(final(s)) > 2},
            "recall": {told(s) for s in samples("recall", 3000, heldout=heldout)},
        }

    def whole_and_parts(question: str, answer: str) -> tuple[int, ...]:
        """The three numbers of a + b = c and of the differences that undo it, in order."""
        numbers = re.findall(r"\d+", question)[:2] + re.findall(r"-?\d+", answer)[-1:]
        return tuple(sorted(abs(int(number)) for number in numbers))

    train, heldout = problems(False), problems(True)
    for task, found in heldout.items():
        assert len(found) > 300, task
        assert not train[task] & found, task


def test_the_table_is_asked_in_held_out_words_only_in_the_held_out_half():
    def openings(heldout: bool) -> set[str]:
        found: set[str] = set()
        for sample in samples("table", 1500, heldout=heldout):
            pattern = asked(sample).lower()
            for name in re.findall(r"\w+", final(sample).lower()):
                pattern = re.sub(rf"\b{name}\b", "…", pattern) if len(name) > 5 else pattern
            found.add(pattern)
        return found

    plain = {"which is the … city of …?", "give me the … of …."}
    assert plain & openings(True)
    assert not plain & openings(False)


def test_half_of_the_names_are_outside_the_vocabulary(directory: Path):
    vocabulary = json.loads((directory / "tokenizer.json").read_text())["model"]["vocab"]
    assert all(f"Ġ{name}" in vocabulary and name in vocabulary for name in words.KNOWN_NAMES)
    assert not any(f"Ġ{name}" in vocabulary or name in vocabulary for name in words.RARE_NAMES)
    assert not any(f"Ġ{word}" in vocabulary for word in words.COMMON_WORDS)


def test_shares_of_the_tasks_are_whole_and_recall_leads():
    for stage in STAGES:
        shares = mixture(stage)
        assert sum(shares.values()) == pytest.approx(1)
        assert shares["recall"] + shares["induction"] > 0.3
        assert set(shares) <= set(TASKS)


def test_rows_are_short_and_some_are_long(tokenizer: Tokenizer):
    lengths = sorted(
        len(
            render_training(
                sample.messages,
                tokenizer=tokenizer,
                tools=sample.tools,
                reasoning_effort=sample.reasoning_effort,
                current_date=sample.current_date,
            ).ids
        )
        for sample in (generate(4, index) for index in range(3000))
    )
    assert 60 < lengths[len(lengths) // 2] < 160
    assert lengths[-15] > 300
    assert sum(length > 512 for length in lengths) <= 3


def test_the_standard_system_message_costs_few_ids(tokenizer: Tokenizer):
    assert len(render([{"role": "user", "content": "7"}], tokenizer=tokenizer)) <= 15


def test_the_vocabulary_is_dense_and_its_digits_stand_alone(tokenizer: Tokenizer):
    assert tokenizer.vocab_size == SIZE
    assert set(tokenizer.special) == set(SPECIAL)
    assert all(tokenizer.text_bytes(id_) is not None for id_ in range(SIZE - len(SPECIAL)))
    assert [tokenizer.decode([id_]) for id_ in tokenizer.encode("What is 375?")][-4:] == ["3", "7", "5", "?"]


@given(st.text(max_size=60))
def test_any_text_survives_the_vocabulary(tokenizer: Tokenizer, text: str):
    assert tokenizer.decode(tokenizer.encode(text)) == text


def test_transformers_reads_the_same_vocabulary(directory: Path, tokenizer: Tokenizer):
    other = PreTrainedTokenizerFast.from_pretrained(directory)
    assert other.eos_token_id == tokenizer.special["<|return|>"]
    for index in range(200):
        for message in generate(5, index).messages:
            text = message["content"] or ""
            assert other(text, add_special_tokens=False).input_ids == tokenizer.encode(text)


@pytest.mark.parametrize(
    ("answer", "said", "right"),
    [
        (Answer("number", "95"), "37 + 58 = 95.", True),
        (Answer("number", "95"), "37 + 58 = 96.", False),
        (Answer("number", "95"), "", False),
        (Answer("number", "-33"), "12 - 45 = -33.", True),
        (Answer("number", "33"), "12 - 45 = -33.", False),
        (Answer("numbers", "7, 12, 45"), "7, 12, 45.", True),
        (Answer("numbers", "7, 12, 45"), "7, 45, 12.", False),
        (Answer("text", "red", ("blue",)), "Asha has the red key.", True),
        (Answer("text", "red", ("blue",)), "Asha has the red or the blue key.", False),
        (Answer("text", "red", ("blue",)), "Asha is bored.", False),
        (Answer("exact", "enots"), "enots", True),
        (Answer("exact", "enots"), "enost", False),
    ],
)
def test_answers_are_judged_by_what_they_say(answer: Answer, said: str, right: bool):
    assert is_right(answer, said) is right


def test_wrong_calls_are_told_apart_from_invalid_ones():
    sample = next(s for s in samples("tools", 50) if s.kind == "price")
    question = questions(sample)[0]
    call = question.expected["tool_calls"][0]
    name, arguments = call["function"]["name"], json.loads(call["function"]["arguments"])

    def verdict(name: str, text: str, analysis: str = "Use it.") -> tuple[bool, bool]:
        given = {"function": {"name": name, "arguments": text}}
        found = judge(sample, question, analysis=analysis, final=None, tool_calls=[given])
        return found.valid, found.right

    assert verdict(name, json.dumps(arguments)) == (True, True)
    assert verdict(name, json.dumps(dict.fromkeys(arguments, "another"))) == (True, False)
    assert verdict(name, json.dumps({**arguments, "more": 1})) == (True, False)
    assert verdict(name, '{"item": ') == (False, False)
    assert verdict("not_offered", json.dumps(arguments)) == (False, False)
    assert verdict(name, json.dumps(arguments), analysis="") == (False, False)
    assert judge(sample, question, analysis="Hm.", final="12").valid
    assert not judge(sample, question, analysis="Hm.", final="12").right
