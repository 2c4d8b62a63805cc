"""Units at the end of answers, each with one name: `cm`, `centimeters` and `\\mathrm{cm}` are the same."""

import re

_WRITTEN = {
    "mm": "mm millimeter millimetre",
    "cm": "cm centimeter centimetre",
    "m": "m meter metre",
    "km": "km kilometer kilometre",
    "in": "inch inche",
    "ft": "ft foot feet",
    "yd": "yd yard",
    "mi": "mi mile",
    "mg": "mg milligram",
    "g": "g gm gram",
    "kg": "kg kilogram",
    "lb": "lb pound",
    "oz": "oz ounce",
    "t": "ton tonne",
    "ml": "ml milliliter millilitre",
    "l": "l liter litre",
    "gal": "gal gallon",
    "s": "s sec second",
    "min": "min minute",
    "h": "h hr hour",
    "day": "day",
    "week": "week",
    "month": "month",
    "year": "year yr",
    "dollar": "dollar usd bucks buck",
    "cent": "cent",
    "euro": "euro eur",
    "pound sterling": "gbp",
    "degree": "degree",
    "radian": "radian rad",
    "acre": "acre",
    "hectare": "hectare ha",
    "cup": "cup",
    "pint": "pint pt",
    "quart": "quart qt",
    "decade": "decade",
    "century": "century centurie",
    "fortnight": "fortnight",
    "nickel": "nickel",
    "dime": "dime",
    "penny": "penny pennie",
    "yen": "yen jpy",
    "yuan": "yuan rmb cny",
    "rupee": "rupee inr",
    "bit": "bit",
    "byte": "byte",
    "mol": "mol mole",
    "mmol": "mmol",
    "erg": "erg",
    "J": "j joule",
    "eV": "ev",
    "keV": "kev",
    "bar": "bar",
    "mbar": "mbar",
    "atm": "atm",
    "torr": "torr",
    "pc": "pc parsec",
    "kpc": "kpc kiloparsec",
    "revolution": "revolution rev",
    "mi/h": "mph",
    "km/h": "kph",
}
_NAMES = {word: name for name, words in _WRITTEN.items() for word in words.split()}
_POWERS = {"square": 2, "sq": 2, "cubic": 3, "cu": 3}
# White space is matched only from its beginning: starting at each position would take quadratic time.
_PER = re.compile(r"(?:(?<!\s)\s++)?/\s*|(?<!\s)\s++(?:per|an?|each)\s+")
_POWER = re.compile(r"\^\s*\{?([23])\}?$")
_WORD = re.compile(r"[A-Za-z]+")


def unit_name(written: str) -> str | None:
    """Return the name of a unit written in plain text (`square feet`, `km/h`, `dollars per day`); None if unknown."""
    parts = [_single(part) for part in _PER.split(written.strip(" .,").lower())]
    return None if None in parts else "/".join(part for part in parts if part)


def _single(written: str) -> str | None:
    power = 1
    if found := _POWER.search(written):
        power, written = int(found[1]), written[: found.start()]
    words = _WORD.findall(written)
    if len(words) == 2 and words[0] in _POWERS:
        power, words = _POWERS[words[0]], words[1:]
    if len(words) != 1:
        return None
    name = _NAMES.get(words[0]) or _NAMES.get(words[0].removesuffix("s"))
    return name if name is None or power == 1 else f"{name}^{power}"
