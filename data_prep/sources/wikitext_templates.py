"""Renders the templates of a wiki that belong to the sentence around them.

  named("convert")(["704", "km", "mi"], {})  # "704 km"

A dump contains the call of a template, not its output. This table renders the
templates that only format a word, a number or a date. Notes, references and
remarks to editors show nothing in a sentence. The output of every other
template is unknown: a sentence with such a template has a hole.
"""

import re
from collections.abc import Callable, Mapping, Sequence

_Arguments = Sequence[str]
_Named = Mapping[str, str]
Template = Callable[[_Arguments, _Named], str]

BREAK = "\n\n"  # between paragraphs
_RAISED = str.maketrans("0123456789+-−=()n", "⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻⁻⁼⁽⁾ⁿ")
_LOWERED = str.maketrans("0123456789+-−=()", "₀₁₂₃₄₅₆₇₈₉₊₋₋₌₍₎")
_POWER = re.compile(r"[+−–-]?[\w.,/+−–-]*\d[\w.,/+−–-]*")


def raised(text: str) -> str:
  """Returns the text of a superscript: 6 as ⁶, 1.5 as ^1.5.

  Other text, such as the th of 19th, is returned unchanged.
  """
  if _all_in(text, _RAISED):
    return text.translate(_RAISED)
  return f"^{text}" if _POWER.fullmatch(text) else text


def lowered(text: str) -> str:
  """Returns the text of a subscript: the 2 of H2O as ₂.

  A text with other characters than digits, signs and parentheses is returned
  unchanged.
  """
  return text.translate(_LOWERED) if _all_in(text, _LOWERED) else text


def _all_in(text: str, table: Mapping[int, int]) -> bool:
  """Returns whether every character of a text is a key of a table.

  Args:
    text: the text.
    table: code point → code point.
  """
  return all(ord(letter) in table for letter in text)


_TEX = {
  r"\times": "×",
  r"\cdot": "·",
  r"\div": "÷",
  r"\pm": "±",
  r"\approx": "≈",
  r"\le": "≤",
  r"\leq": "≤",
  r"\ge": "≥",
  r"\geq": "≥",
  r"\ne": "≠",
  r"\neq": "≠",
  r"\pi": "π",
  r"\alpha": "α",
  r"\beta": "β",
  r"\gamma": "γ",
  r"\lambda": "λ",
  r"\mu": "μ",
  r"\circ": "°",
  r"\%": "%",
  r"\,": " ",
  r"\;": " ",
  r"\:": " ",
  r"\ ": " ",
  "{,}": ",",
}
_TEX_COMMAND = re.compile(r"\\(?:[A-Za-z]+|.)|\{,\}")
_TEX_TEXT = re.compile(r"\\(?:mathrm|mathit|mathbf|text|rm)\s*+\{([^{}]*)\}")
_TEX_SCRIPT = re.compile(r"([\^_])\s*+(?:\{([^{}]*)\}|(\S))")
_IN_A_LINE = re.compile(r"[\w\s.,:+−=<>()/%°·×÷±≈≤≥≠^⁺⁻⁼⁽⁾₊₋₌₍₎-]*")


def formula(tex: str) -> str:
  r"""Returns TeX in one line: 6{,}02 \times 10^{23} is 6,02 × 10²³.

  The result is "" for a formula with a command or a sign that is not known
  here, such as \frac.
  """
  text = _TEX_TEXT.sub(r"\1", tex)
  text = _TEX_COMMAND.sub(lambda match: _TEX.get(match[0], match[0]), text)
  text = _TEX_SCRIPT.sub(_tex_script, text)
  return text if _IN_A_LINE.fullmatch(text) else ""


def _tex_script(match: re.Match[str]) -> str:
  """Returns TeX's ^{…} or _{…} in raised or lowered characters.

  A script with other characters than these becomes ^(…) or _(…).
  """
  body = match[2] or match[3] or ""
  if body == "°":
    return body
  table = _RAISED if match[1] == "^" else _LOWERED
  if _all_in(body, table):
    return body.translate(table)
  return f"{match[1]}({body})" if len(body) > 1 else match[0]


_COUNT = re.compile(r"(?<=[A-Za-z)\]])\d+")
_CHARGE = re.compile(r"\^\{?(\d*[+−-])\}?")
_ION = re.compile(r"\d*[+−-]")


