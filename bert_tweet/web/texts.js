// What the pages say, in Mongolian and English, and who chooses.

const TEXTS = {
  mn: {
    otherLanguage: "English",
    title: "Загвар юу гэж бодох вэ?",
    lead: "Өгүүлбэр бичээд аль ангилалд хамаарахыг, загвар аль үгийг харсныг үзээрэй.",
    titleMasks: "Ямар үг дутуу вэ?",
    leadMasks: "Дутуу үгийн оронд [MASK] гэж бичээд, загвар ямар үг санал болгохыг үзээрэй.",
    predictMasks: "Нөхөх",
    noMask: "Дутуу үгийн оронд [MASK] гэж бичнэ үү.",
    filled: "Үгсийг доор харуулав.",
    mask: (n) => `${n}-р [MASK]`,
    words: "Үг",
    pieces: "Хэсэг (токен)",
    textLabel: "Текстээ бичих эсвэл буулгана уу",
    predict: "Таамаглах",
    shortcut: "эсвэл Ctrl + Enter",
    examples: "Жишээ",
    answer: "Хариу",
    moreLabels: (n) => `мөн ${n} ангилал`,
    working: "Тооцоолж байна…",
    looking: "Загвар юуг харсныг тооцоолж байна…",
    answered: (label, share) => `${label}: ${share}`,
    empty: "Эхлээд текстээ бичнэ үү.",
    down: "Сервер хариу өгөхгүй байна. Таны текст хэвээр үлдэнэ; сервер сэргэмэгц дахин илгээнэ.",
    back: "Сервер сэргэлээ.",
    busy: "Сервер ачаалалтай байна. Түр хүлээгээд дахин оролдоно уу.",
    tooLong: "Текст хэт урт байна.",
    failed: (reason) => `Алдаа гарлаа: ${reason}`,
    fileTitle: "Загвар юуг харсан бэ?",
    spoke: (label) => `“${label}” гэсэн хариунд аль үг нөлөөлсөн бэ?`,
    forIt: "дэмжсэн",
    againstIt: "эсэргүүцсэн",
    howCounted: "Хэрхэн тооцсон бэ?",
    method: (a) =>
      "Интегралчилсан градиент: хэсэг бүр уг ангиллын лог-магадлалын " +
      "харьцаанд хэдийг нэмснийг заана. Суурь нь бүх хэсгийг нь [MASK]-аар " +
      `сольсон мөн л энэ текст. Суурийн оноо ${a.baselineScore}, текстийн ` +
      `оноо ${a.score}; нийлбэр нь ялгавраас ${a.missed}-аар зөрнө ` +
      `(${a.points} цэг).`,
    part: "Хэсэг",
    adds: "Нэмсэн",
    grams: "Үг ба үгийн хэсгүүд (TF-IDF)",
    gramsHint: (sum) =>
      "Хариуг сүлжээтэй хамт TF-IDF-ийн шугаман загвар өгдөг. Түүний мэдэх үг, " +
      "үгийн хос, үгийн хэсэг бүр ангиллын лог-магадлалын харьцаанд хэдийг " +
      `нэмснийг доор харуулав; бүгд нийлээд ${sum}. “_” нь үгийн зах.`,
    gram: "Үг буюу хэсэг",
    attention: "Анхаарал",
    overview: "Бүх давхарга, бүх толгой",
    overviewHint: "Нэгийг нь сонгоно уу. Мөр нь давхарга, багана нь толгой; сум товчоор шилжинэ.",
    layer: "Давхарга",
    head: "Толгой",
    place: (layer, head) => `${layer}-р давхарга, ${head}-р толгой`,
    direction: "Чиглэл",
    from: "сонгосон нь юуг харсан",
    to: "сонгосныг аль нь харсан",
    shownAs: "Харагдац",
    lines: "шугам",
    text: "текст",
    join: "хэсгүүдийг үг болгож нэгтгэх",
    choose: "Анхаарлыг нь харах үгээ сонгоно уу (Esc: болих).",
    looksAt: (word) => `“${word}” юуг харсан бэ`,
    seenBy: (word) => `“${word}”-г аль нь харсан бэ`,
    readers: "харсан",
    read: "харагдсан",
    strongest: (n) => `Хамгийн хүчтэй ${n} шугамыг зурав.`,
    rounded: "Тоог мөрийнхөө хамгийн их утгын 1/255 хүртэл бөөрөнхийлсөн.",
    kept: (n, share) => `Мөр бүрийн хамгийн их ${n} утга бий: нийт анхаарлын ${share}.`,
    cut: (n) => `Загварт багтаагүй ${n} хэсгийг уншаагүй.`,
    windows: (n) =>
      `Загвар энэ текстийг ${n} цонхоор уншдаг. Энд эхнийх нь: таамаглал бол бүгдийн дундаж.`,
    noStream: "Энэ хөтөч хэт хуучин тул анхаарлыг задалж чадсангүй.",
  },
  en: {
    otherLanguage: "Монгол",
    title: "What does the model think?",
    lead: "Type a sentence; see which label it resembles, and which words the model looked at.",
    titleMasks: "Which word is missing?",
    leadMasks: "Type [MASK] in the place of a missing word; see which words the model proposes.",
    predictMasks: "Fill",
    noMask: "Type [MASK] in the place of the missing word.",
    filled: "The words are below.",
    mask: (n) => `[MASK] ${n}`,
    words: "Words",
    pieces: "Pieces",
    textLabel: "Type or paste a text",
    predict: "Predict",
    shortcut: "or Ctrl + Enter",
    examples: "Examples",
    answer: "Answer",
    moreLabels: (n) => `and ${n} more labels`,
    working: "Working…",
    looking: "Finding out what the model looked at…",
    answered: (label, share) => `${label}: ${share}`,
    empty: "Type a text first.",
    down: "The server does not answer. Your text stays here, and is sent again as soon as the server is back.",
    back: "The server is back.",
    busy: "The server is busy. Try again in a moment.",
    tooLong: "The text is too long.",
    failed: (reason) => `Something went wrong: ${reason}`,
    fileTitle: "What did the model look at?",
    spoke: (label) => `Which words spoke for “${label}”?`,
    forIt: "for it",
    againstIt: "against it",
    howCounted: "How is this counted?",
    method: (a) =>
      "Integrated gradients: what each piece adds to the log-odds of the " +
      "label. The baseline is the same text with [MASK] in the place of " +
      `each piece. It scores ${a.baselineScore}, the text ${a.score}; the ` +
      `parts miss the difference by ${a.missed} (${a.points} points).`,
    part: "Piece",
    adds: "Adds",
    grams: "Words and parts of words (TF-IDF)",
    gramsHint: (sum) =>
      "Beside the network a linear model of TF-IDF answers. Each word, pair of " +
      "words and part of a word that it knows adds to the log-odds of the label; " +
      `all together ${sum}. “_” is the end of a word.`,
    gram: "Word or part",
    attention: "Attention",
    overview: "All layers, all heads",
    overviewHint: "Choose one. Rows are layers, columns are heads; arrow keys move.",
    layer: "Layer",
    head: "Head",
    place: (layer, head) => `Layer ${layer}, head ${head}`,
    direction: "Direction",
    from: "what the chosen one looks at",
    to: "what looks at the chosen one",
    shownAs: "Shown as",
    lines: "lines",
    text: "text",
    join: "join pieces to words",
    choose: "Choose a word to see its attention (Esc: none).",
    looksAt: (word) => `“${word}” looks at`,
    seenBy: (word) => `Looking at “${word}”`,
    readers: "from",
    read: "to",
    strongest: (n) => `The ${n} strongest lines are drawn.`,
    rounded: "Numbers are rounded to 1/255 of the largest of their row.",
    kept: (n, share) => `Of each row the ${n} largest are here: ${share} of the attention.`,
    cut: (n) => `${n} pieces for which the model has no room were not read.`,
    windows: (n) =>
      `The model reads this text in ${n} windows. This is the first: a prediction is the mean of all.`,
    noStream: "This browser is too old to unpack the attention.",
  },
};

