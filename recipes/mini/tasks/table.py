"""A closed table of invented facts, learnt by heart. The last two phrasings of each relation are held out."""

from __future__ import annotations

import random
from dataclasses import dataclass

from recipes.mini.conversation import Answer, Effort, Exchange, Split, answered, phrase, phrasings


@dataclass(frozen=True, slots=True)
class Column:
    """One relation of the table: the sentence, the questions, and the pairs of subject and value."""

    fact: str
    ask: tuple[str, ...]
    rows: tuple[tuple[str, str], ...]


def _rows(text: str) -> tuple[tuple[str, str], ...]:
    pairs = (pair.partition("=") for pair in text.split())
    return tuple((subject, value.replace("_", " ")) for subject, _, value in pairs)


COLUMNS = (
    Column(
        fact="The capital of {s} is {v}.",
        ask=phrasings(
            """
            What is the capital of {s}? | Which city is the capital of {s}? | Capital of {s}? |
            What's the capital of {s}? | Name the capital of {s}. | Tell me the capital of {s}. |
            What is the name of the capital of {s}? | Do you know the capital of {s}? |
            What city is the capital of {s}? | {s}: what is its capital? | Which is the capital city of {s}? |
            Give me the capital of {s}.
            """
        ),
        rows=_rows(
            """
            Zubrowia=Plink Ostavia=Merrun Kelmar=Dovett Quandor=Silvane Brellia=Tarko Narvonia=Hestel Ulmaria=Pexford
            Drovia=Gannock Fentasia=Loriel Mirendal=Oskaby Tolvania=Wrenna Vashkar=Ibbinor Yelland=Cradoc
            Pombria=Zenlow Corvany=Umbrek Hadrosia=Finnock Jorvania=Belspar Lumeria=Kastow Sarkovia=Nimbury
            Wendaria=Rullo Aldoria=Quenby Grantosia=Thessa Istavar=Mokkel Ruvonia=Parlem Xanthea=Dorvin
            """
        ),
    ),
    Column(
        fact="People in {s} speak {v}.",
        ask=phrasings(
            """
            Which language do people in {s} speak? | What language is spoken in {s}? | What do people in {s} speak? |
            Which language is spoken in {s}? | What is the language of {s}? | Language of {s}? |
            Tell me the language of {s}. | What language do they speak in {s}? | Name the language of {s}. |
            What language do people speak in {s}?
            """
        ),
        rows=_rows(
            """
            Zubrowia=Zubrish Ostavia=Ostlan Kelmar=Kelmic Quandor=Quanti Brellia=Brellic Narvonia=Narvesh
            Ulmaria=Ulmish Drovia=Drovene Fentasia=Fentine Mirendal=Mirish Tolvania=Tolvar Vashkar=Vashti
            Yelland=Yellish Pombria=Pomban Corvany=Corvese
            """
        ),
    ),
    Column(
        fact="The moon of {s} is called {v}.",
        ask=phrasings(
            """
            What is the moon of {s} called? | What is the name of the moon of {s}? | Which moon does {s} have? |
            Name the moon of {s}. | What's the moon of {s}? | Tell me the moon of {s}. | Which moon goes around {s}? |
            Moon of {s}? | What is {s}'s moon called? | How is the moon of {s} called?
            """
        ),
        rows=_rows(
            """
            Orbax=Lumo Tessaron=Pilla Krondo=Vex Heliot=Dunna Marvox=Kesh Quillon=Arro Sandrix=Wim Velturn=Osk
            Bruneth=Talla Corvex=Zinn Dalmeer=Hobbo Ephirus=Mott Galvor=Sirrin Jundar=Yol Nembus=Crae
            """
        ),
    ),
    Column(
        fact="The {s} eats {v}.",
        ask=phrasings(
            """
            What does the {s} eat? | What do you feed a {s}? | What is the food of the {s}? | What does a {s} eat? |
            Tell me what the {s} eats. | Which food does the {s} eat? | What food does a {s} eat? | Food of the {s}? |
            What is eaten by the {s}? | The {s} eats what?
            """
        ),
        rows=_rows(
            """
            glimfox=moss bramwhale=kelp tuskhare=roots snorvel=beetles quibbat=figs dromling=clover fuzzgull=crabs
            marshpig=reeds plonkfish=shrimp zebbit=nuts vorpine=bark hillnewt=ants stripeowl=moths grumblebee=honey
            wottle=ferns
            """
        ),
    ),
    Column(
        fact="The {s} is {v}.",
        ask=phrasings(
            """
            What colour is the {s}? | What color is the {s}? | What is the colour of the {s}? |
            Which colour does the {s} have? | Tell me the colour of the {s}. | What colour is a {s}? |
            Which colour is the {s}? | Colour of the {s}? | What colour does the {s} have? |
            What is the color of a {s}?
            """
        ),
        rows=_rows(
            """
            glimfox=blue bramwhale=green tuskhare=white snorvel=purple quibbat=orange dromling=yellow fuzzgull=grey
            marshpig=pink plonkfish=red zebbit=black vorpine=brown hillnewt=golden stripeowl=silver grumblebee=teal
            wottle=violet
            """
        ),
    ),
    Column(
        fact="{v} invented the {s}.",
        ask=phrasings(
            """
            Who invented the {s}? | Who is the inventor of the {s}? | Who made the first {s}? |
            Which person invented the {s}? | Tell me who invented the {s}. | Inventor of the {s}? |
            Who came up with the {s}? | Name the inventor of the {s}. | By whom was the {s} invented? |
            The {s} was invented by whom?
            """
        ),
        rows=_rows(
            """
            flubbergraph=Orla_Venn skyhopper=Dov_Marrick tickspinner=Ilse_Pomm rainbottle=Hal_Quist
            moonplough=Berta_Stroom windpiano=Tam_Ekberg fogcutter=Nell_Harpo starkettle=Juno_Brack
            sockfinder=Wil_Tansey snowlamp=Greta_Oyl doorwhistler=Pim_Ardo cloudrake=Ada_Lorrin soupclock=Finn_Obry
            """
        ),
    ),
)
HELD_OUT_PHRASINGS = 2


def table(rng: random.Random, effort: Effort, split: Split) -> Exchange:
    """A question about one fact of the table, in a phrasing of the given half."""
    column = rng.choices(COLUMNS, [len(column.rows) for column in COLUMNS])[0]
    subject, value = rng.choice(column.rows)
    asks = column.ask[-HELD_OUT_PHRASINGS:] if split == "heldout" else column.ask[:-HELD_OUT_PHRASINGS]
    fact = column.fact.format(s=subject, v=value)
    thinking = {"low": f"For {subject}: {value}.", "medium": fact, "high": f"Known: {subject}. {fact} So: {value}."}[
        effort
    ]
    rivals = tuple(other for _, other in column.rows if other != value)
    return answered(
        f"table/{COLUMNS.index(column)}",
        "",
        phrase(rng, asks, s=subject),
        thinking,
        fact,
        Answer("text", value, rivals),
    )