def molecule(text: str) -> str:
  """Returns 2H2O as 2H₂O, and SO4^2- as SO₄²⁻; "" if there is a TeX command."""
  text = _COUNT.sub(lambda match: lowered(match[0]), text)
  text = _CHARGE.sub(lambda match: raised(match[1]), text)
  return "" if "\\" in text else text


def _first(given: _Arguments, _named: _Named) -> str:
  """Renders a template as its first argument; "" without one."""
  return given[0] if given else ""


def _second(given: _Arguments, named: _Named) -> str:
  """Renders a template as its second argument, else its `text=`, else ""."""
  return given[1] if len(given) > 1 else named.get("text", "")


def _last(given: _Arguments, _named: _Named) -> str:
  """Renders a template as its last argument; "" without one."""
  return given[-1] if given else ""


def _transliterated(given: _Arguments, named: _Named) -> str:
  """Renders {{transl|mn|Улаанбаатар}} as Улаанбаатар; a language alone as ""."""
  return named.get("text") or ("" if len(given) < 2 else given[-1])


def _spaced(given: _Arguments, _named: _Named) -> str:
  """Renders a template as all its arguments with spaces between them."""
  return " ".join(given)


def _quotation(given: _Arguments, named: _Named) -> str:
  """Renders a quotation as a separate paragraph.

  The text is the argument `text=`, else `quote=`, else the first argument.
  """
  shown = named.get("text") or named.get("quote") or _first(given, named)
  return f"{BREAK}{shown}{BREAK}"


def _link_to_other_wiki(given: _Arguments, named: _Named) -> str:
  """Renders a link to another wiki as its argument `lt=`, else its first."""
  return named.get("lt") or _first(given, named)


def _date(given: _Arguments, _named: _Named) -> str:
  """Renders {{date|2020|5|3}} as 2020-05-03.

  Only the first three arguments count; fewer arguments give a shorter date. If
  an argument is not a number, the arguments are joined by spaces.
  """
  parts = [part.strip() for part in given[:3] if part.strip()]
  if not all(map(str.isdecimal, parts)):
    return " ".join(parts)
  return "-".join(part.zfill(2) for part in parts)


_JOINTS = {
  "-": "–",
  "–": "–",
  "to": "–",
  "до": "–",
  "+/-": "±",
  "±": "±",
  "and": " and ",
  "ба": " ба ",
  "or": " or ",
  "x": " × ",
  "×": " × ",
  "by": " × ",
}
_UNITS = {"c": "°C", "f": "°F", "sqkm": "km²", "sqm": "m²", "sqmi": "sq mi"}
_PARTS = {"mi": "yd", "yd": "ft", "ft": "in", "st": "lb", "lb": "oz"}
_UNIT_POWER = re.compile(r"(?<=[^\W\d])[23]$")


def _convert(given: _Arguments, _named: _Named) -> str:
  """Renders {{convert|5|to|10|km2|sqmi}} as 5–10 km², without converting it."""
  parts = [*(part.strip() for part in given), ""]
  shown: list[str] = []
  for place in range(0, len(parts) - 1, 2):
    number, joint = parts[place : place + 2]
    shown.append(number)
    if joint in _JOINTS:
      shown.append(_JOINTS[joint])
      continue
    shown.append(f" {_unit(joint)}".rstrip())
    # Behind 5 ft stands 10 in, or the unit to convert it to.
    if parts[place + 3 : place + 4] != [_PARTS.get(joint)]:
      break
    shown.append(" ")
  return "".join(shown)


def _unit(code: str) -> str:
  """Returns the sign of a unit's code: °C for C, km² for km2."""
  known = _UNITS.get(code.lower())
  return known or _UNIT_POWER.sub(lambda power: raised(power[0]), code)


def _fraction(given: _Arguments, _named: _Named) -> str:
  """Renders {{frac|2}} as ¹⁄₂, and {{frac|1|2|3}} as 1²⁄₃.

  Plain digits would show another number: 12/3.
  """
  if not given:
    return ""
  *whole, above, below = given if len(given) > 1 else ("1", given[0])
  if above.isdecimal() and below.isdecimal():
    return f"{''.join(whole)}{raised(above)}⁄{lowered(below)}"
  return " ".join((*whole, f"{above}/{below}"))


