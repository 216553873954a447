"""A table as LaTeX."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from mdm.metrics import heading
from mdm.tables.caption import caption, where
from mdm.tables.cells import Shown, comparison_heads, contrast_cells, contrasted, heads, shown, size
from mdm.tables.numbers import Sheet

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


def escaped(text: str) -> str:
    return "".join(SYMBOLS.get(character, character) for character in text)


def latex(sheet: Sheet) -> str:
    """A float that needs booktabs and amssymb: one tabular a data set, and one of its comparisons."""
    parts = [
        "% \\usepackage{booktabs,amssymb}",
        "\\begin{table*}",
        "\\centering\\small",
        f"\\caption{{{escaped(sheet.declared.title)}}}",
    ]
    for block in sheet.blocks:
        rows = []
        for line in block.lines:
            cells = [shown(line, column, sheet.statistic) for column in block.columns]
            label = f"\\textit{{{escaped(line.row.label)}}}" if not line.runs else escaped(line.row.label)
            rows.append([label + raised(line.marks), escaped(size(line)), *(latex_cell(cell, paper=False) for cell in cells)])
            if any(cell.paper for cell in cells):
                rows.append([r"\quad paper", "", *(latex_cell(cell, paper=True) for cell in cells)])
        parts += [f"\\par\\medskip\\textbf{{{escaped(where(block))}}}\\par\\smallskip", tabular(map(escaped, heads(block)), rows)]
        against = contrasted(block)
        if against:
            words = [contrast_cells(line, block.primary, sheet.statistic, sheet.family) for line in against]
            rows = [list(map(escaped, row)) for row in words]
            title = f"Against the baseline, {heading(block.primary.metric)}"
            parts += [
                f"\\par\\smallskip {escaped(title)}\\par\\smallskip",
                tabular(map(escaped, comparison_heads(sheet.statistic)), rows),
            ]
    parts.append("\\par\\medskip\\begin{minipage}{\\textwidth}\\footnotesize")
    parts += [f"{escaped(sentence)}\\par" for sentence in caption(sheet)]
    parts += [f"{raised([i])}{escaped(text)}\\par" for i, text in enumerate(sheet.footnotes, 1)]
    return "\n".join([*parts, "\\end{minipage}", "\\end{table*}"]) + "\n"


def latex_cell(cell: Shown, paper: bool) -> str:
    if paper:
        return escaped(cell.paper) + (raised(cell.marks) if cell.paper else "")
    ours = f"\\textbf{{{escaped(cell.ours)}}}" if cell.best else escaped(cell.ours)
    return ours + escaped(cell.star) + ("" if cell.paper else raised(cell.marks))


def raised(marks: Sequence[int]) -> str:
    return f"$^{{{','.join(map(str, marks))}}}$" if marks else ""


def tabular(head: Iterable[str], rows: Sequence[Sequence[str]]) -> str:
    columns = list(head)
    body = [" & ".join(row) + r" \\" for row in rows]
    return "\n".join(
        [
            f"\\begin{{tabular}}{{l{'r' * (len(columns) - 1)}}}",
            "\\toprule",
            " & ".join(columns) + r" \\",
            "\\midrule",
            *body,
            "\\bottomrule",
            "\\end{tabular}",
        ]
    )
