"""What a prompt is about and how hard it reads, from the text alone, in any language.

    read_prompt("Prove that there are infinitely many primes.").task

Main entry: `read_prompt`. Signs of the text itself come first (code, formulas, numbers, structure, length), since they
are the same in every language; word stems of a dozen languages come second. `complexity` orders prompts; it is no
probability. Laws: deterministic, no text makes it raise; at most `LOOKED_AT` characters are read, about 150 us per KB.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache
from itertools import islice

from apikeyrouter.muxer.word_tables import split, table_of

__all__ = ["LOOKED_AT", "PromptReading", "Task", "read_prompt"]

LOOKED_AT = 3_072
"""Characters: the first half and the last half of these are read of a longer prompt. Instructions stand at its ends."""


class Task(StrEnum):
    """What is asked for. Chat: none of the others."""

    Code = "code"
    Maths = "maths"
    Reasoning = "reasoning"
    Extraction = "extraction"
    Translation = "translation"
    Chat = "chat"


@dataclass(frozen=True, slots=True)
class PromptReading:
    """`complexity`: 0..1, higher is harder. `signs`: what was seen, for explanations."""

    task: Task
    complexity: float
    signs: tuple[str, ...]


# By a character that prose seldom has: only where it stands are the longer signs looked for.
_CODE = {
    "`": ("```",), ";": ("();", ";\n"), "{": ("){", ") {"), ">": ("=>", "->"), "<": ("</",), "=": ("==",),
    "::": ("::",), " ": ("def ", "import ", "return ", "SELECT "), ":": ("Error:",),
}  # fmt: skip
_FORMULA = {
    "\\": ("\\frac", "\\sqrt", "\\sum"), "^": ("^2", "^n"), "=": (" = ",), "+": (" + ",), "*": (" * ",), "%": ("%",),
    "$": ("$",), "f(x)": ("f(x)",),
}  # fmt: skip
_SYMBOLS = ("∑", "∫", "√", "≤", "≥", "∈", "∀", "∃", "π", "²", "×")
_NUMBER = re.compile(r"\d+(?:[.,]\d+)*")
_EDGES = str.maketrans(dict.fromkeys(".,;:!?()[]{}<>\"'`*_#«»„“”‘’¿¡–—", " "))
_PLAIN_NUMBER = re.compile(r"[0-9]+(?:[.,][0-9]+)*")
_INNER = table_of(lambda letter: ord(letter) not in _EDGES and not letter.isspace())
_MANY_NUMBERS = 8
_STEP = re.compile(r"^\s*(?:\d+[.)]|[-*•]|\([a-z\d]\))\s", re.MULTILINE)
_WIDE = re.compile(r"[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af\u0e00-\u0e7f]")
"""Scripts without spaces between words, whose characters say as much as half a word each."""

# Stems, so that inflected forms count. Languages: en de fr es it pt nl pl ru tr ar hi, and below zh ja ko.
_STEMS: Mapping[Task, str] = {
    Task.Code: (
        "code coding program python javascript typescript kotlin sql regex script algorithm debug refactor compil "
        "implement stacktrace api docker kubernetes quellcode fonction développ código funci codice função функци "
        "программ код алгоритм yazılım الكود برمجة कोड"
    ),
    Task.Maths: (
        "math calcul comput equation solve integral derivativ probabil theorem proof prove geometr algebra percent "
        "berechn gleichung beweis löse wahrschein équation résou résoud démontr combien ecuaci resuelv demuestr "
        "cuánt equazion risolv dimostr quant equaç resolv oblicz równani udowodn вычисл уравнен решит докаж доказ "
        "сколько hesapla denklem kaç احسب معادلة हल गणना altogether"
    ),
    Task.Reasoning: (
        "why explain reason analy compar evaluat tradeoff strateg argue argument implication hypothes critiq "
        "design plan logic puzzle warum erklär begründ vergleich bewert abwäg entwirf pourquoi expliqu analys "
        "étape évalu explica analiz evalú diseñ perché spiega confront valut progett explique avali waarom uitleg "
        "dlaczego wyjaśn porówn почему объясн сравн проанализ обосну neden açıkla karşılaştır لماذا اشرح حلل क्यों "
        "समझा"
    ),
    Task.Extraction: (
        "extract summar classif categor label sentiment parse keyword zusammenfass zusammen extrahier klassifiz résum "
        "extrai resum clasific riassum estra classific samenvat streszcz wypisz извлек резюм суммир классифиц "
        "özetle çıkar لخص استخرج सारांश"
    ),
    Task.Translation: (
        "translat übersetz tradui traduc traduz tradurr traduç vertaal przetłumacz перевед перевод çevir ترجم अनुवाद"
    ),
}
_WIDE_STEMS: Mapping[Task, str] = {
    Task.Code: "代码 代碼 编程 編程 函数 函數 算法 プログラム コード 関数 코드 프로그램 함수",
    Task.Maths: "计算 計算 方程 证明 證明 多少 概率 解いて 証明 確率 계산 방정식 증명",
    Task.Reasoning: "为什么 為什麼 分析 解释 解釋 比较 比較 推理 设计 なぜ 説明 比べ 設計 왜 설명 비교 분석",
    Task.Extraction: "总结 總結 摘要 提取 分类 分類 要約 抽出 요약 추출 분류",
    Task.Translation: "翻译 翻譯 訳して 翻訳 번역",
}
_BY_BEGINNING: dict[str, list[tuple[str, Task]]] = {}
for _named, _listed in _STEMS.items():
    for _stem in _listed.split():
        _BY_BEGINNING.setdefault(_stem[:3], []).append((_stem, _named))
_EARLY_WORDS = 12
_HARD = frozenset({
    "complex", "complicated", "difficult", "advanced", "rigorous", "rigorously", "thorough", "komplex", "komplexe",
    "schwierig", "schwierige", "complexe", "difficile", "compleja", "complejo", "difícil", "complesso", "complexa",
    "сложный", "сложную", "сложная", "zor",
})  # fmt: skip
"""Words by which people themselves say that it is hard."""
_STEM_WORDS = 80
_FEW_WORDS = 5
_WEIGHT = {
    Task.Code: 0.22,
    Task.Maths: 0.30,
    Task.Reasoning: 0.26,
    Task.Extraction: 0.02,
    Task.Translation: 0.04,
    Task.Chat: 0.0,
}
"""What a task alone adds to the complexity. A judgement, not a measurement; `muxer calibrate` and feedback correct what
follows from it."""


def read_prompt(text: str) -> PromptReading:
    """The task and the complexity of a prompt."""
    shown = text if len(text) <= LOOKED_AT else f"{text[: LOOKED_AT // 2]}\n{text[-LOOKED_AT // 2 :]}"
    plain = shown.isascii()
    code, formulas = _signs_of(_CODE, shown), _signs_of(_FORMULA, shown)
    formulas += 0 if plain else sum(map(shown.count, _SYMBOLS))
    found_numbers = (_PLAIN_NUMBER if plain else _NUMBER).finditer(shown)
    numbers = len(list(islice(found_numbers, _MANY_NUMBERS)))
    steps = len(_STEP.findall(shown)) if "\n" in shown else _STEP.match(shown) is not None
    found = _words(shown)
    wide = 0 if plain else len(_WIDE.findall(shown))
    words = len(found) + wide // 2
    task = _task(shown, found, wide=wide, code=code, formulas=formulas, numbers=numbers)
    long_words = sum(map(len, found)) / len(found) if len(found) >= _FEW_WORDS and not wide else 0.0
    parts = {
        "length": 0.22 * _share(math.log2(1 + max(words, len(text) // 12)), 3.0, 10.0),
        "vocabulary": 0.14 * _share(long_words, 4.0, 7.5),
        "structure": 0.12 * _share(steps + shown.count("?") - 1, 0.0, 6.0),
        "numbers": 0.10 * _share(numbers, 1.0, _MANY_NUMBERS),
        "formulas": 0.12 * _share(formulas, 0.0, 5.0),
        "code": 0.10 * _share(code, 0.0, 8.0),
        "said to be hard": 0.0 if _HARD.isdisjoint(found) else 0.12,
        task.value: _WEIGHT[task],
    }
    signs = tuple(sign for sign, part in sorted(parts.items(), key=lambda one: -one[1]) if part >= 0.05)
    return PromptReading(task, min(1.0, sum(parts.values())), signs[:3])


def _signs_of(signs: Mapping[str, tuple[str, ...]], text: str) -> int:
    return sum([text.count(sign) for rare, longer in signs.items() if rare in text for sign in longer])


def _words(text: str) -> list[str]:
    """In small letters, without what stands at the edges of words."""
    found = split(text, _INNER)
    return text.lower().translate(_EDGES).split() if found is None else found


def _task(text: str, words: list[str], *, wide: int, code: int, formulas: int, numbers: int) -> Task:
    """Votes: signs of the text count more than stems, stems near the beginning more than later ones."""
    votes = dict.fromkeys(Task, 0.0)
    shown = words if len(words) <= 2 * _STEM_WORDS else words[:_STEM_WORDS] + words[-_STEM_WORDS:]
    for place, word in enumerate(shown):
        if word[:3] in _BY_BEGINNING:
            task = _asked_by(word)
            if task is not None and votes[task] < 1.0:
                votes[task] = 1.5 if place < _EARLY_WORDS else 1.0
    if wide:
        for task, stems in _WIDE_STEMS.items():
            if any(stem in text for stem in stems.split()):
                votes[task] = 1.25
    votes[Task.Translation] *= 1.6  # what is translated may be about anything
    votes[Task.Extraction] *= 1.2
    votes[Task.Code] += min(2.0, 0.5 * code)
    votes[Task.Maths] += min(1.5, 0.5 * formulas) + (0.9 if numbers >= 3 and len(words) < 150 and "?" in text else 0.0)
    best = max(votes, key=lambda task: votes[task])
    return best if votes[best] >= 0.9 else Task.Chat


@lru_cache(8_192)
def _asked_by(word: str) -> Task | None:
    """The task of the longest stem that the word begins with. Languages have few words that are used often."""
    best: tuple[int, Task] | None = None
    for stem, task in _BY_BEGINNING.get(word[:3], ()):
        if word.startswith(stem) and (best is None or len(stem) > best[0]):
            best = len(stem), task
    return None if best is None else best[1]


def _share(value: float, low: float, high: float) -> float:
    return min(1.0, max(0.0, (value - low) / (high - low)))
