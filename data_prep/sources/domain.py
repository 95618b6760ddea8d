"""The closed everyday domain of the demo: facts, wordings, and what people say beside questions.

Written for this project. A category is a relation with one right answer a subject (aliases are
listed after it) that a small language model mostly knows; subjects carry their own article.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Fact:
    """A subject and what counts as a right answer (the first is the usual one)."""

    subject: str
    answers: tuple[str, ...]


@dataclass(frozen=True)
class Category:
    """Facts of one relation and the wordings to ask for it; ``{x}`` is the subject."""

    name: str
    facts: tuple[Fact, ...]
    templates: tuple[str, ...]


def _facts(lines: str) -> tuple[Fact, ...]:
    """Lines "subject: answer, alias, alias"."""
    pairs = (line.split(":") for line in lines.strip().splitlines())
    return tuple(
        Fact(subject.strip(), tuple(a.strip() for a in answers.split(",")))
        for subject, answers in pairs
    )


CATEGORIES: tuple[Category, ...] = (
    Category(
        "capital",
        _facts("""
            France: Paris
            Italy: Rome
            Spain: Madrid
            Germany: Berlin
            England: London
            Japan: Tokyo
            China: Beijing
            Russia: Moscow
            Egypt: Cairo
            Greece: Athens
            Canada: Ottawa
            Poland: Warsaw
            Portugal: Lisbon
            Austria: Vienna
            Sweden: Stockholm
            Norway: Oslo
            Denmark: Copenhagen
            Ireland: Dublin
            Cuba: Havana
            Peru: Lima
            Turkey: Ankara
            Kenya: Nairobi
            Thailand: Bangkok
            Iran: Tehran
        """),
        (
            "what is the capital of {x}?",
            "tell me the capital of {x}.",
            "please tell me the capital of {x}.",
            "can you tell me the capital of {x}?",
            "name the capital of {x}.",
            "please name the capital of {x}.",
            "which city is the capital of {x}?",
            "what city is the capital of {x}?",
            "what is the name of the capital of {x}?",
            "what is the capital city of {x}?",
        ),
    ),
    Category(
        "opposite",
        _facts("""
            hot: cold
            big: small, little
            up: down
            happy: sad, unhappy
            day: night
            fast: slow
            left: right
            old: new, young
            light: dark, heavy
            hard: soft, easy
            wet: dry
            full: empty
            open: closed, close, shut
            early: late
            long: short
            high: low
            rich: poor
            strong: weak
            good: bad, evil
            clean: dirty
            black: white
            love: hate
            win: lose
            thick: thin
        """),
        (
            "what is the opposite of {x}?",
            "tell me the opposite of {x}.",
            "please tell me the opposite of {x}.",
            "can you tell me the opposite of {x}?",
            "name the opposite of {x}.",
            "please name the opposite of {x}.",
            "what word is the opposite of {x}?",
            "which word is the opposite of {x}?",
            "can you name the opposite of {x}?",
        ),
    ),
    Category(
        "plural",
        _facts("""
            cat: cats
            dog: dogs
            house: houses
            child: children
            foot: feet
            mouse: mice
            man: men
            woman: women
            tooth: teeth
            book: books
            city: cities
            baby: babies
            leaf: leaves
            box: boxes
            tree: trees
            goose: geese
            bus: buses
            wolf: wolves
            knife: knives
            bird: birds
            car: cars
            girl: girls
            apple: apples
            story: stories
        """),
        (
            "what is the plural of {x}?",
            "tell me the plural of {x}.",
            "please tell me the plural of {x}.",
            "can you tell me the plural of {x}?",
            "name the plural of {x}.",
            "please name the plural of {x}.",
            "what word is the plural of {x}?",
            "which word is the plural of {x}?",
            "can you name the plural of {x}?",
        ),
    ),
    Category(
        "language",
        _facts("""
            France: French
            Spain: Spanish
            Italy: Italian
            Germany: German
            Japan: Japanese
            China: Chinese, Mandarin
            Russia: Russian
            Greece: Greek
            Brazil: Portuguese
            Egypt: Arabic
            Mexico: Spanish
            England: English
            Korea: Korean
            Portugal: Portuguese
            Sweden: Swedish
            Turkey: Turkish
        """),
        (
            "what is the language of {x}?",
            "tell me the language of {x}.",
            "please tell me the language of {x}.",
            "can you tell me the language of {x}?",
            "name the language of {x}.",
            "please name the language of {x}.",
            "what language do people speak in {x}?",
            "which language do people speak in {x}?",
            "tell me what language people speak in {x}.",
        ),
    ),
    Category(
        "kind",
        _facts("""
            an apple: fruit
            a rose: flower, plant
            a salmon: fish
            an eagle: bird
            an oak: tree
            a hammer: tool
            a piano: instrument, musical
            tennis: sport, game
            a dog: animal, mammal, pet
            gold: metal
            a shirt: clothing, clothes
            a chair: furniture
            a potato: vegetable, food
            a car: vehicle
            the earth: planet
            a shark: fish
        """),
        (
            "what kind of thing is {x}?",
            "tell me what kind of thing {x} is.",
            "please tell me what kind of thing {x} is.",
            "can you tell me what kind of thing {x} is?",
            "what type of thing is {x}?",
            "which kind of thing is {x}?",
            "tell me what type of thing {x} is.",
            "please tell me what type of thing {x} is.",
            "can you tell me what type of thing {x} is?",
        ),
    ),
    Category(
        "number",
        _facts("""
            legs does a dog have: four, 4
            legs does a spider have: eight, 8
            legs does a cat have: four, 4
            legs does a bird have: two, 2
            sides does a triangle have: three, 3
            sides does a square have: four, 4
            days does a week have: seven, 7
            months does a year have: twelve, 12
            hours does a day have: twenty four, twenty-four, 24
            fingers does a hand have: five, 5
            planets does the sun have: eight, 8
            letters does the alphabet have: twenty six, twenty-six, 26
            eyes does a person have: two, 2
            arms does a person have: two, 2
            wheels does a bicycle have: two, 2
            wheels does a car have: four, 4
        """),
        (
            "how many {x}?",
            "tell me, how many {x}?",
            "please tell me, how many {x}?",
            "please, how many {x}?",
            "now please tell me, how many {x}?",
            "tell me now, how many {x}?",
            "now tell me, how many {x}?",
            "can you tell me, how many {x}?",
            "now, how many {x}?",
        ),
    ),
    Category(
        "home",
        _facts("""
            a fish: water, ocean, river, sea
            a bird: nest, tree
            a bee: hive
            a spider: web
            a penguin: antarctica, ice, south, antarctic
            a whale: ocean, sea
            a monkey: jungle, tree, forest, rainforest
            a lion: savanna, africa, grassland, african
            a polar bear: arctic, ice
            a shark: ocean, sea, water
            a wolf: forest, woods, wild, mountain
            a frog: pond, water, wetland
            a tiger: asia, jungle, forest, india
            a cow: farm, field, barn, pasture
        """),
        (
            "where does {x} live?",
            "tell me where {x} lives.",
            "please tell me where {x} lives.",
            "can you tell me where {x} lives?",
            "please, where does {x} live?",
            "where can you find {x}?",
            "where do you find {x}?",
            "tell me where you can find {x}.",
            "please tell me where you can find {x}.",
        ),
    ),
    Category(
        "made",
        _facts("""
            bread: flour, wheat
            cheese: milk
            wine: grapes
            paper: wood, trees, pulp
            ice: water
            a book: paper
            a tire: rubber
            honey: nectar
            a window: glass
            a coin: metal, gold, silver, copper
            a snowman: snow
            a table: wood
        """),
        (
            "what is {x} made of?",
            "tell me what {x} is made of.",
            "please tell me what {x} is made of.",
            "can you tell me what {x} is made of?",
            "what is {x} made from?",
            "what do people make {x} from?",
            "what do you make {x} from?",
            "what do people make {x} of?",
            "tell me what {x} is made from.",
        ),
    ),
)

BACKCHANNELS = (
    "mm hmm",
    "okay",
    "right",
    "thank you",
    "yeah",
    "I see",
    "uh huh",
    "sure",
    "good",
    "yes",
    "oh",
    "got it",
    "all right",
    "thanks a lot",
    "oh okay",
    "very good",
    "oh really",
    "that is nice",
    "hmm",
    "great",
    "mm",
    "mhm",
    "yep",
    "yeah yeah",
    "uh huh uh huh",
    "exactly",
    "of course",
    "wow",
    "I know",
    "makes sense",
    "true",
    "really",
    "ah okay",
    "interesting",
    "right right",
    "fair enough",
    "huh",
    "no way",
    "cool",
    "go on",
)

ASIDES = (
    "hey mom, just a second",
    "put it on the table please",
    "I will be right back",
    "not now, I am on the phone",
    "come here, good boy",
    "yes honey, I am coming",
    "sorry, wrong button",
    "wait, somebody is at the door",
    "turn that music down",
    "dinner is almost ready, kids",
    "close the window please, dad",
    "I am talking to the computer",
    "honey, have you seen my keys",
    "no, not you, I mean the dog",
    "can you pass me the salt, Tom",
    "Anna, what time are you leaving",
    "one second, I have to answer this",
    "you two go ahead, I will follow",
    "did you lock the car, darling",
    "sit down, please, both of you",
    "yes please, with milk and no sugar, thank you",
    "excuse me, is this seat taken",
    "tell them I will call back later",
    "stop that, you are hurting your brother",
    "I will have the same as her",
    "not today, thank you, goodbye",
    "give it to your sister, sweetheart",
    "hold on, my phone is ringing",
    "are you hungry, my love",
    "hello Peter, nice to see you again",
    "do not touch that, it is hot",
    "that one is mine, yours is over there",
    "hey guys, keep it down a little",
    "I told him already, it is just the assistant",
    "leave it, I will clean up later",
    "two tickets, please",
    "let us go, we are late",
    "you look great in that coat",
)

NOISES = ("cough", "knock", "hum", "hiss", "click")  # made by data_prep.sources.noises
