r"""A table as LaTeX: floats of results and floats of comparisons, one and one for each data set.

They are `table*`, so as wide as the text in one column or in two, and no wider than ``WIDTH``, the text of `article` in one column:
columns that do not fit go into another tabular below, and tabulars that do not fit a page into another float.

A number stands in an `S` column of siunitx, so that decimal points are aligned; its deviation, marks and star stand left-aligned
beside it. What a verdict says in words is a note under its tabular.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Literal, get_args

from mdm.metrics import format_heading
from mdm.tables.caption import explain_cells, format_title, render_caption
from mdm.tables.cells import CellText, find_contrasts, format_size, list_comparison_heads, list_heads, render_cell, render_contrast
from mdm.tables.escapes import escape_latex
from mdm.tables.numbers import Block, Line, Sheet
from mdm.tables.stars import explain_stars

Part = Literal["results", "tests", "both"]
WIDTH = 340
"""Points; the text of `article` has 345 in one column, and 469 in two."""
CHARACTER = 4.3
"""Points that a character takes in footnotesize: a digit has 4.25."""
LABELS = 110
"""Points; longer labels of rows are broken."""
LINES = 44
"""Lines of tabulars in a float."""
NUMBER = re.compile(r"([−+-]?)(\d+)(?:\.(\d+))?")
PREAMBLE = "% \\usepackage{booktabs,siunitx,amssymb}"


@dataclass(frozen=True)
class Cells:
    """A column under its head, one cell a row: a number that is aligned or other text, and what stands beside it."""

    head: str
    numbers: tuple[str, ...]
    beside: tuple[str, ...] = ()
    bold: tuple[bool, ...] = ()

    @property
    def width(self) -> float:
        """Points that the column takes, by its longest texts."""
        longest = max((measure(text) for text in self.numbers), default=0) + max((measure(text) for text in self.beside), default=0)
        return max(measure(self.head), longest) * CHARACTER + (9 if self.beside else 6)

    @property
    def format(self) -> str:
        """The columns of a tabular's preamble."""
        parts = [found for text in self.numbers if (found := NUMBER.fullmatch(text))]
        if not parts:
            return "r" + "@{\\,}l" * bool(self.beside)
        sign = "-" if any(part[1] for part in parts) else ""
        digits, decimals = max(len(part[2]) for part in parts), max(len(part[3] or "") for part in parts)
        return f"S[table-format={sign}{digits}.{decimals}]" + "@{\\,}l" * bool(self.beside)

    def render_head(self) -> str:
        return f"\\multicolumn{{{1 + bool(self.beside)}}}{{c}}{{{escape_latex(self.head)}}}"

    def render(self, row: int) -> str:
        text = self.numbers[row]
        found = NUMBER.fullmatch(text)
        number = text.replace("−", "-") if found else f"{{{escape_latex(text)}}}"
        if self.bold and self.bold[row]:
            number = f"\\bfseries {number}"
        return number + (f" & {self.beside[row]}" if self.beside else "")


def measure(text: str) -> float:
    """Characters that are set, as far as they can be counted in LaTeX; a capital is half as wide again as a digit.

    >>> measure("90 %"), measure("MMIM"), measure(r"$\\pm$ 1.1")
    (4.0, 6.0, 4.0)
    """
    plain = re.sub(r"\\[a-zA-Z]+ ?|[${}^\\]", "", text)
    return len(plain) + sum(character.isupper() for character in plain) / 2


def take_part(arguments: Sequence[str]) -> tuple[list[str], Part]:
    """A command line without ``--part``, and which floats it asks for.

    Raises ValueError for a part that there is not.

    >>> take_part(["experiment=mdm/table1", "--part", "tests"])
    (['experiment=mdm/table1'], 'tests')
    """
    rest, part, given = list[str](), "both", iter(arguments)
    for argument in given:
        if argument == "--part":
            part = next(given, "nothing")
        elif argument.startswith("--part="):
            part = argument.removeprefix("--part=")
        else:
            rest.append(argument)
    for known in get_args(Part):
        if part == known:
            return rest, known
    raise ValueError(f"--part is results, tests or both, got {part}; correct it.")


