"""Identifies the language of a text by its letters and its small words.

  identify("Тэр өнөөдөр ирж байна гэж хэлсэн юм.")  # "mn"

Text of a legacy font (є ї ѳ v for ө ү) counts as Mongolian. The result for a
text that is too short is "unknown"; such a text should not be dropped.
"""

import re

# The commonest small words, from common knowledge of each language, without
# those that are other words in Mongolian (та, он, ар, бар). Words that two of
# the languages share are left out below.
_WORDS = {
  "mn": "нь юм байна гэж энэ тэр болон байсан байв гэсэн ба хэмээн хүн дээр ч "
  "бол бөгөөд бєгєєд бvгд бүх түүний би чи бид тэд олон нэг хоёр байгаа болсон "
  "байдаг хийх ямар юу шүү дэх доор гарч ирж үед гэх тул уу үү мөн өөр",
  "ru": "и в на не что с как это по из у за от она они был была было для "
  "или его но к мы вы же бы только так все при также который может",
  "uk": "і що не на як це з до від він вона вони був була було для або його "
  "але ми ви які також який може й у є цей більше про при між",
  "bg": "и в на не че с като това по от за той тя те беше са се да или но към "
  "ние вие който може също през ще си му го",
  "kk": "және мен бұл бір үшін деп жоқ болды болып осы сол ең "
  "еді екен керек туралы кейін қазақ арқылы сияқты әр",
  "ky": "жана менен бул бир үчүн деп жок болгон болуп ошол эң "
  "эле керек жөнүндө кийин кыргыз аркылуу сыяктуу анын",
  "tt": "һәм белән бу бер өчен дип дә юк булган булып шул иң иде "
  "кирәк турында соң татар аша кебек һәр аның",
  "bxr": "һэн байһан гү болохо юм бэ хадаа тиигээд тэрэ энэ хүнүүд байна "
  "буряад олон үгы үдэр мүнөө һайн шэнэ боложо",
}
_TELLING = {name: frozenset(words.split()) for name, words in _WORDS.items()}
_SHARED = {
  word
  for words in _TELLING.values()
  for word in words
  if sum(word in listed for listed in _TELLING.values()) > 1
}
_LANGUAGE_OF = {
  word: name for name, words in _TELLING.items() for word in words - _SHARED
}

_WORD = re.compile(r"[^\W\d_]+")
CYRILLIC = re.compile(r"[\u0400-\u052f]")
_NOT_CYRILLIC = re.compile(r"[^\u0400-\u052f]")
LETTER = re.compile(r"[^\W\d_]")
# Not in Mongolian, and not what a legacy font shows for ө or ү.
FOREIGN = re.compile(r"[әғқңұһіґћђљњџўәҗӘҒҚҢҰҺІҐЋЂЉЊЏЎҖ]")
# ө, ү and the letters of legacy fonts for them; and Mongolian's double vowels.
_OURS = ("ө", "ү", "є", "ї", "ѳ", "v", "аа", "ээ", "оо", "уу")
MONGOLIAN = re.compile(r"[өүєїѳӨҮЄЇѲ]|аа|ээ|оо|уу|v", re.IGNORECASE)
# UTF-8 or CP1251 read as Latin-1 or CP1252. Nearly all texts have no such letter at
# all, which is seen four times as fast.
_MOJIBAKE_LETTER = re.compile("[À-ÿ]")
_MOJIBAKE = re.compile(r"[ÐÑÒÓ][\u0080-\u00bf‚-™]|[À-ÿ]{4}")

_FEWEST_LETTERS = 60  # guess: below, a line may be a name or a title


def identify(text: str, fewest_letters: int = _FEWEST_LETTERS) -> str:
  """Returns the code of a text's language, or another word about the text.

  Args:
    text: the text.
    fewest_letters: a text of fewer letters is "unknown".

  Returns:
    mn, ru, uk, bg, kk, ky, tt or bxr (Buryat); "other" for Cyrillic text in
      another language, with letters that Mongolian does not have; "latin" if
      fewer than half of the letters are Cyrillic and some are from a to z;
      "mojibake" for wrongly decoded text; "unknown" for a text that is too
      short, in another script, or without evidence.
  """
  # A letter is a letter in lower case too. Runs of letters are found several times as
  # fast as single letters.
  lower = text.lower()
  words = _WORD.findall(lower)
  only_letters = "".join(words)
  letters = len(only_letters)
  if letters < fewest_letters:
    return "unknown"
  if _MOJIBAKE_LETTER.search(text) and (
    4 * len(_MOJIBAKE.findall(text)) > 0.2 * letters
  ):
    return "mojibake"
  cyrillic = letters - len(_NOT_CYRILLIC.findall(only_letters))
  if cyrillic < 0.5 * letters:
    return "latin" if re.search("[a-zA-Z]", text) else "unknown"
  hits = dict.fromkeys(_TELLING, 0)
  for name in filter(None, map(_LANGUAGE_OF.get, words)):
    hits[name] += 1
  best = max(hits, key=lambda name: (hits[name], name == "mn"))
  foreign = len(FOREIGN.findall(lower)) > 0.01 * cyrillic
  mongolian = sum(map(lower.count, _OURS)) > 0.03 * cyrillic
  if foreign:
    return best if best != "mn" else "other"
  if mongolian:
    # Kyrgyz text without a ң differs from Mongolian by its small words alone.
    is_other_language = hits[best] >= 2 and hits[best] > 2 * hits["mn"]
    return best if is_other_language else "mn"
  return best if best != "mn" and hits[best] >= 2 else "unknown"