def _value(given: _Arguments, named: _Named) -> str:
  """Renders {{val|1.5|0.1|e=6|u=km}} as 1.5±0.1×10⁶ km."""
  shown, *more = given or ("",)
  if more and more[0] in _JOINTS:
    shown += _JOINTS[more[0]] + "".join(more[1:2])
  else:
    shown += "±" * (len(more) == 1) + "".join(more)
  if named.get("e"):
    shown += f"×10{raised(named['e'])}"
  unit = named.get("u") or named.get("ul") or named.get("up") or ""
  return f"{shown} {unit}".strip()


def _height(_given: _Arguments, named: _Named) -> str:
  """Renders {{height|m=1.80}} as 1.80 m."""
  units = ("m", "cm", "ft", "in")
  return " ".join(f"{named[unit]} {unit}" for unit in units if unit in named)


def _chem(given: _Arguments, _named: _Named) -> str:
  """Renders {{chem|SO|4|2-}} as SO₄²⁻, and {{chem2|2H2O}} as 2H₂O."""
  return "".join(map(_chem_part, given))


def _chem_part(part: str) -> str:
  """Returns an argument of {{chem}} as text: 4 as ₄, 2- as ²⁻, H2O as H₂O.

  Digits alone are a subscript, and a charge is a superscript. Any other text is
  a formula, which `molecule` renders.
  """
  if part.isdecimal():
    return lowered(part)
  return raised(part) if _ION.fullmatch(part) else molecule(part)


def _prefix(sign: str) -> Template:
  """Returns the function that renders a template as sign + first argument."""
  return lambda given, named: sign + _first(given, named)


def _sign(sign: str) -> Template:
  """Returns the function that renders a template as the given sign alone."""
  return lambda _given, _named: sign


def _under(names: str, template: Template) -> dict[str, Template]:
  """Returns name of a template → `template`, for names separated by commas."""
  return {name.strip(): template for name in names.split(",")}


# Name in lower case → rendering of the template, for every template whose
# content belongs to the sentence around it.
_TEMPLATES: dict[str, Template] = {
  **_under(
    "nowrap, nobr, nowrapped, small, smaller, big, bigger, large, larger, sc, "
    "smallcaps, strong, em, b, i, bold, italic, italics, nobold, noitalic, "
    "abbr, abbrlink, tooltip, tt, unicode, юникод, script, mongolian, "
    "mongolunicode, mongol, монгол бичиг, mn, sic, nihongo, korean, zh, "
    "linktext, visible anchor, vanchor, anchor text, angbr, nts, num, number, "
    "mvar, math, var, samp, kbd, code, sronly, railgauge, track gauge, bibleref, "
    "bibleverse, format price",
    _first,
  ),
  **_under("lang, langx, хэл, rtl-lang, script-text", _second),
  **_under("transl, transliteration", _transliterated),
  **_under(
    "color, colour, font color, font colour, "
    "fontcolor, font, background color, hover, resize, font size, size",
    _last,
  ),
  **_under("audio", _second),
  **_under("gaps", _spaced),
  **_under("oldstyledate", lambda given, _named: " ".join(given[:2])),
  **_under(
    "quote, quotation, cquote, blockquote, bquote, rquote, centered quote, "
    "цитат, ишлэл, эшлэл текст, цитата",
    _quotation,
  ),
  **_under(
    "ill, interlanguage link, interlanguage link multi, iw, link-interwiki",
    _link_to_other_wiki,
  ),
  **_under(
    "date, огноо, дата, dts, start date, end date, birth date, birth-date, "
    "birth date and age, birth-date and age, death date, death-date, "
    "death date and age, film date, start date and age, dob, dod, as of, "
    "төрсөн огноо, нас барсан огноо",
    _date,
  ),
  **_under("convert, cvt, хөрвүүлэх", _convert),
  **_under("frac, fraction, sfrac", _fraction),
  **_under("val", _value),
  **_under("height", _height),
  **_under("chem, chem2", _chem),
  **_under(
    "sup, superscript", lambda given, named: raised(_first(given, named))
  ),
  **_under(
    "sub, subscript", lambda given, named: lowered(_first(given, named))
  ),
  **_under("circa, c., ca.", _prefix("c. ")),
  **_under("e, esp", lambda given, named: f"×10{raised(_first(given, named))}"),
  **_under("hms", _prefix("HMS ")),
  **_under("uss", _prefix("USS ")),
  **_under("us$, usd", _prefix("US$")),
  **_under("€, euro, eur", _prefix("€")),
  **_under("£, gbp", _prefix("£")),
  **_under("¥, jpy, cny", _prefix("¥")),
  **_under("₮, mnt", _prefix("₮")),
  **_under("-, ndash, en dash, –", _sign("–")),
  **_under("spaced ndash, snd, spnd, sndash, spaced en dash", _sign(" – ")),
  **_under("mdash, em dash, mdashb, —", _sign("—")),
  **_under("spaced mdash, spaced em dash", _sign(" — ")),
  **_under(
    "br, break, nbsp, space, spaces, sp, thin space, thinsp, hair space",
    _sign(" "),
  ),
  **_under("·, dot, middot, •, bull, bullet", _sign(" · ")),
  **_under("deg, degree", _sign("°")),
  **_under("'", _sign("'")),
  **_under("'s", _sign("'s")),
  **_under("' \"", _sign("'\"")),
  **_under('-"', _sign('"')),
  **_under("eqm", _sign("⇌")),
  **_under("=", _sign("=")),
  **_under("!", _sign("|")),
}
_LANGUAGE_PREFIXES = ("lang-", "хэл-", "lang ")