def render_latex(sheet: Sheet, part: Part = "both") -> str:
    """Floats, and below those of the results what else there is to say of them, as a paragraph."""
    texts = [PREAMBLE]
    if part != "tests":
        for block in sheet.blocks:
            texts += render_results(sheet, block)
        texts.append(render_remarks(sheet))
    if part != "results":
        for block in filter(find_contrasts, sheet.blocks):
            texts += render_tests(sheet, block)
        if sheet.family:
            texts.append(render_paragraph(sheet, "-tests", explain_stars(sheet)))
    return "\n".join(texts) + "\n"


def render_results(sheet: Sheet, block: Block) -> Iterator[str]:
    """The floats of a data set's cells: ours with its deviation, below it what the paper prints and how far ours is from it."""
    labels, ours = list[str](), list[tuple[Line, bool]]()
    for line in block.lines:
        label = escape_latex(line.row.label)
        labels.append((label if line.runs else f"\\textit{{{label}}}") + format_marks(line.marks))
        ours.append((line, True))
        if line.runs and any(render_cell(line, column, sheet.statistic).paper for column in block.columns):
            labels.append("\\quad paper")
            ours.append((line, False))
    heads = list_heads(block)
    columns = [Cells("n", tuple(format_size(line) if own else "" for line, own in ours))]
    for head, column in zip(heads[2:], block.columns, strict=True):
        cells = [(render_cell(line, column, sheet.statistic), own) for line, own in ours]
        pairs = [split_cell(cell, own) for cell, own in cells]
        bold = tuple(cell.best and own for cell, own in cells)
        columns.append(Cells(head, tuple(pair[0] for pair in pairs), tuple(pair[1] for pair in pairs), bold))
    title = f"{sheet.declared.title}. {format_title(block)}"
    return render_floats(title, name_label(sheet, block), list(render_tabulars(labels, columns)), [explain_cells(block.lines)])


def split_cell(cell: CellText, own: bool) -> tuple[str, str]:
    """The number of a cell's upper or lower line, and what stands beside it."""
    number, _, beside = (cell.ours if own else cell.paper).partition(" ")
    found = re.match(NUMBER.pattern, number)
    if found and found.end() < len(number):  # † or ‡ behind it
        number, beside = number[: found.end()], f"{number[found.end() :]} {beside}"
    marked = own != bool(cell.paper)
    text = escape_latex(beside.strip()) + (escape_latex(cell.star) if own else "")
    return number, text + (format_marks(cell.marks) if marked else "")


def render_remarks(sheet: Sheet) -> str:
    """The footnotes, and all sentences of the caption that stand neither in the floats nor under those of comparisons."""
    lines = [line for block in sheet.blocks for line in block.lines]
    there = {explain_cells(lines), *explain_stars(sheet)}
    said = [sentence for sentence in render_caption(sheet) if sentence not in there]
    return render_paragraph(sheet, "", [*said, *(f"[{i}] {text}." for i, text in enumerate(sheet.footnotes, 1))])


def render_paragraph(sheet: Sheet, suffix: str, said: Sequence[str]) -> str:
    """What is to be said of the tables of all data sets; a paragraph, since a float cannot be longer than its page."""
    names = ", ".join(
        f"\\ref{{{name_label(sheet, block)}{suffix}}}" for block in sheet.blocks if not suffix or find_contrasts(block)
    )
    text = " ".join(map(escape_latex, said))
    return f"\\par\\medskip\\noindent{{\\footnotesize\\sloppy Table {names}: {text}\\par}}\\medskip"


