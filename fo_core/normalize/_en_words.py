"""Words of the English rules: months, coins, units, abbreviations, signs."""

from __future__ import annotations

_NAMES = (
    "January February March April May June July August September October November December"
).split()
MONTHS = {name: name for name in _NAMES} | {n[:3]: n for n in _NAMES} | {"Sept": "September"}
COINS = {
    "$": ("dollar", "dollars"),
    "€": ("euro", "euros"),
    "£": ("pound", "pounds"),
    "¥": ("yen", "yen"),
    "₹": ("rupee", "rupees"),
}
PER = {  # what may follow a price or a measure and a stroke, beside the units
    "hour": "hour", "day": "day", "d": "day", "week": "week", "wk": "week", "month": "month",
    "mo": "month", "mth": "month", "year": "year", "yr": "year", "annum": "year",
    "night": "night", "person": "person", "user": "user", "seat": "seat", "piece": "piece",
    "pc": "piece", "unit": "unit", "item": "item", "sq ft": "square foot", "mile": "mile",
}  # fmt: skip
PLACES = (  # a number and a letter after one of these is a name
    "gate seat row room flat apt apartment unit suite platform section terminal door exit bus line "
    "track figure fig table chapter question exercise building hall stand pier highway grade class "
    "model version type zone block floor bay berth aisle"
).split()
CENTS = {"$": ("cent", "cents"), "€": ("cent", "cents"), "£": ("penny", "pence")}
MAGNITUDES = {
    "thousand": "thousand",
    "million": "million",
    "billion": "billion",
    "trillion": "trillion",
    "bn": "billion",
    "k": "thousand",
    "m": "million",
    "b": "billion",
}
DECADES = {
    "1": "tens",
    "2": "twenties",
    "3": "thirties",
    "4": "forties",
    "5": "fifties",
    "6": "sixties",
    "7": "seventies",
    "8": "eighties",
    "9": "nineties",
}
FRACTIONS = {
    "2": ("half", "halves"),
    "3": ("third", "thirds"),
    "4": ("quarter", "quarters"),
    "5": ("fifth", "fifths"),
    "6": ("sixth", "sixths"),
    "7": ("seventh", "sevenths"),
    "8": ("eighth", "eighths"),
    "9": ("ninth", "ninths"),
    "10": ("tenth", "tenths"),
    "16": ("sixteenth", "sixteenths"),
    "100": ("hundredth", "hundredths"),
}


def _regular(*names: str) -> dict[str, tuple[str, str]]:
    """ "km kilometer" -> {"km": ("kilometer", "kilometers")}."""
    pairs = (name.split(maxsplit=1) for name in names)
    return {short: (one, f"{one}s") for short, one in pairs}


UNITS = {
    **_regular(
        "km kilometer", "m meter", "cm centimeter", "mm millimeter", "mi mile", "yd yard",
        "kg kilogram", "g gram", "mg milligram", "lb pound", "lbs pound", "oz ounce",
        "L liter", "l liter", "mL milliliter", "ml milliliter", "gal gallon",
        "h hour", "hr hour", "hrs hour", "min minute", "mins minute", "s second", "sec second",
        "ms millisecond", "B byte", "KB kilobyte", "kB kilobyte", "MB megabyte", "GB gigabyte",
        "TB terabyte", "kW kilowatt", "MW megawatt", "W watt", "V volt",
        "kWh kilowatt hour", "kcal kilocalorie", "cal calorie", "dB decibel", "px pixel",
        "km² square kilometer", "m² square meter", "m³ cubic meter", "km2 square kilometer",
        "m2 square meter", "USD dollar", "EUR euro", "GBP pound", "° degree",
    ),
    "kbps": ("kilobit a second", "kilobits a second"),
    "Mbps": ("megabit a second", "megabits a second"),
    "Gbps": ("gigabit a second", "gigabits a second"),
    "¢": ("cent", "cents"),
    "€": ("euro", "euros"),
    "£": ("pound", "pounds"),
    "ft": ("foot", "feet"),
    "Hz": ("hertz", "hertz"),
    "kHz": ("kilohertz", "kilohertz"),
    "MHz": ("megahertz", "megahertz"),
    "GHz": ("gigahertz", "gigahertz"),
    "mph": ("mile an hour", "miles an hour"),
    "km/h": ("kilometer an hour", "kilometers an hour"),
    "kph": ("kilometer an hour", "kilometers an hour"),
    "m/s": ("meter a second", "meters a second"),
    "°C": ("degree Celsius", "degrees Celsius"),
    "°F": ("degree Fahrenheit", "degrees Fahrenheit"),
    "%": ("percent", "percent"),
    "‰": ("per mille", "per mille"),
}  # fmt: skip
SHORT = {
    "e.g.": "for example",
    "i.e.": "that is",
    "etc.": "and so on",
    "vs.": "versus",
    "vs": "versus",
    "Dr.": "Doctor",
    "Mr.": "Mister",
    "Mrs.": "Missus",
    "Ms.": "Miz",
    "Prof.": "Professor",
    "Jr.": "Junior",
    "Sr.": "Senior",
    "St.": "Saint",
    "approx.": "approximately",
    "dept.": "department",
    "and/or": "and or",
    "w/o": "without",
    "w/": "with ",
    "U.S.A.": "U S A",
    "U.S.": "U S",
    "U.K.": "U K",
    "Ph.D.": "P H D",
}
SYMBOLS = {
    "&": "and",
    "+": "plus",
    "≠": "is not equal to",
    "≥": "is at least",
    "≤": "is at most",
    "≈": "is about",
    "=": "equals",
    "@": "at",
    "×": "times",
    "÷": "divided by",
    "±": "plus or minus",
    "°": "degrees",
    "%": "percent",
    "√": "the square root of",
    "∞": "infinity",
    "→": ",",
    "©": "copyright",
    "€": "euros",
    "£": "pounds",
    " > ": "is greater than",
    " < ": "is less than",
}
ROYAL = frozenset(
    "Louis Henry Charles George Elizabeth Edward James William Richard Philip Napoleon Nicholas "
    "Catherine Alexander Frederick Pius Benedict".split()
)
_NUMERALS = "I II III IV V VI VII VIII IX X XI XII XIII XIV XV XVI XVII XVIII XIX XX".split()
ROMANS = {numeral: value for value, numeral in enumerate(_NUMERALS, 1)}
