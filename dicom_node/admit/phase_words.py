"""The words for contrast phases, by language: the one table that `phase_text` reads (C4).

Words in letters are matched as whole tokens, in lower case and without accents (`\\w*` stands for any ending): `venös`
is `venos`, й is и. Chinese, Japanese and Korean put no blanks between words: theirs are matched wherever they stand,
and are long enough not to be part of another word.
"""

from __future__ import annotations

from collections.abc import Mapping

from dicom_node.values.phase import Phase

WORDS: Mapping[Phase, tuple[str, ...]] = {
    Phase.VENOUS: (
        # In most languages, and as abbreviations.
        *("portal", r"portal\w*", r"porto\w*", "ven", r"venos\w*", r"venoes\w*", "venous", "pv", "pvp", "pvph"),
        *(r"veneu\w*", r"veineu\w*"),  # French
        *(r"venn\w*", r"zyln\w*"),  # Swedish, Polish
        *(r"венозн\w*", r"портальн\w*", r"портовенозн\w*"),  # Russian
    ),
    Phase.ARTERIAL: (
        *(r"arter\w*", "art", "hap", r"angio\w*", "cta"),
        r"tetnicz\w*",  # Polish
        *(r"артериальн\w*", "арт"),  # Russian
    ),
    Phase.UNENHANCED: (
        *("unenhanced", "non ?contrast", "non ?con", "non ?enhanced", "no contrast", "without", "w o", "wo", "plain"),
        *("pre ?contrast", "ncct", "nc"),
        *(r"nativ\w*", "ohne"),  # German
        *("sans", r"non inject\w*", "avant injection"),  # French
        *("sin contraste", "sin civ", "sin iv", "en vacio", "fase basal", "fase simple", "tac simple"),  # Spanish
        *("sem contraste", "sem civ", "sem iv", "fase simples"),  # Portuguese
        *("senza", "basale", "fase diretta"),  # Italian
        "bez kontrastu",  # Polish
        *(r"нативн\w*", r"без контраст\w*", r"бе[сз]контрастн\w*", "без ку", r"до контраст\w*"),  # Russian
    ),
    Phase.OTHER: (
        *(r"delay\w*", "late", r"equilibri\w*", r"excret\w*"),
        *(r"spaet\w*", r"spat\w*", r"verzogert\w*", r"verzoegert\w*", r"ausscheidung\w*", "gleichgewicht"),  # German
        *(r"tardi\w*", r"retard\w*", r"retrasad\w*"),  # French, Spanish, Portuguese, Italian
        r"escretor\w*",  # Italian
        *(r"отсрочен\w*", r"отложен\w*", r"поздн\w*", r"экскретор\w*", r"выделительн\w*"),  # Russian
    ),
}

WORDS_WITHOUT_BLANKS: Mapping[Phase, tuple[str, ...]] = {
    Phase.VENOUS: (
        *("门静脉", "門靜脈", "门脉", "静脉期", "靜脈期"),  # Chinese
        *("門静脈", "門脈", "静脈相", "静脈期"),  # Japanese (門脈 also Chinese)
        *("문맥", "정맥기", "정맥상"),  # Korean
    ),
    Phase.ARTERIAL: (
        *("动脉期", "动脉相"),  # Chinese
        *("動脈期", "動脈相", "動脈優位相", "早期相"),  # Japanese, Chinese
        *("동맥기", "동맥상"),  # Korean
    ),
    Phase.UNENHANCED: (
        *("平扫", "平掃", "增强前", "增強前", "未增强", "未增強", "非增强", "非增強"),  # Chinese
        *("単純", "非造影", "造影前", "造影なし"),  # Japanese
        *("조영전", "조영 전", "비조영", "단순"),  # Korean
    ),
    Phase.OTHER: (
        *("延迟", "延遲", "延时", "延時", "平衡期", "排泄期", "分泌期"),  # Chinese
        *("遅延", "平衡相", "後期相", "晩期相", "排泄相"),  # Japanese
        *("지연", "평형기", "배설기"),  # Korean
    ),
}

SEVERAL_PHASES: tuple[str, ...] = (
    *(r"multi ?(ph|f)as\w*", r"[2-5] ?phas\w*", r"[2-5] ?fas(es|i|en)", r"(bi|tri|dual) ?(ph|f)as\w*"),
    *("w (and )?w ?o", "with and without", "mit und ohne", "avec et sans", "sans et avec", "con y sin", "sin y con"),
    *("com e sem", "sem e com", "con e senza", "senza e con", r"с и без\w*"),
    *(r"много ?фазн\w*", r"(двух|трех|четырех|[2-5]) ?фазн\w*"),
)
"""What tells about an examination of several phases, not about a series; whole tokens."""

SEVERAL_PHASES_WITHOUT_BLANKS: tuple[str, ...] = (
    *("多期", "双期", "雙期", "三期", "四期", "多相", "二相", "三相", "四相", "다중 ?시기", "[2-5] ?(期|相|상)(?!位)"),
)

LATE_ARTERIAL: tuple[tuple[str, str], ...] = (
    # One phase in two words, the second of which alone is another.
    (r"\b(late|spae?t|tardi\w*|поздн\w*) ?(?=art|арт)", ""),
    (r"\b(arter\w*|артериальн\w*) (late|spae?t\w*|tardi\w*|поздн\w*)\b", r"\1"),
)
LATE_ARTERIAL_WITHOUT_BLANKS = r"(动脉|動脈|동맥)(晚期|晩期|后期|後期|후기|早期|조기)相?"
"""Early and late arterial phases: what stands behind the artery is no word of its own."""

SECONDS = (
    r"(?<![a-z0-9.,])(\d{2,3}) ?(?:sec|secs|seconds|sek|sekunden|secondes?|secondi|segundos?|сек|с|秒|초)(?![a-zа-я])"
)
MINUTES = r"(?<![a-z0-9.,])(\d{1,2}) ?(?:min|mins|minutes|minuten|minuti|minutos|мин|分|분)(?![a-zа-я])"
SECONDS_SHORT = r"(?<![a-z0-9.,])(\d{2,3})s(?![a-z0-9])"
"""Without a blank only: `70s` is a time, `70 s` may be the end of anything."""
