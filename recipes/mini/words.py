"""The words `mini` is trained on: lists of known words, and makers of words nobody has seen.

A *known* word may become one id of the vocabulary. Every other word reaches the model as single bytes, which is what
lets it copy, spell and recall words that were never in the training text, so about half of all words are not known.
"""

from __future__ import annotations

import random


def listed(text: str) -> tuple[str, ...]:
    """The words of a text."""
    return tuple(text.split())


KNOWN_NAMES = listed(
    """
    Asha Ben Cleo Dana Emil Farah Gus Hana Ivan Jun Kofi Lena Mia Nils Omar Priya Quinn Ravi Sara Tom Uma Vera Wei
    Xena Yuki Zoe Ali Amina Anna Bob Alice Carol Carlos Chen Dave David Diego Ella Emma Eva Fatima Finn George Grace
    Hugo Ines Iris Jack James Jane Jonas Juan Julia Karim Kate Kenji Lars Leila Leo Liam Lily Lucy Luis Maria Mark
    Mary Max Mei Mina Mohamed Nadia Nina Noah Nora Oscar Olga Paul Pedro Peter Rosa Ruth Sam Sofia Tara Tariq Theo
    Tina Yara Yusuf Zara John Eve Frank Helen Henry Kim Laura Lisa Lucas Marco Oliver Rita Simon
    """
)
RARE_NAMES = listed(
    """
    Abel Adaeze Agnes Aiko Akira Alan Alba Alejandro Alma Amara Amit Anders Andrea Anika Anton Arjun Arthur Astrid
    Ayo Beatriz Bela Bianca Boris Brigitte Bruno Camila Cecile Chidi Chloe Claire Clara Daniel Daria Deepak Dimitri
    Dolores Edgar Edith Eduardo Ege Elif Elias Elsa Erik Esther Fabio Felix Filip Fiona Freya Gabriel Gita Giulia
    Goran Greta Gunnar Hamza Haruto Hassan Heidi Ibrahim Ida Igor Imani Ingrid Isabel Ismail Jacob Jamal Javier Joao
    Johanna Joseph Kaito Kamal Karin Katya Kwame Lakshmi Lin Linh Lorenzo Louis Magnus Malik Manuel Marta Matteo
    Michael Miguel Mikhail Milan Mira Naomi Natalia Ngozi Nikolai Noor Octavia Olivia Otto Pablo Patrick Petra
    Philip Rafael Rahul Rania Rebecca Robert Robin Roman Rosalind Sakura Salma Samira Sanjay Sebastian Selma Sergei
    Silvia Stella Stefan Sunita Susan Sven Tamar Tanaka Thandi Thomas Tomas Ursula Valentina Victor Viktor Walter
    Wanda Willem William Xavier Yasmin Yosef Yolanda Zainab Zeynep Zuri Ahmed Barbara Charlie Dorothy Zoë José Søren
    Łukasz Chloé Jürgen Anaïs Nuño Márta Renée
    """
)
KNOWN_COLOURS = listed("red blue green yellow black white orange purple pink brown grey")
RARE_COLOURS = listed(
    """
    silver golden crimson turquoise violet indigo beige teal scarlet cyan magenta maroon olive amber ivory
    """
)
KNOWN_THINGS = listed("key book ball hat lamp cup bag box coin ring map pen stone card")
RARE_THINGS = listed(
    """
    umbrella basket bottle candle chair clock drum flute guitar kettle ladder mirror needle plate ribbon rope scarf
    shell spoon ticket torch towel vase wallet watch whistle bell blanket brush button camera carpet marble
    """
)
CITIES = listed(
    """
    Oslo Paris Lima Rome Cairo Delhi Tokyo Berlin London Madrid Nairobi Lagos Boston Seoul Prague Vienna Dublin
    Athens Hanoi Quito Accra Bogota Sydney Toronto Warsaw Lisbon Zurich Geneva Havana Dakar Kyoto Mumbai Naples
    Porto Riga
    """
)
FOODS = listed(
    """
    apples bread rice soup tea coffee cheese honey plums grapes pasta beans carrots lemons melons nuts olives onions
    pears peas salad tomatoes chocolate mangoes noodles pancakes figs dates cherries potatoes
    """
)
ANIMALS = listed(
    """
    cat dog horse goat parrot rabbit turtle fox hamster lizard pony sheep duck goose donkey snail frog canary hen
    cow mouse pigeon llama spider ferret
    """
)
GAMES = listed(
    """
    chess tennis football golf hockey rugby darts cards volleyball cricket piano violin guitar flute drums cello
    """
)
JOBS = listed(
    """
    baker nurse teacher pilot farmer doctor painter judge driver cook tailor clerk sailor singer plumber lawyer
    """
)
PLACES = listed(
    """
    kitchen garden cellar attic hall garage office library bathroom bedroom shed drawer cupboard tower
    """
)
DAYS = listed("Monday Tuesday Wednesday Thursday Friday Saturday Sunday")
COMMON_WORDS = listed(
    """
    apple banana hello house tree table water river mountain planet flower strawberry python window summer winter
    school garden monkey tiger elephant computer butter pepper coffee cookie puzzle rocket castle dragon bridge
    forest island ocean market pencil paper silver bottle dinner doctor family finger friend ginger hammer jacket
    jungle kitten ladder lemon lion magic medal melon metal mirror money moon motor music night noise north paint
    panda party peace pearl piano plane plant pocket potato prince queen radio rain rabbit robot sail salt sand
    shark sheep ship shoe shop sister sky snake snow soap soccer song spider spoon spring square star station storm
    story street sugar sun sweet swim tea teeth toast tomato tooth torch tower town toy train turtle uncle valley
    village violin wagon wall watch wave whale wheel wind wing wolf wood world zebra mississippi level noon radar
    kayak balloon committee bookkeeper cat dog egg ice ant bee keyboard notebook umbrella chocolate hospital
    sandwich tangerine wonderful yesterday bird cloud door earth fire glass heart juice knife light mouse nurse
    olive quiet road smile thumb voice yacht
    """
)