def render_tests(sheet: Sheet, block: Block) -> Iterator[str]:
    """The floats of a data set's comparisons, grouped by what they are against."""
    against = find_contrasts(block)
    heads = list_comparison_heads(sheet.statistic)
    words = [render_contrast(line, block.primary, sheet.statistic, sheet.family) for line in against]
    notes: dict[str, str] = {}
    for row in words:
        star, _, more = row[-1].partition("; ") if row[-1].startswith(sheet.statistic.star) else ("", "", row[-1])
        marks = [notes.setdefault(text, f"({chr(ord('a') + len(notes))})") for text in filter(None, more.split("; "))]
        row[-1] = " ".join(filter(None, [star, *marks]))
    labels, places = list[str](), list[int | None]()
    for name, group in groupby(range(len(words)), lambda i: words[i][1]):
        labels.append(f"\\textit{{against {escape_latex(name)}}}")
        places.append(None)
        for i in group:
            labels.append(escape_latex(words[i][0]))
            places.append(i)
    columns = [
        Cells(head, tuple("" if i is None else words[i][at] for i in places)) for at, head in enumerate(heads) if at not in (0, 1)
    ]
    title = f"{sheet.declared.title}. {format_title(block)}, {format_heading(block.primary.metric)} against the baseline"
    said = [f"{mark} {text}." for text, mark in notes.items()]
    return render_floats(title, f"{name_label(sheet, block)}-tests", list(render_tabulars(labels, columns)), said)


def name_label(sheet: Sheet, block: Block) -> str:
    """``tab:mdm-table1``; with several data sets each has its own name behind it."""
    name = sheet.name.replace("/", "-")
    return f"tab:{name}" if len(sheet.blocks) == 1 else f"tab:{name}-{block.data.replace('_', '-')}"


def render_tabulars(labels: Sequence[str], columns: Sequence[Cells]) -> Iterator[tuple[str, int]]:
    """Tabulars with their counts of lines, each of as many columns as fit beside the labels of rows."""
    first = min(LABELS, max(measure(label) for label in labels) * CHARACTER + 8)
    for group in split_columns(columns, WIDTH - first):
        preamble = f"@{{}}>{{\\raggedright\\arraybackslash}}p{{{first:.0f}pt}}{''.join(column.format for column in group)}@{{}}"
        head = " & ".join(["", *(column.render_head() for column in group)])
        body = [" & ".join([label, *(column.render(i) for column in group)]) for i, label in enumerate(labels)]
        rows = [f"{line} \\\\" for line in body]
        lines = len(rows) + sum(measure(label) * CHARACTER > LABELS for label in labels)
        yield (
            "\n".join(
                [
                    f"\\begin{{tabular}}{{{preamble}}}",
                    "\\toprule",
                    f"{head} \\\\",
                    "\\midrule",
                    *rows,
                    "\\bottomrule",
                    "\\end{tabular}",
                ]
            ),
            lines + 3,
        )


def split_columns(columns: Sequence[Cells], width: float) -> list[list[Cells]]:
    """Columns in order, in as few groups as have no more than this width; a column that is wider stands alone."""
    groups: list[list[Cells]] = []
    left = 0.0
    for column in columns:
        if not groups or column.width > left:
            groups.append([])
            left = width
        groups[-1].append(column)
        left -= column.width
    return groups


def render_floats(title: str, label: str, tabulars: Sequence[tuple[str, int]], notes: Sequence[str]) -> Iterator[str]:
    """Floats of tabulars, no more than a page holds in each; the notes are under the last, the label is the first's."""
    groups: list[list[str]] = []
    left = 0
    for text, lines in tabulars:
        if not groups or lines > left:
            groups.append([])
            left = LINES
        groups[-1].append(text)
        left -= lines
    for i, group in enumerate(groups):
        caption = f"\\caption{{{escape_latex(title)}{' (continued)' if i else ''}}}" + ("" if i else f"\\label{{{label}}}")
        parts = [
            "\\begin{table*}",
            "\\centering\\footnotesize\\setlength{\\tabcolsep}{3pt}",
            caption,
            "\\par\\medskip\n".join(group),
        ]
        if i == len(groups) - 1 and notes:
            text = "\n".join(f"{escape_latex(note)}\\par" for note in notes)
            parts.append(f"\\par\\medskip\\begin{{minipage}}{{\\linewidth}}\\scriptsize\\sloppy\n{text}\n\\end{{minipage}}")
        yield "\n".join([*parts, "\\end{table*}"])


def format_marks(marks: Sequence[int]) -> str:
    return f"$^{{{','.join(map(str, marks))}}}$" if marks else ""