def named(name: str) -> Template | None:
  """Returns the function that renders a template; None for an unknown one.

  The function takes the numbered and the named arguments; it returns the text.

  Args:
    name: in lower case, with spaces.
  """
  if name.startswith(_LANGUAGE_PREFIXES):
    return _first
  return _TEMPLATES.get(name)


# Notes, references, remarks to editors and to readers, by their names in lower
# case: their output is no part of the sentence.
_NOTHING = frozenset(
  name.strip()
  for name in """
  sfn, sfnp, sfnm, efn, efn-ua, efn-lr, refn, r, rp, ref, note,  ref label,
  note label, notetag, cref, cnote, reflist, notelist, refbegin, refend,
     citation needed, cn, fact, fact or opinion, clarify,
  when, who, by whom, according to whom, whom, why, which, where, vague, dubious,
  dubious inline, disputed, disputed inline, page needed, pn, full, better source, qualify evidence, inflation-fn,
  nowrap begin, nowrap end, better source needed, failed verification,
  verify source, unreliable source?, original research inline,  synthesis inline,
  specify, citation not found, full citation needed, dead link, webarchive, cbignore, update inline, update after, contradictory inline,
  primary source inline, non-primary source needed, disambiguation needed, dn,
  medcn, pov statement, pov-statement, weasel inline, peacock term,
  explain, example needed, jargon inline, expand section, section stub,
  anchor, anchors, shy, zwsp, zwnj, zwj, wbr,   clear, clr,
  portal, main, main article, see also, further, for, about, other uses,
  redirect, hatnote, distinguish, short description, use dmy dates, use mdy dates,
  use british english, use american english, good article, featured article,
  pp, pp-move, pp-vandalism, italic title, lowercase title, displaytitle,
  defaultsort, toc, toc limit, tocright, tocleft, commons, commons category, commonscat, wikisource,
  wiktionary, wikiquote, authority control,  refimprove,
  flag icon, flagicon, flagdeco, increase, decrease, steady,
  эх сурвалж хэрэгтэй, эх сурвалж, баталгаа, лавлагаа, тайлбар, зүүлт, зүүлт тайлбар,
  эшлэл хэрэгтэй, ишлэл хэрэгтэй, үндсэн, мөн үзэх,
  източник, нужен източник, факт, бележка, основна,
  нет аи, источник, уточнить, когда, кто, где, нет в источнике, основная статья
  """.split(",")
)
_NOTES = ("pp-", "use ", "update ")
_BOXES = (
  "infobox",
  "taxobox",
  "automatic taxobox",
  "speciesbox",
  "navbox",
  "sidebar",
  "инфобокс",
  "мэдээллийн хайрцаг",
  "хайрцаг",
  "картичка",
  "карточка",
)
_PRONUNCIATIONS = ("ipa", "audio", "respell", "pron", "монгол дуудлага")


def shows_nothing(name: str) -> bool:
  """Returns whether a template shows nothing in a sentence.

  Args:
    name: the name of the template, in lower case.
  """
  return name in _NOTHING or name.startswith(_NOTES)


def is_box(name: str) -> bool:
  """Returns whether a template is a box beside the text.

  Args:
    name: the name of the template, in lower case.
  """
  return name.startswith(_BOXES)


def is_pronunciation(name: str) -> bool:
  """Returns whether a template shows how a word is pronounced.

  Args:
    name: the name of the template, in lower case.
  """
  return name.startswith(_PRONUNCIATIONS)