_ONSETS = listed("b c d f g h j k l m n p r s t v w z br ch cl dr fl gr kl kr pl pr sh sk sl st th tr vr zh qu y x")
_VOWELS = listed("a e i o u a e i o u ai ea ou oo ia")
_CODAS = ("", "", "", "", *listed("n r l s t k m x nd rk sh lt"))
_LETTERS = "abcdefghijklmnopqrstuvwxyz"


def invented_word(rng: random.Random, low: int = 3, high: int = 9) -> str:
    """A pronounceable lower-case word of `low` to `high` letters that is (almost surely) in no dictionary."""
    while True:
        word = "".join(rng.choice(_ONSETS) + rng.choice(_VOWELS) + rng.choice(_CODAS) for _ in range(rng.randint(1, 3)))
        if low <= len(word) <= high:
            return word


def random_letters(rng: random.Random, low: int = 2, high: int = 9) -> str:
    """A run of uniformly drawn lower-case letters."""
    return "".join(rng.choices(_LETTERS, k=rng.randint(low, high)))


def name(rng: random.Random) -> str:
    """A name: known (54 %), a real one outside the vocabulary (25 %), an invented one (18 %), or one with a surname."""
    kind = rng.random()
    if kind < 0.54:
        return rng.choice(KNOWN_NAMES)
    if kind < 0.79:
        return rng.choice(RARE_NAMES)
    invented = invented_word(rng, 2, 9).capitalize()
    return invented if kind < 0.97 else f"{rng.choice(KNOWN_NAMES)} {invented}"


def names(rng: random.Random, count: int) -> list[str]:
    """`count` different names, in one row mostly of one kind, as people write them."""
    found: list[str] = []
    kind = rng.random()
    while len(found) < count:
        one = rng.choice(KNOWN_NAMES) if kind < 0.35 else name(rng)
        if one not in found:
            found.append(one)
    return found


def _mostly(rng: random.Random, known: tuple[str, ...], rare: tuple[str, ...], invented: float) -> str:
    kind = rng.random()
    if kind < invented:
        return invented_word(rng)
    return rng.choice(known) if kind < 0.6 else rng.choice(rare)


def colour(rng: random.Random) -> str:
    """A colour word, now and then an invented one."""
    return _mostly(rng, KNOWN_COLOURS, RARE_COLOURS, 0.06)


def thing(rng: random.Random) -> str:
    """A small object, now and then an invented one."""
    return _mostly(rng, KNOWN_THINGS, RARE_THINGS, 0.06)


def pick(rng: random.Random, known: tuple[str, ...], *, invented: float = 0.08, capital: bool = False) -> str:
    """A word of a list, or with probability `invented` one that is in no list."""
    if rng.random() < invented:
        word = invented_word(rng)
        return word.capitalize() if capital else word
    return rng.choice(known)


def spelling_word(rng: random.Random, longest: int = 10) -> str:
    """A lower-case word or string of at most `longest` letters for the letter tasks."""
    while True:
        kind = rng.random()
        if kind < 0.30:
            word = rng.choice(COMMON_WORDS)
        elif kind < 0.42:
            word = rng.choice((*KNOWN_COLOURS, *KNOWN_THINGS))
        elif kind < 0.55:
            word = rng.choice(RARE_THINGS + FOODS + ANIMALS + RARE_COLOURS)
        elif kind < 0.75:
            word = invented_word(rng, 2, longest)
        else:
            word = random_letters(rng, 1, longest)
        if len(word) <= longest:
            return word


def common_word(rng: random.Random) -> str:
    """An everyday English word."""
    return rng.choice(COMMON_WORDS)


def article(word: str) -> str:
    """The word with `a` or `an` before it."""
    return f"{'an' if word[0] in 'aeiou' else 'a'} {word}"
