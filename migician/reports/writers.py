"""Tables as text, Markdown, LaTeX, on a terminal and on the page; what stands in them is decided in `tables`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from migician.benchmarks.scoring.values import Value
from migician.reports.tables import Cell, Table

if TYPE_CHECKING:
    from rich.table import Table as TerminalTable


def write_text(table: Table) -> str:
    """Columns aligned with blanks."""
    lines = [list(table.columns), *([str(cell) for cell in row] for row in table.rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    left = len(table.columns) - table.numbers
    written = [
        "  ".join(
            cell.ljust(width) if place < left else cell.rjust(width)
            for place, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    ]
    rule = "-" * max(map(len, written))
    return "\n".join([table.title, rule, written[0], rule, *written[1:], rule, *table.remarks]) + "\n"


def write_markdown(table: Table) -> str:
    """As GitHub and most of Markdown's relatives read it."""
    lines = [f"**{_markdown(table.title)}**", ""]
    lines.append(_piped(table.columns))
    lines.append("|" + "---|" * (len(table.columns) - table.numbers) + "---:|" * table.numbers)
    lines += [_piped([str(cell) for cell in row]) for row in table.rows]
    if table.remarks:
        lines += ["", *(f"- {_markdown(remark)}" for remark in table.remarks)]
    return "\n".join(lines) + "\n"


def write_latex(table: Table) -> str:
    r"""A `table` that needs `\usepackage{booktabs}`."""
    columns = "l" * (len(table.columns) - table.numbers) + "r" * table.numbers
    lines = [
        r"\begin{table}[t]",
        r"\centering\small",
        rf"\caption{{{_latex(table.title)}.}}",
        rf"\begin{{tabular}}{{{columns}}}",
        r"\toprule",
        " & ".join(map(_latex, table.columns)) + r" \\",
        r"\midrule",
        *(" & ".join(map(_latex_cell, row)) + r" \\" for row in table.rows),
        r"\bottomrule",
        r"\end{tabular}",
    ]
    if table.remarks:
        lines += [r"\par\smallskip\raggedright\footnotesize", "\\\\\n".join(map(_latex, table.remarks))]
    return "\n".join([*lines, r"\end{table}"]) + "\n"


def for_terminal(table: Table) -> TerminalTable:
    """As a terminal shows it: the remarks below the title, averages bold."""
    from rich import box
    from rich.table import Table as TerminalTable

    result = TerminalTable(
        title="\n".join([table.title, *table.remarks]),
        title_justify="left",
        box=box.SIMPLE_HEAD if table.ruled else None,
        header_style="bold",
        pad_edge=False,
    )
    left = len(table.columns) - table.numbers
    for place, name in enumerate(table.columns):
        result.add_column(name, justify="right" if place >= left or name == "n" else "left")
    for place, row in enumerate(table.rows):
        if table.grouped and place and row[0]:
            result.add_section()
        result.add_row(*map(str, row), style="bold" if place >= len(table.rows) - table.averages else None)
    return result


def for_page(table: Table) -> dict[str, Any]:
    """As the page has it; see `assets/overview.js`."""
    return {
        "title": table.title,
        "columns": list(table.columns),
        "numbers": table.numbers,
        "rows": [[value_for_page(cell) if isinstance(cell, Value) else cell for cell in row] for row in table.rows],
        "remarks": list(table.remarks),
    }


def value_for_page(value: Value) -> dict[str, Any]:
    """A figure as the page has it: where it is drawn, the ends of its interval too, and the texts it is shown as."""
    return {"at": [value.value, *(value.span or ())], "text": value.text, "interval": value.interval}


WRITERS: dict[str, Callable[[Table], str]] = {"text": write_text, "markdown": write_markdown, "latex": write_latex}
"""Format by the name that `--format` takes."""


def _piped(cells: Sequence[str]) -> str:
    return "| " + " | ".join(map(_markdown, cells)) + " |"


def _markdown(text: str) -> str:
    return "".join("\\" + sign if sign in "\\`*_[]<|" else sign for sign in text)


def _latex_cell(cell: Cell) -> str:
    if isinstance(cell, str):
        return _latex(cell)
    return cell.text + (rf" {{\scriptsize ({'--'.join(cell.ends)})}}" if cell.span else "")


_LATEX = {
    **{sign: f"\\{sign}" for sign in "&%$#_{}"},
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
}


def _latex(text: str) -> str:
    return "".join(_LATEX.get(sign, sign) for sign in text)
