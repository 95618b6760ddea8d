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
            India: New Delhi, Delhi
            Poland: Warsaw
            Portugal: Lisbon
            Austria: Vienna
            Sweden: Stockholm
            Norway: Oslo
            Ireland: Dublin
            Cuba: Havana
            Peru: Lima
        """),
        (
            "what is the capital of {x}?",
            "tell me the capital of {x}.",
            "which city is the capital of {x}?",
            "do you know the capital of {x}?",
            "can you tell me the capital of {x}?",
            "please tell me the capital of {x}.",
            "what city is the capital of {x}?",
            "name the capital of {x}.",
            "please name the capital of {x}.",
            "what is the name of the capital of {x}?",
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
        """),
        (
            "what is the opposite of {x}?",
            "tell me the opposite of {x}.",
            "what word is the opposite of {x}?",
            "do you know the opposite of {x}?",
            "can you tell me the opposite of {x}?",
            "please tell me the opposite of {x}.",
            "which word is the opposite of {x}?",
            "name the opposite of {x}.",
            "please name the opposite of {x}.",
        ),
    ),
    Category(
        "color",
        _facts("""
            grass: green
            the sky: blue
            snow: white
            blood: red
            a banana: yellow
            coal: black
            milk: white
            the sun: yellow
            a lemon: yellow
            a tomato: red
            a carrot: orange
            the ocean: blue
            chocolate: brown
            a frog: green
        """),
        (
            "what color is {x}?",
            "tell me the color of {x}.",
            "what is the color of {x}?",
            "do you know the color of {x}?",
            "can you tell me what color {x} is?",
            "please tell me the color of {x}.",
            "which color is {x}?",
            "name the color of {x}.",
            "can you tell me the color of {x}?",
        ),
    ),
    Category(
        "young",
        _facts("""
            dog: puppy, pup
            cat: kitten
            cow: calf
            horse: foal, colt
            sheep: lamb
            duck: duckling
            lion: cub
            bear: cub
            chicken: chick
            goat: kid
            deer: fawn
            pig: piglet
            kangaroo: joey
            frog: tadpole
        """),
        (
            "what is a baby {x} called?",
            "tell me what a baby {x} is called.",
            "what do you call a baby {x}?",
            "do you know what a baby {x} is called?",
            "can you tell me what a baby {x} is called?",
            "please tell me what a baby {x} is called.",
            "what is the name of a baby {x}?",
            "what is the word for a baby {x}?",
            "what is the name for a baby {x}?",
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
            football: sport, game
            a dog: animal, mammal, pet
            an ant: insect
            gold: metal
            a snake: reptile, animal
            a shirt: clothing, clothes
            a chair: furniture
            a potato: vegetable, food
            a car: vehicle
            the moon: satellite
            the earth: planet
        """),
        (
            "what kind of thing is {x}?",
            "tell me what kind of thing {x} is.",
            "what type of thing is {x}?",
            "do you know what kind of thing {x} is?",
            "can you tell me what kind of thing {x} is?",
            "please tell me what kind of thing {x} is.",
            "which kind of thing is {x}?",
            "please tell me what type of thing {x} is.",
            "can you tell me what type of thing {x} is?",
        ),
    ),
    Category(
        "job",
        _facts("""
            flies a plane: pilot
            helps sick people: doctor, nurse
            bakes bread: baker
            teaches children: teacher
            fights fires: firefighter, fire fighter, fireman
            cuts hair: barber, hairdresser, hair stylist
            catches fish: fisherman, fisher, angler
            grows food: farmer
            fixes teeth: dentist
            paints pictures: painter, artist
            writes books: author, writer
            cooks food: chef, cook
            drives a bus: driver
            takes pictures: photographer
        """),
        (
            "who {x}?",
            "tell me who {x}.",
            "what do you call a person who {x}?",
            "do you know who {x}?",
            "can you tell me who {x}?",
            "please tell me who {x}.",
            "what is a person called who {x}?",
            "what is the name for a person who {x}?",
            "what is the word for a person who {x}?",
        ),
    ),
    Category(
        "tool",
        _facts("""
            cut paper: scissors
            write a letter: pen, pencil
            tell the time: clock, watch
            open a lock: key
            dig a hole: shovel, spade
            sweep the floor: broom
            brush your teeth: toothbrush, brush
            eat soup: spoon
            hit a nail: hammer
            stay dry in the rain: umbrella, raincoat
            cut bread: knife
            look at the stars: telescope
            wash your hands: soap, water
            call a friend: phone, telephone
        """),
        (
            "what do you use to {x}?",
            "tell me what you use to {x}.",
            "what do people use to {x}?",
            "do you know what people use to {x}?",
            "can you tell me what people use to {x}?",
            "please tell me what people use to {x}.",
            "what thing do you use to {x}?",
            "what can you use to {x}?",
            "what do you need to {x}?",
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
            Poland: Polish
            Mexico: Spanish
        """),
        (
            "what language do people speak in {x}?",
            "tell me the language of {x}.",
            "which language do people speak in {x}?",
            "do you know the language of {x}?",
            "can you tell me the language of {x}?",
            "please tell me the language of {x}.",
            "what is the language of {x}?",
            "what language is spoken in {x}?",
            "name the language of {x}.",
        ),
    ),
    Category(
        "number",
        _facts("""
            days are in a week: seven, 7
            months are in a year: twelve, 12
            hours are in a day: twenty four, twenty-four, 24
            minutes are in an hour: sixty, 60
            legs are on a spider: eight, 8
            wheels are on a car: four, 4
            wheels are on a bicycle: two, 2
            sides are on a triangle: three, 3
            sides are on a square: four, 4
            legs are on a horse: four, 4
            letters are in the alphabet: twenty six, twenty-six, 26
            fingers are on a hand: five, 5
            eggs are in a dozen: twelve, 12
            days are in a year: 365, three hundred sixty five
        """),
        (
            "how many {x}?",
            "tell me how many {x}.",
            "do you know how many {x}?",
            "can you tell me how many {x}?",
            "please tell me how many {x}.",
            "please tell me, how many {x}?",
            "can you say how many {x}?",
            "please say how many {x}.",
            "tell me please, how many {x}?",
        ),
    ),
    Category(
        "continent",
        _facts("""
            France: Europe
            China: Asia
            Egypt: Africa
            Brazil: South America
            Canada: North America, America
            Japan: Asia
            Kenya: Africa
            Spain: Europe
            India: Asia
            Mexico: North America, America
            Peru: South America
            Germany: Europe
        """),
        (
            "what continent is {x} in?",
            "tell me the continent of {x}.",
            "which continent is {x} in?",
            "do you know what continent {x} is in?",
            "can you tell me what continent {x} is in?",
            "please tell me what continent {x} is in.",
            "on which continent is {x}?",
            "on what continent is {x}?",
            "please tell me the continent of {x}.",
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
)

NOISES = ("cough", "knock", "hum", "hiss", "click")  # made by data_prep.noises
