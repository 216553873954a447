"""Text as LaTeX reads it."""

from __future__ import annotations

import re

GREEK = {
    **{
        "α": "alpha",
        "β": "beta",
        "γ": "gamma",
        "δ": "delta",
        "ε": "varepsilon",
        "ζ": "zeta",
        "η": "eta",
        "θ": "theta",
        "ι": "iota",
    },
    **{
        "κ": "kappa",
        "λ": "lambda",
        "μ": "mu",
        "ν": "nu",
        "ξ": "xi",
        "π": "pi",
        "ρ": "rho",
        "σ": "sigma",
        "τ": "tau",
        "υ": "upsilon",
    },
    **{"φ": "varphi", "χ": "chi", "ψ": "psi", "ω": "omega", "Γ": "Gamma", "Δ": "Delta", "Θ": "Theta", "Λ": "Lambda", "Ξ": "Xi"},
    **{"Π": "Pi", "Σ": "Sigma", "Φ": "Phi", "Ψ": "Psi", "Ω": "Omega"},
}
SYMBOLS = {
    **{"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "|": r"\textbar{}"},
    **{"<": "$<$", ">": "$>$", "±": r"$\pm$", "−": "$-$", "≥": r"$\geq$", "≤": r"$\leq$", "×": r"$\times$", "→": r"$\rightarrow$"},
    **{
        "★": r"$^{\star}$",
        "☆": r"$^{\circ}$",
        "†": r"$^{\dagger}$",
        "‡": r"$^{\ddagger}$",
        "§": r"\S{}",
        "◊": r"$\lozenge$",
        "·": r"$\cdot$",
    },
    **{"–": "--", "—": "---", "…": r"\ldots{}", "’": "'", "∞": r"$\infty$", "²": "$^2$", "½": r"$\frac12$", "∪": r"$\cup$"},
    **{c: f"\\{c}" for c in "&%$#_{}"},
    **{letter: f"$\\{name}$" for letter, name in GREEK.items()},
}
"""What LaTeX reads otherwise, or its usual fonts lack."""


INDEXED = re.compile(r"(?<![^\W_])([^\W\d_])_([^\W_]+)")
"""A letter with an index: L_kl, T_θ; not acc2_pos."""


def escape_latex(text: str) -> str:
    r"""Text that LaTeX sets as it stands here; a letter with an index is mathematics.

    >>> print(escape_latex("+ L_kl, 50 % of acc2_pos"))
    + $L_{kl}$, 50 \% of acc2\_pos
    """
    parts, at = [], 0
    for found in INDEXED.finditer(text):
        parts += [escape_characters(text[at : found.start()]), f"${set_math(found[1])}_{{{set_math(found[2])}}}$"]
        at = found.end()
    return "".join([*parts, escape_characters(text[at:])])


def escape_characters(text: str) -> str:
    return "".join(SYMBOLS.get(character, character) for character in text)


def set_math(text: str) -> str:
    return "".join(f"\\{GREEK[letter]} " if letter in GREEK else letter for letter in text).strip()