const LANGUAGE_KEY = "language";

/** The language in use, and who wants to know when it changes. */
const language = {
  code: "mn",
  listeners: [],

  start() {
    let chosen = location.hash.slice(1);
    try {
      chosen = chosen || localStorage.getItem(LANGUAGE_KEY);
    } catch {
      // A page opened from a file may have no storage.
    }
    this.set(chosen in TEXTS ? chosen : "mn");
    document.getElementById("language").addEventListener("click", () => {
      this.set(this.code === "mn" ? "en" : "mn");
      try {
        localStorage.setItem(LANGUAGE_KEY, this.code);
      } catch {
        // It is chosen for this visit, then.
      }
    });
  },

  set(code) {
    this.code = code;
    document.documentElement.lang = code;
    for (const node of document.querySelectorAll("[data-text]")) {
      node.textContent = said(node.dataset.text);
    }
    const button = document.getElementById("language");
    button.textContent = said("otherLanguage");
    button.lang = code === "mn" ? "en" : "mn";
    document.title = document.querySelector("h1").textContent;
    for (const listener of this.listeners) listener();
  },
};

/** Says a text in the language in use. */
function said(key, ...values) {
  const text = TEXTS[language.code][key];
  return typeof text === "function" ? text(...values) : text;
}

/** Writes a share of 1 in percent, as exactly as it is known. */
function percent(share) {
  const value = 100 * share;
  return `${value.toFixed(value > 99.9 && value < 100 ? 2 : 1)} %`;
}

/** Makes an element. Texts become text nodes, whatever they hold. */
function element(tag, attributes = {}, ...children) {
  const made = tag.startsWith("svg:")
    ? document.createElementNS("http://www.w3.org/2000/svg", tag.slice(4))
    : document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else if (value !== null && value !== false) made.setAttribute(name, value);
  }
  made.append(...children);
  return made;
}
