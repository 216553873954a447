"""A table as LaTeX."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from mdm.metrics import format_heading
from mdm.tables.caption import format_title, render_caption
from mdm.tables.cells import CellText, find_contrasts, format_size, list_comparison_heads, list_heads, render_cell, render_contrast
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


def escape_latex(text: str) -> str:
    return "".join(SYMBOLS.get(character, character) for character in text)


def render_latex(sheet: Sheet) -> str:
    """A float that needs booktabs and amssymb: one tabular a data set, and one of its comparisons."""
    parts = [
        "% \\usepackage{booktabs,amssymb}",
        "\\begin{table*}",
        "\\centering\\small",
        f"\\caption{{{escape_latex(sheet.declared.title)}}}",
    ]
    for block in sheet.blocks:
        rows = []
        for line in block.lines:
            cells = [render_cell(line, column, sheet.statistic) for column in block.columns]
            label = f"\\textit{{{escape_latex(line.row.label)}}}" if not line.runs else escape_latex(line.row.label)
            rows.append(
                [
                    label + format_marks(line.marks),
                    escape_latex(format_size(line)),
                    *(render_latex_cell(cell, paper=False) for cell in cells),
                ]
            )
            if any(cell.paper for cell in cells):
                rows.append([r"\quad paper", "", *(render_latex_cell(cell, paper=True) for cell in cells)])
        parts += [
            f"\\par\\medskip\\textbf{{{escape_latex(format_title(block))}}}\\par\\smallskip",
            render_tabular(map(escape_latex, list_heads(block)), rows),
        ]
        against = find_contrasts(block)
        if against:
            words = [render_contrast(line, block.primary, sheet.statistic, sheet.family) for line in against]
            rows = [list(map(escape_latex, row)) for row in words]
            title = f"Against the baseline, {format_heading(block.primary.metric)}"
            parts += [
                f"\\par\\smallskip {escape_latex(title)}\\par\\smallskip",
                render_tabular(map(escape_latex, list_comparison_heads(sheet.statistic)), rows),
            ]
    parts.append("\\par\\medskip\\begin{minipage}{\\textwidth}\\footnotesize")
    parts += [f"{escape_latex(sentence)}\\par" for sentence in render_caption(sheet)]
    parts += [f"{format_marks([i])}{escape_latex(text)}\\par" for i, text in enumerate(sheet.footnotes, 1)]
    return "\n".join([*parts, "\\end{minipage}", "\\end{table*}"]) + "\n"


def render_latex_cell(cell: CellText, paper: bool) -> str:
    if paper:
        return escape_latex(cell.paper) + (format_marks(cell.marks) if cell.paper else "")
    ours = f"\\textbf{{{escape_latex(cell.ours)}}}" if cell.best else escape_latex(cell.ours)
    return ours + escape_latex(cell.star) + ("" if cell.paper else format_marks(cell.marks))


def format_marks(marks: Sequence[int]) -> str:
    return f"$^{{{','.join(map(str, marks))}}}$" if marks else ""


def render_tabular(head: Iterable[str], rows: Sequence[Sequence[str]]) -> str:
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
