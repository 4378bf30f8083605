"""The 200 strings by which two tokenizers are compared: what separates families, and versions within a family.

Words, numbers, code, spaces, scripts and signs, each as tokenizers split them differently, and the special tokens.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from itertools import product

COUNT = 200

_WORDS = (
    "the of and to in is that it was for router token language model threshold answer question because although "
    "Straße naïve coöperate São Paulo Zürich Kraków Москва Αθήνα القاهرة ירושלים दिल्ली กรุงเทพ 東京 北京 서울 Hà Nội "
    "antidisestablishmentarianism pneumonoultramicroscopicsilicovolcanoconiosis"
)
_SIGNS = (
    "( ) [ ] { } < > </s> <s> == != <= >= -> => :: ... — … “quoted” ‘single’ © ™ € ½ ² π ∑ √ ≤ 😀 🇧🇷 "
    "👩\u200d👩\u200d👧 \ufeff ﬁ ＡＢ１２ \u0301e e\u0301"
)
_NUMBERS = "0 7 42 100 365 1234 12345 1000000 3.14159 1,234,567 0x7f 1e-9 2026-11-26 23:59 50% $19.99 №5 ١٢٣ ４２"
_CODE = [
    "def f(x):\n    return x\n",
    "for (int i = 0; i < n; i++) {\n\tsum += a[i];\n}",
    "SELECT * FROM t WHERE a = 'b';",
    '<div class="a">&nbsp;</div>',
    "\\frac{a}{b} + \\sqrt{2}",
    "import numpy as np\n\n\nx = np.zeros((3, 4))",
    "if __name__ == '__main__':",
    '{"key": [1, 2.5, null, true]}',
    "https://example.org/a?b=c&d=%20#e",
    "C:\\Users\\name\\file.txt",
    "user@example.org",
    "snake_case camelCase PascalCase SCREAMING_CASE kebab-case",
    "don't we'll I'm they've it's JOHN'S",
    "#### 42",
    "a\r\nb\rc",
]
_SPACES = [" ", "  ", "    ", "\t", "\n", "\n\n", " \n", "\n ", "\t\t", "\u00a0", "\u3000", " " * 17, "a  b", "a \n b"]


def probe_strings(special: Sequence[str]) -> list[str]:
    """The strings, each once, with as many special tokens as there is room for.

    In normal form C (Unicode, annex 15): a server may bring text into it first (vLLM does for every Qwen2), but it is
    asked with ids, so what matters is that the same text has the same ids.
    """
    words = f"{_WORDS} {_SIGNS} {_NUMBERS}".split(" ")
    spaced = [before + word for before, word in product((" ", "\n", "x"), words)]
    strings = [*special[:20], *words, *_CODE, *_SPACES, *spaced]
    return list(dict.fromkeys(unicodedata.normalize("NFC", text) for text in strings))[:COUNT]
